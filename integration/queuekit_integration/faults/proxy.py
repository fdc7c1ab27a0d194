"""A TCP proxy that harms what passes through it, and counts the harm.

One thread with one event loop carries every connection: closing a socket from another thread than the one that reads it
would send no reset. Each control method takes effect before it returns, from any thread. What no proxy in user space can do is to drop
single packets: a connection that is opened while everything is held succeeds (the kernel answers) and then stays silent.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar

__all__ = ["Direction", "Proxy"]

T = TypeVar("T")
Direction: TypeAlias = Literal["up", "down"]
"""up: from the client to the server. down: from the server to the client."""
CHUNK = 65_536
TAIL = 256
"""Bytes of the earlier chunk in which a pattern may begin."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: closing sends a reset instead of an orderly end."""


@dataclass
class Rule:
    """What happens to the next requests or replies that match."""

    action: Literal["lose_reply", "cut", "reset"]
    direction: Direction
    pattern: re.Pattern[bytes]
    skip: int
    """Matches to let pass first."""
    times: int
    keep: int = 0

    def hits(self, tail: bytes, data: bytes) -> bool:
        """Ask whether it hits what now comes along, and count that; a match may begin in what came before."""
        found = self.times > 0 and any(m.end() > len(tail) for m in self.pattern.finditer(tail + data))
        if found and self.skip:
            self.skip -= 1
            return False
        self.times -= found
        return found


@dataclass
class State:
    """What lasts until it is undone."""

    delay: float = 0.0
    rate: float | None = None
    slice: int = CHUNK
    held: set[Direction] = field(default_factory=set)
    rules: list[Rule] = field(default_factory=list)


class Lost(Exception):  # noqa: N818 - not an error: the connection shall end here
    """A rule wants this connection reset; `kept` may still pass."""

    def __init__(self, kept: bytes = b"") -> None:
        super().__init__()
        self.kept = kept


class Pump:
    """One direction of a connection: reads here, writes there."""

    def __init__(self, pair: Pair, direction: Direction, source: socket.socket, target: socket.socket) -> None:
        self._pair = pair
        self._proxy = pair.proxy
        self._direction: Direction = direction
        self._source = source
        self._target = target
        self._tail = b""
        self._line: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(maxsize=1000)
        """What is on its way, and when it arrives; empty: an orderly end; None: a reset."""

    async def read(self) -> None:
        """Take what comes, apply the rules to it, and send it on its way; an end waits for what came before it."""
        try:
            while data := await self._proxy.loop.sock_recv(self._source, CHUNK):
                await self._pair.passable(self._direction)
                await self._put(self._pair.judge(self._direction, self._tail, data))
                self._tail = (self._tail + data)[-TAIL:]
            await self._put(b"")
        except Lost as lost:
            if lost.kept:
                await self._put(lost.kept)
            await self._put(None)
        except OSError:
            await self._put(None)

    async def write(self) -> None:
        """Deliver what arrives; raises `Lost` at a reset."""
        while True:
            due, data = await self._line.get()
            await self._arrival(due)
            await self._pair.passable(self._direction)
            if data is None:
                raise Lost
            if not data:
                self._target.shutdown(socket.SHUT_WR)
                return
            await self._send(data)

    async def _put(self, data: bytes | None) -> None:
        await self._line.put((self._proxy.loop.time() + self._proxy.state.delay, data))

    async def _arrival(self, due: float) -> None:
        left = due - self._proxy.loop.time()
        if left > 0:
            self._proxy.fired["delay"] += 1
            await asyncio.sleep(left)

    async def _send(self, data: bytes) -> None:
        state = self._proxy.state
        size = state.slice if state.rate is None else max(1, min(state.slice, int(state.rate / 20)))
        if state.rate is not None:  # every byte takes its time
            self._proxy.fired["throttle"] += 1
        elif len(data) > size:
            self._proxy.fired["slice"] += 1
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            self._proxy.passed[self._direction] += len(piece)
            await self._proxy.loop.sock_sendall(self._target, piece)
            if state.rate is not None:
                await asyncio.sleep(len(piece) / state.rate)


class Pair:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, proxy: Proxy, number: int, client: socket.socket, upstream: socket.socket) -> None:
        self.proxy = proxy
        self.number = number
        self.held: set[Direction] = set()
        self._client = client
        self._upstream = upstream
        self._lose_next = False

    async def passable(self, direction: Direction) -> None:
        """Wait until neither this connection nor the proxy is held."""
        if direction in self.held | self.proxy.state.held:
            self.proxy.fired["hold"] += 1
            async with self.proxy.changed:
                await self.proxy.changed.wait_for(lambda: direction not in self.held | self.proxy.state.held)

    def judge(self, direction: Direction, tail: bytes, data: bytes) -> bytes:
        """Return what of `data`, which follows `tail`, may pass; raises `Lost` for a connection that shall end here."""
        if direction == "down" and self._lose_next:
            self.proxy.fired["lose_reply"] += 1
            raise Lost
        for rule in self.proxy.state.rules:
            if rule.direction == direction and rule.hits(tail, data):
                return self._apply(rule, data)
        return data

    def _apply(self, rule: Rule, data: bytes) -> bytes:
        if rule.action == "lose_reply":
            self._lose_next = True
            return data
        self.proxy.fired[rule.action] += 1
        raise Lost(data[: rule.keep])

    async def run(self) -> None:
        """Carry both directions until both have ended, or either is broken."""
        pumps = [
            Pump(self, "up", self._client, self._upstream),
            Pump(self, "down", self._upstream, self._client),
        ]
        tasks = [asyncio.ensure_future(work) for pump in pumps for work in (pump.read(), pump.write())]
        try:
            await asyncio.gather(*tasks)
        except (OSError, Lost):
            self.end_by_reset()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._client.close()
            self._upstream.close()

    def end_by_reset(self) -> None:
        """Let both closings send a reset, as a connection ends that was cut."""
        for end in (self._client, self._upstream):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


class Proxy:
    """Carries connections to a server, and harms them as asked. `fired` counts how often each fault hit something.

    Lasting faults end with their opposite or with `heal`; those with `times` hit that often and are over.
    """

    def __init__(self, host: str, port: int, *, listen: int = 0) -> None:
        self.state = State()
        self.fired: Counter[str] = Counter()
        """How often each fault hit: delay, throttle, slice, hold, lose_reply, cut, reset, reset_all. Who was refused is not known: nobody
        listened."""
        self.passed: Counter[str] = Counter()
        """Bytes that were carried, by direction."""
        self.accepted = 0
        """Connections so far."""
        self.port = listen
        """Where clients connect, on 127.0.0.1."""
        self._server = (host, port)
        self._pairs: dict[int, tuple[Pair, asyncio.Task[None]]] = {}
        self._listening: socket.socket | None = None
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=f"proxy-{port}", daemon=True)
        self._thread.start()
        self.changed = asyncio.Condition()
        self._call(self._listen())

    # ------------------------------------------------------------------------------------------------ lasting faults

    def hold(self, *directions: Direction, connection: int | None = None) -> None:
        """Let nothing pass (or nothing in one direction, or of one connection), without a word to either side.

        What was sent meanwhile is not lost: `release` lets it through, also after its sender has given up.
        """
        self._call(self._hold(set(directions or ("up", "down")), connection))

    def release(self, *, connection: int | None = None) -> None:
        """Let everything pass again, or what one connection holds."""
        self._call(self._release(connection))

    def delay(self, seconds: float) -> None:
        """Let everything arrive so much later, in each direction, without less of it passing."""
        self._call(self._set(delay=seconds))

    def throttle(self, bytes_per_second: float | None) -> None:
        """Let only so much pass on each connection and in each direction."""
        self._call(self._set(rate=bytes_per_second))

    def slice(self, size: int = 1) -> None:
        """Send everything in pieces of so many bytes."""
        self._call(self._set(slice=size))

    def refuse(self) -> None:
        """Refuse new connections; the old ones stay."""
        self._call(self._refuse())

    def accept(self) -> None:
        """Take connections again, on the same port."""
        self._call(self._listen())

    def move(self, host: str, port: int) -> None:
        """Carry new connections to another address, and reset the old ones: the name now means another machine."""
        self._server = (host, port)
        self.reset_all()

    # ------------------------------------------------------------------------------------------- faults that hit once

    def lose_reply(self, pattern: bytes = b"", *, skip: int = 0, times: int = 1) -> None:
        """Carry a request that matches, let the server answer, and reset the connection in place of the answer.

        The server has applied it and the client cannot know: the twin of `cut_request`, which looks the same.
        """
        self._call(self._add(Rule("lose_reply", "up", re.compile(pattern, re.DOTALL), skip, times)))

    def cut_request(self, pattern: bytes = b"", *, keep: int = 0, skip: int = 0, times: int = 1) -> None:
        """Reset the connection in place of a request that matches; only its first `keep` bytes reach the server."""
        self._call(self._add(Rule("cut", "up", re.compile(pattern, re.DOTALL), skip, times, keep)))

    def reset_on(self, pattern: bytes, *, direction: Direction = "down", skip: int = 0, times: int = 1) -> None:
        """Reset the connection on which these bytes come along, which are not carried."""
        self._call(self._add(Rule("reset", direction, re.compile(pattern, re.DOTALL), skip, times)))

    def reset_all(self) -> int:
        """Reset every connection there is, and return how many those were."""
        return self._call(self._reset(self.connections))

    def reset(self, connection: int) -> None:
        """Reset one connection."""
        self._call(self._reset([connection]))

    # ----------------------------------------------------------------------------------------------------------- life

    @property
    def connections(self) -> list[int]:
        """The numbers of the connections that are open now, oldest first."""
        return sorted(self._pairs)

    def heal(self) -> None:
        """End every fault; connections that were not reset go on."""
        self._call(self._heal())

    def close(self) -> None:
        """Reset what is open and stop listening; idempotent."""
        if self.loop.is_closed():
            return
        self._call(self._refuse())
        self.reset_all()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---------------------------------------------------------------------------------------------- on the loop's side

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    async def _set(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self.state, name, value)

    async def _add(self, rule: Rule) -> None:
        self.state.rules.append(rule)

    async def _hold(self, directions: set[Direction], connection: int | None) -> None:
        if connection is None:
            self.state.held |= directions
        elif connection in self._pairs:  # it may have ended by itself
            self._pairs[connection][0].held |= directions

    async def _release(self, connection: int | None) -> None:
        if connection is None:
            self.state.held.clear()
        for number, (pair, _) in self._pairs.items():
            if connection in {None, number}:
                pair.held.clear()
        async with self.changed:
            self.changed.notify_all()

    async def _heal(self) -> None:
        self.state.delay, self.state.rate, self.state.slice = 0.0, None, CHUNK
        self.state.rules.clear()
        await self._release(None)
        await self._listen()

    async def _listen(self) -> None:
        if self._listening is not None:
            return
        self._listening = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self._listening.setblocking(False)
        self.port = self._listening.getsockname()[1]
        self.loop.add_reader(self._listening, self._take)

    async def _refuse(self) -> None:
        if self._listening is not None:
            self.loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None

    def _take(self) -> None:
        assert self._listening is not None
        try:
            client, _ = self._listening.accept()
        except OSError:  # it left before it was taken
            return
        self.accepted += 1
        number = self.accepted
        self.loop.create_task(self._connect(number, client))

    async def _connect(self, number: int, client: socket.socket) -> None:
        upstream = socket.socket()
        for end in (client, upstream):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = Pair(self, number, client, upstream)
        task = asyncio.current_task()
        assert task is not None
        self._pairs[number] = (pair, task)
        try:
            await self.loop.sock_connect(upstream, self._server)
            await pair.run()
        except OSError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        finally:
            del self._pairs[number]
            client.close()
            upstream.close()

    async def _reset(self, numbers: list[int]) -> int:
        hit = [self._pairs[number] for number in numbers if number in self._pairs]
        for pair, task in hit:
            pair.end_by_reset()
            task.cancel()
        await asyncio.gather(*(task for _, task in hit), return_exceptions=True)
        self.fired["reset_all"] += len(hit)
        return len(hit)
