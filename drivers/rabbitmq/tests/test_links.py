"""The connections of one process, and of a child that was forked from it."""

from __future__ import annotations

import os
import signal
import threading

from queuekit.contract import DriverError
from queuekit_integration.servers import free_port
from queuekit_rabbitmq.links import Links
from queuekit_rabbitmq.settings import Settings
from queuekit_rabbitmq.topology import Names


def test_a_child_that_is_forked_while_another_thread_connects_has_a_lock_of_its_own() -> None:
    links = Links(Settings(hosts=(("127.0.0.1", free_port()),)), Names("t"))
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with links._lock:
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(5)
    child = os.fork()
    if not child:
        signal.alarm(5)
        try:
            links.publishing()
        except DriverError:
            os._exit(0)
        os._exit(1)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "it waited for a thread that its parent alone has"
    links.close()
