"""The client's side of one HTTP/2 connection (RFC 9113), without its socket: bytes in, events and bytes out.

Only what gRPC needs. Both directions are bounded: what is to be sent waits for the other end's windows, and what comes
is admitted as it is consumed. Nothing is retried here, and nothing pushed by a server is accepted.
"""

import struct
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, final

from kvs.adapters.storage.etcd.client import hpack

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Types of frames.
DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

# Flags.
END_STREAM: Final = 1
ACK: Final = 1
END_HEADERS: Final = 4
PADDED: Final = 8
PRIORITY: Final = 32

# Settings.
HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5

# Errors.
REFUSED_STREAM: Final = 7
CANCEL: Final = 8

DEFAULT_WINDOW: Final = 65535
LARGEST_WINDOW: Final = 2**31 - 1
SMALLEST_FRAME: Final = 16384
"""The size of frames that every end accepts, and of which this one accepts no larger."""

STREAM_WINDOW: Final = 4 << 20
"""How much a stream may bring that nobody has consumed."""

CONNECTION_WINDOW: Final = 16 << 20
MAX_UNSENT_ANSWERS: Final = 1000
"""How many answers to settings and pings may wait for another end that asks and does not read."""

OUTPUT_BYTES: Final = 256 << 10
"""How much output is joined at a time, with the interpreter's lock held."""

LAST_STREAM: Final = 2**31 - 1


class Http2Error(Exception):
    """Raised when the other end breaks the protocol; the connection is of no more use."""


class Received(NamedTuple):
    """What came for a stream: headers, data, both empty if it was reset; and whether that was the last."""

    stream: int
    headers: hpack.Headers
    data: bytes
    ended: bool
    reset: int = -1


@final
class _Stream:
    __slots__ = ("closing", "credit", "pending", "unacknowledged", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.credit = STREAM_WINDOW  # what the other end may send
        self.pending: deque[memoryview] = deque()
        self.closing = False  # nothing is to be sent behind what is pending
        self.unacknowledged = 0  # consumed, and not yet told to the other end


@final
class Http2:
    """One connection.

    Attributes:
        going_away: The other end accepts no more streams.
        last_stream: The last stream that it has looked at, or will; later ones were not processed.
    """

    def __init__(self) -> None:
        self.going_away = False
        self.last_stream = LAST_STREAM
        self._streams: dict[int, _Stream] = {}
        self._sending: dict[int, _Stream] = {}
        self._next = 1
        self._window = DEFAULT_WINDOW
        self._stream_window = DEFAULT_WINDOW
        self._frame_bytes = SMALLEST_FRAME
        self._most_streams = 100  # until the other end has said
        self._input = bytearray()
        self._block = bytearray()  # of headers that are not complete
        self._block_stream = 0
        self._block_ended = False
        self._unacknowledged = 0
        self._answers = 0
        self._output: deque[bytes | memoryview] = deque(
            [
                PREFACE,
                _frame(
                    SETTINGS,
                    0,
                    0,
                    struct.pack(">HIHIHI", HEADER_TABLE_SIZE, 0, ENABLE_PUSH, 0, INITIAL_WINDOW_SIZE, STREAM_WINDOW),
                ),
                _frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", CONNECTION_WINDOW - DEFAULT_WINDOW)),
            ]
        )

    # Sending.

    @property
    def accepts_stream(self) -> bool:
        """Whether another stream may be opened now."""
        return not self.going_away and len(self._streams) < self._most_streams and self._next < LAST_STREAM - 1

    def open(self, block: bytes, body: Sequence[bytes], *, ended: bool) -> int:
        """Open a stream with its encoded headers and what follows them; return its number."""
        number = self._next
        self._next += 2
        self._streams[number] = _Stream(self._stream_window)
        kind, rest = HEADERS, block
        while len(rest) > SMALLEST_FRAME:
            self._output.append(_frame(kind, 0, number, rest[:SMALLEST_FRAME]))
            kind, rest = CONTINUATION, rest[SMALLEST_FRAME:]
        self._output.append(_frame(kind, END_HEADERS, number, rest))
        self.send(number, body, ended=ended)
        return number

    def send(self, number: int, parts: Sequence[bytes], *, ended: bool) -> None:
        """Send parts of data on a stream, as far as its window and the connection's admit; the rest later."""
        stream = self._streams[number]
        stream.pending.extend([memoryview(part) for part in parts if part] or [memoryview(b"")])
        stream.closing = ended
        self._sending[number] = stream
        self._pump()

    def reset(self, number: int) -> None:
        """Give up a stream; what still comes for it is dropped."""
        if self._forget(number):
            self._output.append(_frame(RST_STREAM, 0, number, struct.pack(">I", CANCEL)))

    def ping(self) -> None:
        """Ask the other end for a sign of life."""
        self._output.append(_frame(PING, 0, 0, bytes(8)))

    def consumed(self, number: int, size: int) -> None:
        """Say that so much of what came for a stream is needed no more; the other end may send as much again."""
        stream = self._streams.get(number)
        if stream is not None:
            stream.unacknowledged += size
            if stream.unacknowledged >= STREAM_WINDOW // 4:
                self._output.append(_frame(WINDOW_UPDATE, 0, number, struct.pack(">I", stream.unacknowledged)))
                stream.credit += stream.unacknowledged
                stream.unacknowledged = 0

    def take_output(self) -> bytes:
        """Return what is to be written to the socket now, a piece at a time; at last, nothing."""
        parts: list[bytes | memoryview] = []
        size = 0
        while self._output and size < OUTPUT_BYTES:
            part = self._output.popleft()
            parts.append(part)
            size += len(part)
        self._answers = 0
        return b"".join(parts)

    def _pump(self) -> None:
        for number in list(self._sending):
            stream = self._sending[number]
            while stream.pending:
                first = stream.pending[0]
                size = max(0, min(len(first), self._window, stream.window, self._frame_bytes))
                if not size and len(first):
                    break  # until the other end opens a window
                rest = first[size:]
                if rest:
                    stream.pending[0] = rest
                else:
                    stream.pending.popleft()
                ended = stream.closing and not stream.pending
                self._output.append(_head(size, DATA, END_STREAM if ended else 0, number))
                self._output.append(first[:size])
                self._window -= size
                stream.window -= size
            else:
                del self._sending[number]

    # Receiving.

    def receive(self, data: bytes) -> list[Received]:
        """Take in what the socket had.

        Raises:
            Http2Error: The other end breaks the protocol.
        """
        received: list[Received] = []
        buffer = self._input
        buffer += data
        at = 0
        try:
            while len(buffer) - at >= 9:
                size = buffer[at] << 16 | buffer[at + 1] << 8 | buffer[at + 2]
                if size > SMALLEST_FRAME:
                    raise Http2Error(f"a frame of {size} bytes")
                if len(buffer) - at - 9 < size:
                    break
                kind = buffer[at + 3]
                flags = buffer[at + 4]
                number = int.from_bytes(buffer[at + 5 : at + 9], "big") & LAST_STREAM
                at += 9
                self._take_frame(kind, flags, number, bytes(buffer[at : at + size]), received)
                at += size
        except (hpack.HpackError, struct.error, IndexError) as error:
            raise Http2Error(f"a frame that is not understood: {error}") from None
        del buffer[:at]
        return received

    def _take_frame(self, kind: int, flags: int, number: int, payload: bytes, received: list[Received]) -> None:
        if self._block_stream and (kind != CONTINUATION or number != self._block_stream):
            raise Http2Error("headers that are not continued")
        if kind == DATA:
            self._take_data(flags, number, payload, received)
        elif kind == HEADERS:
            payload = _without_padding(flags, payload)
            self._take_headers(flags, number, payload[5:] if flags & PRIORITY else payload, received)
        elif kind == CONTINUATION:
            if not self._block_stream:
                raise Http2Error("headers that were not begun")
            self._take_headers(flags | self._block_ended, number, payload, received)
        elif kind == RST_STREAM:
            (code,) = struct.unpack(">I", payload)
            if self._forget(number):
                received.append(Received(number, (), b"", ended=True, reset=code))
        elif kind == SETTINGS:
            self._take_settings(flags, payload)
        elif kind == PING:
            if not flags & ACK:
                self._answer(_frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            last, _ = struct.unpack_from(">II", payload)
            self.going_away = True
            self.last_stream = min(self.last_stream, last & LAST_STREAM)
        elif kind == WINDOW_UPDATE:
            self._take_window(number, payload)
        elif kind == PUSH_PROMISE:
            raise Http2Error("a push, which was forbidden")

    def _take_data(self, flags: int, number: int, payload: bytes, received: list[Received]) -> None:
        size = len(payload)
        self._unacknowledged += size
        if self._unacknowledged >= CONNECTION_WINDOW // 4:
            self._answer(_frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._unacknowledged)))
            self._unacknowledged = 0
        stream = self._streams.get(number)
        if stream is None:
            return  # one that was given up
        stream.credit -= size
        if stream.credit < 0:
            raise Http2Error("more on a stream than its window admits")
        data = _without_padding(flags, payload)
        if len(data) < size:
            self.consumed(number, size - len(data))
        self._deliver(Received(number, (), data, bool(flags & END_STREAM)), received)

    def _take_headers(self, flags: int, number: int, payload: bytes, received: list[Received]) -> None:
        self._block += payload
        if len(self._block) > hpack.MAX_HEADERS_BYTES:
            raise Http2Error("too many headers")
        if not flags & END_HEADERS:
            self._block_stream = number
            self._block_ended = bool(flags & END_STREAM)
            return
        headers = hpack.decode(bytes(self._block))
        self._block.clear()
        self._block_stream = 0
        self._block_ended = False
        if number in self._streams:
            self._deliver(Received(number, headers, b"", bool(flags & END_STREAM)), received)

    def _deliver(self, event: Received, received: list[Received]) -> None:
        if event.ended:
            if event.stream in self._sending:  # answered before all was sent, which nobody wants any more
                self.reset(event.stream)
            else:
                self._forget(event.stream)
        received.append(event)

    def _take_settings(self, flags: int, payload: bytes) -> None:
        if flags & ACK:
            return
        for setting, value in struct.iter_unpack(">HI", payload):
            if setting == INITIAL_WINDOW_SIZE:
                if value > LARGEST_WINDOW:
                    raise Http2Error(f"a window of {value} bytes")
                for stream in self._streams.values():
                    stream.window = _checked(stream.window + value - self._stream_window)
                self._stream_window = value
            elif setting == MAX_FRAME_SIZE:
                if not SMALLEST_FRAME <= value < 1 << 24:
                    raise Http2Error(f"frames of {value} bytes")
                self._frame_bytes = value
            elif setting == MAX_CONCURRENT_STREAMS:
                self._most_streams = value
        self._answer(_frame(SETTINGS, ACK, 0, b""))
        self._pump()

    def _take_window(self, number: int, payload: bytes) -> None:
        (more,) = struct.unpack(">I", payload)
        more &= LAST_STREAM
        if not number:
            self._window = _checked(self._window + more)
        elif (stream := self._streams.get(number)) is not None:
            stream.window = _checked(stream.window + more)
        self._pump()

    def _answer(self, frame: bytes) -> None:
        self._answers += 1
        if self._answers > MAX_UNSENT_ANSWERS:
            raise Http2Error("more questions than are read answers")
        self._output.append(frame)

    def _forget(self, number: int) -> bool:
        self._sending.pop(number, None)
        return self._streams.pop(number, None) is not None


def _checked(window: int) -> int:
    if window > LARGEST_WINDOW:
        raise Http2Error("a window of more than 31 bits")
    return window


def _head(size: int, kind: int, flags: int, number: int) -> bytes:
    return size.to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big")


def _frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return _head(len(payload), kind, flags, number) + payload


def _without_padding(flags: int, payload: bytes) -> bytes:
    if not flags & PADDED:
        return payload
    padding = payload[0]
    if padding >= len(payload):
        raise Http2Error("more padding than there is")
    return payload[1 : len(payload) - padding]
