"""Pika's connection with a short cut for the two frames that come by the ten thousand: deliveries and confirms.

Pika makes several objects of each frame and copies its whole buffer for each; that is most of what a job would cost. Whatever is
not exactly what the short cut knows is given to pika as it came, in order. All that touches pika's inside is in this file.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pika

__all__ = ["Arrival", "Stream"]

METHOD, HEADER, BODY = 1, 2, 3
DELIVER, ACK = b"\x00\x3c\x00\x3c", b"\x00\x3c\x00\x50"
AROUND = 8
"""Bytes of a frame around what it carries: type, channel and size before it, an end mark behind it."""
AT_ONCE = 1 << 18
"""Bytes to read from the socket at once: each call hands the interpreter to another thread, and gets it back late."""
_frame = struct.Struct(">BHI").unpack_from
_header = struct.Struct(">BHIHHQ").unpack_from
_delivery = struct.Struct(">QB").unpack_from

Arrival: TypeAlias = tuple[bytes, int, bool, bytes, bytes]
"""Consumer's tag, delivery's tag, whether it was lent before, properties as they came, body."""


class Stream(pika.SelectConnection):  # type: ignore[misc,unused-ignore]  # pika has no types
    """A connection that hands deliveries of its consumers, and confirms, over in batches."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._frame_buffer = b""
        self._rest = b""
        """The beginning of a frame whose end has not come yet."""
        self._number = 0
        """The channel with the short cut; 0: none yet."""
        self.consumers: set[bytes] = set()
        """Tags of the consumers whose deliveries take it."""
        self._arrived: list[Arrival] = []
        self._on_arrivals: Callable[[Sequence[Arrival]], None] = lambda _: None
        self._on_confirm: Callable[[int, bool], None] | None = None
        super().__init__(*arguments, **options)

    def short_cut(
        self,
        channel: int,
        *,
        on_arrivals: Callable[[Sequence[Arrival]], None] | None = None,
        on_confirm: Callable[[int, bool], None] | None = None,
    ) -> None:
        """Take the short cut on this channel from now on; on the I/O thread."""
        self._number = channel
        if on_arrivals is not None:
            self._on_arrivals = on_arrivals
        self._on_confirm = on_confirm or self._on_confirm
        self._transport._MAX_RECV_BYTES = AT_ONCE  # noqa: SLF001 - this file's business

    def write(self, frames: bytes) -> None:
        """Send whole frames in one piece, behind everything that was sent before; what the socket takes leaves at once."""
        self._output_marshaled_frames([frames])
        self._transport._on_socket_writable()  # noqa: SLF001 - as above

    @property
    def readable(self) -> bool:
        """Whether something waits in the socket, be it that the other side is gone."""
        try:
            sock = self._transport._sock  # noqa: SLF001 - as above
            socket.socket.recv(sock, 1, socket.MSG_PEEK)  # below TLS, which knows no peeking
        except BlockingIOError:
            return False
        except (OSError, AttributeError):
            return True
        return True

    def close_socket(self) -> None:
        """Close what pika left open because the loop ended first."""
        sock = getattr(self._transport, "_sock", None)
        if sock is not None:
            sock.close()

    # -------------------------------------------------------------------------------------------------------- reading

    def _on_data_available(self, data_in: bytes) -> None:
        """Take what came from the socket; called by pika."""
        if not self._number:
            super()._on_data_available(data_in)
            return
        if self._frame_buffer:  # what pika has not understood yet, from before the short cut
            self._rest, self._frame_buffer = self._frame_buffer + self._rest, b""
            self.bytes_received += len(self._rest)
        self.bytes_received += len(
            data_in
        )  # a part of a large body, too, is a sign of life: pika's heartbeat goes by this
        data = self._rest + data_in if self._rest else data_in
        self._rest = b""
        position = self._read(data)
        if position < len(data):
            self._rest = data[position:]
        self._hand_over()

    def _read(self, data: bytes) -> int:
        """Read whole frames; return where the first one begins that is not whole."""
        position, end = 0, len(data)
        while end - position >= AROUND:
            kind, channel, size = _frame(data, position)
            after = position + size + AROUND
            if after > end:
                return position
            if kind == METHOD and channel == self._number:
                method = data[position + 7 : position + 11]
                if method == DELIVER and (taken := self._deliver(data, position + 11, after)) is not None:
                    if not taken:
                        return position
                    position = taken
                    continue
                if method == ACK and self._on_confirm is not None:
                    tag, multiple = _delivery(data, position + 11)
                    position = after
                    self._on_confirm(tag, bool(multiple))
                    continue
            self._hand_over()
            self.bytes_received -= after - position  # pika counts it itself
            super()._on_data_available(data[position:after])
            position = after
        return position

    def _deliver(self, data: bytes, position: int, after: int) -> int | None:
        """Take a delivery whose method frame ends at `after`; return where its last frame ends.

        0 where that has not come yet; None where it is for pika: of another consumer, or other frames stand between.
        """
        start = position + 1
        position = start + data[position]
        consumer = data[start:position]
        if consumer not in self.consumers:
            return None
        if len(data) - after < 19:
            return 0
        kind, channel, size, _, _, length = _header(data, after)
        if kind != HEADER or channel != self._number:
            return None
        begin = after + size + AROUND
        if len(data) < begin + length:
            return 0
        stop, body = self._body(data, begin, length)
        if not stop:
            return stop
        tag, redelivered = _delivery(data, position)
        self._arrived.append((consumer, tag, bool(redelivered), data[after + 19 : begin - 1], body))
        return stop

    def _body(self, data: bytes, position: int, length: int) -> tuple[int | None, bytes]:
        """Return where a body's last frame ends (0 or None as above), and the body."""
        pieces: list[bytes] = []
        while length:
            if len(data) - position < AROUND:
                return 0, b""
            kind, channel, size = _frame(data, position)
            if kind != BODY or channel != self._number:
                return None, b""
            if len(data) < position + size + AROUND:
                return 0, b""
            pieces.append(data[position + 7 : position + 7 + size])
            position += size + AROUND
            length -= size
        return position, pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _hand_over(self) -> None:
        if self._arrived:
            arrived, self._arrived = self._arrived, []
            self._on_arrivals(arrived)
