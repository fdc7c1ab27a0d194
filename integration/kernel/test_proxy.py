"""The proxy: every fault does what it says, counts that it did, and is over when it is healed."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from queuekit_integration.faults import Proxy


class Tally(socketserver.StreamRequestHandler):
    """Adds what a line says and answers with the sum: what was applied is known, whatever the client was told."""

    def handle(self) -> None:
        try:
            for line in self.rfile:
                self.server.sums.append(int(line))
                self.wfile.write(b"%d\n" % sum(self.server.sums))
        except (ConnectionError, ValueError) as error:
            self.server.errors.append(error)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Tally)
        self.sums: list[int] = []
        self.errors: list[Exception] = []


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def proxy(server) -> Iterator[Proxy]:
    with Proxy(*server.server_address) as made:
        yield made


class Client:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def add(self, number: int, *, timeout: float = 10.0) -> int:
        self.send(number)
        return self.answer(timeout=timeout)

    def send(self, number: int) -> None:
        self.socket.sendall(b"%d\n" % number)

    def answer(self, *, timeout: float = 10.0) -> int:
        self.socket.settimeout(timeout)
        data = b""
        while not data.endswith(b"\n"):
            got = self.socket.recv(100)
            if not got:
                raise EOFError
            data += got
        return int(data.split()[-1])


@pytest.fixture
def clients(proxy) -> Iterator:
    made: list[Client] = []

    def connect() -> Client:
        made.append(Client(proxy.port))
        return made[-1]

    yield connect
    for client in made:
        client.socket.close()


@pytest.fixture
def client(clients) -> Client:
    return clients()


def wait(predicate) -> None:
    end = time.monotonic() + 10
    while not predicate():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.002)


def test_what_nobody_harms_passes(proxy, client):
    assert [client.add(1), client.add(2)] == [1, 3]
    assert not proxy.fired
    assert proxy.passed == {"up": 4, "down": 4}
    assert proxy.accepted == len(proxy.connections) == 1


def test_an_orderly_end_passes_in_either_direction(proxy, client):
    client.send(1)
    client.socket.shutdown(socket.SHUT_WR)
    assert client.answer() == 1
    assert client.socket.recv(10) == b""
    wait(lambda: not proxy.connections)


def test_a_lost_reply_was_applied_and_looks_like_a_reset(proxy, server, client):
    proxy.lose_reply()
    with pytest.raises(ConnectionResetError):
        client.add(5)
    assert server.sums == [5]
    assert proxy.fired == {"lose_reply": 1}


def test_a_cut_request_was_not_applied_and_looks_the_same(proxy, server, clients):
    proxy.cut_request()
    with pytest.raises(ConnectionResetError):
        clients().add(5)
    assert clients().add(1) == 1, "the first number arrived after all"
    assert server.sums == [1]
    assert proxy.fired == {"cut": 1}


def test_a_request_can_be_cut_in_its_middle(proxy, server, clients):
    proxy.cut_request(keep=2)
    with pytest.raises(ConnectionResetError):
        clients().add(12345)
    assert clients().add(1) in {1, 13}  # a server may take what came before the reset for a whole line: the last one
    assert proxy.passed["up"] >= 2


def test_a_pattern_chooses_the_request_and_skip_the_how_manieth(proxy, server, clients):
    client = clients()
    proxy.lose_reply(b"7", skip=1)
    assert [client.add(1), client.add(7), client.add(1)] == [1, 8, 9]
    with pytest.raises(ConnectionResetError):
        client.add(7)
    assert server.sums == [1, 7, 1, 7]


def test_a_pattern_is_found_across_two_packets_and_not_twice(proxy, server, clients):
    client = clients()
    proxy.lose_reply(b"4\n5", times=2)
    assert client.add(4) == 4
    with pytest.raises(ConnectionResetError):
        client.add(5)
    other = clients()
    assert [other.add(4), other.add(6), other.add(1)] == [13, 19, 20]


def test_a_reply_can_be_what_resets(proxy, clients):
    proxy.reset_on(b"13", direction="down")
    client = clients()
    assert client.add(12) == 12
    with pytest.raises(ConnectionResetError):
        client.add(1)
    assert proxy.fired == {"reset": 1}


def test_a_black_hole_is_silent_and_delivers_late(proxy, server, client):
    proxy.hold()
    client.send(5)
    with pytest.raises(TimeoutError):
        client.answer(timeout=0.2)
    assert server.sums == []
    proxy.release()
    assert client.answer() == 5
    assert proxy.fired["hold"] >= 1


@pytest.mark.parametrize("end", ["close", "reset"])
def test_what_was_held_arrives_after_its_sender_has_given_up(proxy, server, clients, end):
    client = clients()
    client.add(1)
    proxy.hold()
    client.send(5)
    wait(lambda: proxy.fired["hold"])
    if end == "reset":
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.socket.close()
    assert server.sums == [1]
    proxy.release()
    wait(lambda: server.sums == [1, 5])


def test_only_replies_can_be_held(proxy, server, client):
    proxy.hold("down")
    client.send(5)
    wait(lambda: server.sums == [5])
    with pytest.raises(TimeoutError):
        client.answer(timeout=0.2)
    proxy.heal()
    assert client.answer() == 5


def test_one_connection_can_be_held_among_others(proxy, clients):
    first, second = clients(), clients()
    first.add(1)
    second.add(1)
    proxy.hold(connection=proxy.connections[0])
    assert second.add(1) == 3
    first.send(1)
    with pytest.raises(TimeoutError):
        first.answer(timeout=0.2)
    proxy.release(connection=proxy.connections[0])
    assert first.answer() == 4


def test_latency_delays_both_ways_and_throttles_nothing(proxy, client):
    proxy.delay(0.1)
    begun = time.monotonic()
    for _ in range(20):
        client.send(1)
        time.sleep(0.005)
    while client.answer() != 20:
        pass
    assert 0.2 <= time.monotonic() - begun < 2.0, "twenty delays must overlap"
    assert proxy.fired["delay"] >= 2


def test_bandwidth_is_what_was_allowed(proxy, client):
    proxy.throttle(2000)
    begun = time.monotonic()
    client.add(int("1" + "0" * 400))
    assert time.monotonic() - begun >= 0.35
    assert proxy.fired["throttle"] >= 1


def test_one_byte_at_a_time_is_the_same_conversation(proxy, client):
    proxy.slice(1)
    assert [client.add(10**50), client.add(1)] == [10**50, 10**50 + 1]
    assert proxy.fired["slice"] >= 2


def test_refusing_ends_no_old_connection_and_takes_no_new_one(proxy, client, clients):
    client.add(1)
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        clients()
    assert client.add(1) == 2
    proxy.accept()
    assert clients().add(1) == 3


def test_all_connections_can_be_reset_while_they_wait(proxy, clients):
    many = [clients() for _ in range(5)]
    for client in many:
        client.add(1)
    assert proxy.reset_all() == 5
    for client in many:
        with pytest.raises(ConnectionResetError):
            client.answer()
    assert proxy.fired["reset_all"] == 5
    assert clients().add(1) == 6


def test_a_held_connection_can_be_reset(proxy, clients):
    client = clients()
    client.add(1)
    proxy.hold()
    client.send(1)
    wait(lambda: proxy.fired["hold"])
    assert proxy.reset_all() == 1
    with pytest.raises(ConnectionResetError):
        client.answer()


def test_a_moved_name_leads_to_the_other_server(proxy, clients):
    client = clients()
    client.add(1)
    with Server() as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.01,))
        thread.start()
        proxy.move(*other.server_address)
        with pytest.raises(ConnectionResetError):
            client.add(1)
        assert clients().add(100) == 100
        other.shutdown()
        thread.join()


def test_a_dead_server_looks_like_a_reset(server):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with Proxy("127.0.0.1", port) as proxy, pytest.raises(ConnectionResetError):
        connect_and_add(proxy.port)  # it may come as early as while connecting


def connect_and_add(port):
    client = Client(port)
    with client.socket:
        client.add(1)


def test_healing_ends_every_fault(proxy, clients):
    client = clients()
    client.add(1)
    proxy.hold()
    proxy.delay(5)
    proxy.throttle(1)
    proxy.slice(1)
    proxy.cut_request(times=100)
    proxy.refuse()
    proxy.heal()
    assert client.add(1) == 2
    assert clients().add(1) == 3


def test_closing_resets_and_closes_twice(server):
    proxy = Proxy(*server.server_address)
    client = Client(proxy.port)
    client.add(1)
    proxy.close()
    proxy.close()
    with pytest.raises(ConnectionResetError):
        client.answer()
    with pytest.raises(ConnectionRefusedError):
        Client(proxy.port)
    client.socket.close()


def test_megabytes_pass_unharmed(proxy, client):
    number = 7 * 10**3900  # int() reads 4300 digits at most
    for _ in range(200):
        client.send(number)
    while client.answer() != 200 * number:
        pass
    assert proxy.passed["up"] == 200 * 3902
