"""What no scenario can see: permissions, pools, forks, half-sent batches, and what an old server is told."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

from queuekit import Queue
from queuekit.contract import (
    AmbiguousSend,
    ConfigurationError,
    DispatchTimeout,
    Done,
    DriverRejected,
    DriverUnavailable,
    Message,
    PartialSend,
    Patience,
    PoolTimeout,
    Query,
    SystemClock,
    Wakeup,
)
from queuekit.ids import new_id
from queuekit_integration.faults import Proxy, interrupted_at_every_step
from queuekit_integration.harness import wait_until
from queuekit_redis import RedisDriver
from queuekit_redis.address import Settings
from queuekit_redis.doctor import Server, findings
from queuekit_redis.scripts import NAMES, script


def message(**fields) -> Message:
    return Message(new_id(), fields.pop("queue", "default"), "t", fields.pop("body", "{}"), **fields)


def _used(driver) -> int:
    return sum(1 for place in driver._link._places._taken if (held := place()) is not None and held.taken)


def test_a_thousand_messages_travel_in_one_round_trip_and_keep_their_order(driver_of, native):
    driver = driver_of()
    messages = [message(body=str(number)) for number in range(1000)]
    driver.send(messages[:1])
    native.config_resetstat()
    driver.send(messages[1:])
    assert native.info("commandstats")["cmdstat_eval"]["calls"] == 4
    found = driver.claim(["default"], limit=1000, lease=10)
    assert [delivery.message.body for delivery in found] == [str(number) for number in range(1000)]


def test_a_batch_that_was_cut_says_what_was_stored_and_what_cannot_be_known(server, driver_of):
    with Proxy("127.0.0.1", server.port) as proxy:
        driver = driver_of(port=proxy.port)
        driver.send([message()])
        messages = [message(body="x" * 3000) for _ in range(1000)]
        proxy.lose_reply(b"EVAL", skip=0)
        with pytest.raises((PartialSend, AmbiguousSend)) as caught:
            driver.send(messages)
        error = caught.value
        if isinstance(error, PartialSend):
            told = {*error.accepted, *error.failed, *error.unknown}
            assert told == {one.id for one in messages}
        driver.send(messages)
        assert driver.count()[0].pending == 1001, "sending again what was unknown doubled or lost something"


def test_patience_ends_before_or_after_bytes_have_left(server, driver_of):
    with Proxy("127.0.0.1", server.port) as proxy:
        driver = driver_of(port=proxy.port)
        driver.send([message()])
        with pytest.raises(DispatchTimeout):
            driver.send([message()], patience=Patience(0.0, clock=SystemClock()))
        proxy.hold()
        begin = time.monotonic()
        with pytest.raises(AmbiguousSend):
            driver.send([message()], patience=Patience(0.3, clock=SystemClock()))
        assert time.monotonic() - begin < 1.5


def test_a_connection_that_died_in_silence_costs_a_reconnect_and_no_job(server, driver_of):
    with Proxy("127.0.0.1", server.port) as proxy:
        driver = driver_of("?health_interval=0.05&socket_timeout=0.5", port=proxy.port)
        driver.send([message()])
        for connection in proxy.connections:
            proxy.hold(connection=connection)
        time.sleep(0.1)
        driver.send([message()])
        assert driver.count()[0].pending == 2


def test_more_threads_than_connections_wait_for_one_another(driver_of):
    driver = driver_of("?pool_size=2")
    threads = [threading.Thread(target=driver.send, args=([message()],)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert driver.count()[0].pending == 20
    assert driver.limits.connections == 2


def test_a_pool_that_stays_empty_is_a_passing_error(server, driver_of):
    with Proxy("127.0.0.1", server.port) as proxy:
        driver = driver_of("?pool_size=1&pool_timeout=0.2", port=proxy.port)
        proxy.hold()
        counted = []
        holder = threading.Thread(target=lambda: counted.append(driver.count()))
        holder.start()
        wait_until(lambda: _used(driver) == 1, "the only connection to be in use")
        with pytest.raises(PoolTimeout, match="pool_size") as caught:
            driver.count()
        assert caught.value.retryable
        proxy.release()
        holder.join()
        assert counted == [[]], "the call that only had to wait did not go on"


def test_wrong_credentials_end_a_worker_and_are_not_tried_for_ever(native, server):
    native.acl_setuser("app", enabled=True, passwords=["+right"], keys=["*"], categories=["+@all"])
    queue = Queue(f"redis://app:wrong@127.0.0.1:{server.port}/0")
    worker = queue.worker(concurrency=1).start()
    wait_until(lambda: worker.ended, "the worker to give up")
    with pytest.raises(DriverRejected, match="WRONGPASS") as caught:
        queue.open()
    assert "wrong@" not in str(caught.value)
    queue.close()
    native.acl_deluser("app")


LEAST = [
    "+@connection",
    "+info",
    "+config|get",
    "+time",
    "+evalsha",
    "+eval",
    "+hkeys",
    "+smembers",
    "+sadd",
    "+srem",
    "+blpop",
    "+rpush",
    "+pexpire",
    "+hget",
    "+hset",
    "+hdel",
    "+hmget",
    "+hlen",
    "+hexists",
    "+hincrby",
    "+hgetall",
    "+hvals",
    "+exists",
    "+llen",
    "+sismember",
    "+smismember",
    "+lrange",
    "+lpop",
    "+zadd",
    "+zrem",
    "+zrange",
    "+zrangebyscore",
    "+zrangebylex",
    "+zremrangebylex",
    "+zlexcount",
    "+zmscore",
]


def test_the_documented_permissions_are_enough(native, server, repository):
    """Every verb of a worker's day, by a user that may touch this namespace's keys and run these commands alone."""
    documented = (repository / "docs" / "redis.md").read_text("utf-8")
    assert " ".join(LEAST[:8]) in documented.replace("\n", " ").replace("\\ ", "")
    rules = ["reset", "on", ">secret", "~queuekit:{shop}:*", *LEAST]
    native.execute_command("ACL", "SETUSER", "least", *rules)
    queue = Queue(f"redis://least:secret@127.0.0.1:{server.port}/0", namespace="shop")

    @queue.job(name="t", retries=1, rate_limit="100/s", concurrency=("c", 2))
    def job(number: int) -> int:
        return number

    with queue.worker(concurrency=2):
        handles = [job.using(unique_key=str(n), key=str(n % 2), tags=["a"]).dispatch(n) for n in range(10)]
        assert [handle.result(20) for handle in handles] == list(range(10))
    delayed = job.using(delay=60).dispatch(11)
    queue.pause("default")
    queue.resume("default")
    delayed.cancel()
    delayed.retry()
    queue.purge("default")
    assert queue.stats().queues[0].completed == 10
    assert len(queue.jobs(state="completed")) == 10
    handles[0].delete()
    queue.prune(older_than=0)
    assert queue.doctor()
    other = Queue(f"redis://least:secret@127.0.0.1:{server.port}/0", namespace="other")
    with pytest.raises(DriverRejected, match="NOPERM"):
        other.stats()
    queue.close()
    other.close()
    native.acl_deluser("least")


def test_a_forked_child_speaks_over_connections_of_its_own(driver_of):
    driver = driver_of()
    driver.send([message(body="parent")])
    pid = os.fork()
    if pid == 0:
        driver.send([message(body="child")])
        found = driver.claim(["default"], limit=1, lease=10)
        os._exit(0 if len(found) == 1 else 1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    driver.send([message(body="parent")])
    assert len(driver.claim(["default"], limit=5, lease=10)) == 2


def test_an_idle_claim_hears_of_another_clients_job_without_polling(driver_of):
    waiting, other = driver_of("?poll_interval=30"), driver_of()
    found, begin = [], time.monotonic()

    def wait():
        found.extend(waiting.claim(["default", "second"], limit=1, lease=10, wait=20))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.3)
    other.send([message(queue="second")])
    thread.join()
    assert len(found) == 1
    assert time.monotonic() - begin < 3


def test_the_job_comes_with_the_wake_up(driver_of, native):
    waiting, other = driver_of("?poll_interval=30"), driver_of()
    other.send([message()])
    assert len(waiting.claim(["default"], limit=1, lease=10)) == 1  # the server knows the scripts
    found = []
    thread = threading.Thread(target=lambda: found.extend(waiting.claim(["default"], limit=1, lease=10, wait=20)))
    thread.start()
    wait_until(lambda: native.info("clients")["blocked_clients"] == 1, "the claim to wait")
    native.config_resetstat()
    other.send([message()])
    thread.join()
    assert len(found) == 1
    assert native.info("commandstats")["cmdstat_evalsha"]["calls"] == 2, (
        "more than the dispatch and the claim behind the wait"
    )


def test_what_is_more_than_a_plain_new_job_is_claimed_after_the_wake_up(driver_of, native):
    waiting, other = driver_of("?poll_interval=30"), driver_of()
    for sent in (message(key="k"), message(priority=9), message(delay=0.2), message()):
        found = []

        def wait(found=found):
            found.extend(waiting.claim(["default"], limit=1, lease=10, wait=20))

        thread = threading.Thread(target=wait)
        thread.start()
        wait_until(lambda: native.info("clients")["blocked_clients"] == 1, "the claim to wait")
        other.send([sent])
        thread.join()
        assert [delivery.message.id for delivery in found] == [sent.id]
        waiting.settle([Done(delivery) for delivery in found])


def test_a_paused_queue_lends_nothing_at_the_end_of_a_wait(driver_of, native):
    waiting, other = driver_of("?poll_interval=30"), driver_of()
    other.pause("default")
    found = []
    thread = threading.Thread(target=lambda: found.extend(waiting.claim(["default"], limit=1, lease=10, wait=20)))
    thread.start()
    wait_until(lambda: native.info("clients")["blocked_clients"] == 1, "the claim to wait")
    other.send([message()])
    time.sleep(0.3)
    assert found == []
    other.resume("default")
    thread.join()
    assert len(found) == 1


def test_a_raised_flag_ends_a_wait_and_leaves_no_mark(driver_of, native):
    first, other = driver_of("?poll_interval=30"), driver_of()
    flag = Wakeup()
    threading.Timer(0.2, flag.set).start()
    begin = time.monotonic()
    assert first.claim(["default"], limit=1, lease=10, wait=20, wakeup=flag) == []
    assert time.monotonic() - begin < 5
    assert native.keys(f"{first._keys.prefix}wake:!*") == []
    other.send([message()])  # the first one's connection waits no more
    assert native.llen(first._keys.bell("default")) == 1, "the mark is there for whoever comes next"


class StandsStill(SystemClock):
    """A process that does not run for a while after it was woken."""

    def wait(self, wakeup: Wakeup, timeout: float, *, beside: int | None = None) -> bool:
        woken = super().wait(wakeup, timeout, beside=beside)
        time.sleep(0.7)
        return woken


def test_what_was_lent_to_a_process_that_stood_still_is_given_back(driver_of, caplog):
    waiting, other = driver_of("?poll_interval=30"), driver_of()
    waiting._lender._bell._clock = StandsStill()
    found = []
    thread = threading.Thread(target=lambda: found.extend(waiting.claim(["default"], limit=1, lease=1, wait=20)))
    thread.start()
    time.sleep(0.3)
    other.send([message()])
    thread.join()
    assert "stood still" in caplog.text
    assert found[0].attempt == 1, "an attempt was used up"
    assert waiting.extend(found, lease=1)[0].held


def test_what_is_forgotten_at_once_leaves_no_key_that_grows(driver_of, native):
    driver = driver_of()
    for _ in range(20):
        driver.send([message(retain=0.0) for _ in range(500)])
        found = driver.claim(["default"], limit=500, lease=10)
        assert driver.settle([Done(delivery) for delivery in found]) == ["applied"] * 500
    keys = native.keys(f"{driver._keys.prefix}*")
    assert {key.decode().rpartition("}:")[2] for key in keys} <= {"meta", "wake:default"}


def test_jobs_that_cost_more_travel_in_smaller_scripts(driver_of, native):
    driver = driver_of()
    driver.send([message(key="k")])
    native.config_resetstat()
    driver.send([message(key=str(n % 50), tags=("a",)) for n in range(500)])
    assert native.info("commandstats")["cmdstat_eval"]["calls"] == 10


def test_a_given_client_is_used_with_its_own_settings(server):
    client = redis.Redis(port=server.port, decode_responses=True, protocol=3)
    driver = RedisDriver(client=client, namespace="given")
    driver.open()
    driver.send([message()])
    [delivery] = driver.claim(["default"], limit=1, lease=10)
    assert driver.settle([Done(delivery)]) == ["applied"]
    assert driver.native() is client
    driver.close()
    client.close()


@pytest.mark.parametrize(
    ("info", "too_old"),
    [
        ({"redis_version": "6.0.16"}, True),
        ({"redis_version": "6.2.0"}, False),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.0"}, False),
    ],
)
def test_an_old_server_is_told_so(info, too_old):
    text = "\r\n".join(f"{name}:{value}" for name, value in info.items()).encode()
    server = Server.ask(lambda *words: text if words[0] == "INFO" else [])
    assert server.too_old is too_old
    assert (findings(server)[0].level == "error") is too_old


def test_a_claim_that_takes_nothing_back_sleeps_beside_leases_that_ran_out(driver_of, native):
    driver = driver_of()
    driver.send([message()])
    assert driver.claim(["default"], limit=1, lease=0.05)
    time.sleep(0.1)
    native.config_resetstat()
    assert driver.claim(["default"], limit=1, lease=1, recover=False, wait=0.5) == []
    calls = native.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert calls <= 5, "after an outage each idle worker would look without a pause for as long as a lease"


@pytest.mark.parametrize("several", [False, True])
def test_an_interrupted_dispatch_leaves_its_answer_to_nobody(driver_of, native, monkeypatch, several):
    """As when Ctrl-C, or the timeout of the handler that dispatches, comes between a request and its answer."""
    driver = driver_of("?pool_size=1")
    first = message()
    driver.send([first])
    native.execute_command("CLIENT", "PAUSE", 500)
    real = redis.connection.Connection.read_response

    def interrupted(self, *arguments, **options):
        monkeypatch.setattr(redis.connection.Connection, "read_response", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(redis.connection.Connection, "read_response", interrupted)
    with pytest.raises(KeyboardInterrupt):
        driver.send([message() for _ in range(300 if several else 1)])
    [record] = driver.get([first.id])
    assert record.id == first.id


def test_a_batch_keeps_its_order_while_the_server_forgets_and_learns_its_script(driver_of, native):
    """Somebody empties the server's scripts, and another client brings them back between two parts of a batch."""
    driver = driver_of()
    driver.send([message() for _ in range(300)])
    driver.purge("default")
    texts = [str(number) for number in range(1000)]
    sent = []
    with driver._link._take(None) as connection:
        real = connection.send_packed_command

        def send_packed_command(packed, **options):
            if len(sent) == 2:
                native.script_load(script("send_plain").text)
            sent.append(packed)
            real(packed, **options)
            native.ping()  # what was sent has been run by now
            time.sleep(0.02)

        connection.send_packed_command = send_packed_command
    native.script_flush()
    driver.send([message(body=text) for text in texts])
    assert len(sent) >= 4
    found = driver.claim(["default"], limit=1000, lease=10)
    assert [delivery.message.body for delivery in found] == texts


@pytest.mark.parametrize("kind", ["single", "sentinel", "cluster"])
def test_a_given_client_that_would_wait_for_ever_is_bounded_or_refused(server, kind):
    with Proxy("127.0.0.1", server.port) as proxy:
        if kind == "single":
            client = redis.Redis(port=proxy.port, socket_timeout=None, socket_connect_timeout=None)
            driver = RedisDriver(client=client, namespace="endless", settings=Settings(socket_timeout=0.5))
            driver.open()
            proxy.hold()
            begin = time.monotonic()
            with pytest.raises(AmbiguousSend):
                driver.send([message()])
            with pytest.raises(DriverUnavailable):
                driver.claim(["default"], limit=1, lease=10)
            assert time.monotonic() - begin < 5
            proxy.heal()
            driver.close()
            client.close()
            return
        if kind == "sentinel":
            client = redis.sentinel.Sentinel([("127.0.0.1", 1)], sentinel_kwargs={"socket_timeout": None}).master_for(
                "m"
            )
        else:
            client = redis.cluster.RedisCluster.__new__(redis.cluster.RedisCluster)
            client.nodes_manager = SimpleNamespace(connection_kwargs={"socket_timeout": None})
            client.close = lambda: None
        with pytest.raises(ConfigurationError, match=r"without socket_timeout is refused.*give it, in seconds"):
            RedisDriver(client=client, namespace="endless")


def test_a_clients_own_time_limit_holds_again_after_a_dispatch_with_a_timeout(server):
    client = redis.Redis(port=server.port, socket_timeout=7.5)
    driver = RedisDriver(client=client, namespace="limit")
    driver.send([message()], patience=Patience(1.0, clock=SystemClock()))
    with driver._link._take(None) as connection:
        assert connection._sock.gettimeout() == 7.5
    driver.close()
    client.close()


def test_no_interruption_at_any_step_loses_a_place_or_leaves_an_answer_to_the_next_user(driver_of):
    """Ctrl-C, or the timeout of the handler that dispatches, at each step of the driver's own code and of what it uses to count."""
    driver = driver_of("?pool_size=1&pool_timeout=0.5")
    first = message()
    driver.send([first])
    calls = [
        lambda: driver.send([message()]),
        lambda: driver.send([message()], patience=Patience(5.0, clock=SystemClock())),
        lambda: driver.get([first.id]),
    ]
    for call in calls:
        for _ in interrupted_at_every_step(call, ["queuekit_redis/link.py", "queuekit/places.py"]):
            [record] = driver.get([first.id])
            assert record.id == first.id


def test_an_open_driver_reads_no_file(driver_of, monkeypatch):
    """A process that has run out of file descriptors still settles, retries and cancels what it holds."""
    script.cache_clear()
    driver = driver_of()

    def refuse(path, *_arguments, **_options):
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    for name in NAMES:
        assert script(name).text
    driver.send([message()])
    [delivery] = driver.claim(["default"], limit=1, lease=10)
    assert driver.settle([Done(delivery)]) == ["applied"]


def test_pages_follow_one_another_and_a_foreign_cursor_is_refused(driver_of):
    driver = driver_of()
    ids = [new_id() for _ in range(3)]
    driver.send([Message(id, "default", "t", "{}") for id in ids])
    first = driver.browse(Query(limit=2))
    assert [record.id for record in (*first.records, *driver.browse(Query(after=first.next)).records)] == ids
    with pytest.raises(ConfigurationError, match=r"after='garbage'"):
        driver.browse(Query(after="garbage"))
