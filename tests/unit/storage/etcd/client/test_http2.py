"""One HTTP/2 connection, told what comes, byte by byte if need be."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from kvs.adapters.storage.etcd.client.hpack import encode
from kvs.adapters.storage.etcd.client.http2 import (
    ACK,
    CONNECTION_WINDOW,
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_UNSENT_ANSWERS,
    OUTPUT_BYTES,
    PADDED,
    PING,
    PREFACE,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SMALLEST_FRAME,
    STREAM_WINDOW,
    WINDOW_UPDATE,
    Http2,
    Http2Error,
    Received,
)

pytestmark = pytest.mark.one_build

OK_HEADERS = ((":status", "200"),)


class Frame(NamedTuple):
    """A frame that was sent."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame as the other end sends it."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def setting(number: int, value: int) -> bytes:
    """Return the frame of one setting."""
    return frame(SETTINGS, 0, 0, struct.pack(">HI", number, value))


def window(stream: int, more: int) -> bytes:
    """Return the frame that opens a window."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", more))


def sent(connection: Http2) -> list[Frame]:
    """Return the frames that are to be sent now."""
    return list(frames(b"".join(iter(connection.take_output, b""))))


def frames(output: bytes) -> Iterator[Frame]:
    """Return the frames of some output."""
    while output:
        size = int.from_bytes(output[:3], "big")
        yield Frame(output[3], output[4], int.from_bytes(output[5:9], "big"), output[9 : 9 + size])
        output = output[9 + size :]


def data_bytes(sent_frames: list[Frame], stream: int) -> int:
    """Return how much data of a stream was sent."""
    return sum(len(each.payload) for each in sent_frames if each.kind == DATA and each.stream == stream)


@pytest.fixture
def connection() -> Http2:
    """Return a connection that has said what comes first."""
    made = Http2()
    output = made.take_output()
    assert output.startswith(PREFACE)
    settings, update = frames(output.removeprefix(PREFACE))
    assert settings.kind == SETTINGS
    assert struct.unpack(">I", update.payload) == (CONNECTION_WINDOW - DEFAULT_WINDOW,)
    return made


def test_a_call_is_headers_and_data(connection: Http2) -> None:
    """Streams of a client have odd numbers."""
    assert [connection.open(b"block", [b"body"], ended=True) for _ in range(2)] == [1, 3]
    assert sent(connection)[:2] == [
        Frame(HEADERS, END_HEADERS, 1, b"block"),
        Frame(DATA, END_STREAM, 1, b"body"),
    ]


def test_an_empty_body_ends_the_stream_all_the_same(connection: Http2) -> None:
    """With a frame of no bytes, whatever the window is."""
    connection.open(b"", [bytes(DEFAULT_WINDOW)], ended=True)
    connection.open(b"", [b""], ended=True)
    assert sent(connection)[-1] == Frame(DATA, END_STREAM, 3, b"")


def test_parts_are_sent_in_order_and_output_comes_in_pieces(connection: Http2) -> None:
    """Nothing is joined that is large."""
    connection.receive(setting(INITIAL_WINDOW_SIZE, 1 << 20) + window(0, 1 << 20))
    parts = [b"head", b"", bytes(600_000), b"tail"]
    connection.open(b"", parts, ended=True)
    pieces = list(iter(connection.take_output, b""))
    assert max(map(len, pieces)) <= OUTPUT_BYTES + SMALLEST_FRAME
    datas = [each for each in frames(b"".join(pieces)) if each.kind == DATA]
    assert b"".join(each.payload for each in datas) == b"".join(parts)
    assert [each.flags for each in datas] == [0] * (len(datas) - 1) + [END_STREAM]


def test_an_answer_is_told_whole_or_in_pieces(connection: Http2) -> None:
    """Byte by byte, padded, and with headers in two frames."""
    connection.open(b"", [b""], ended=True)
    block = encode(OK_HEADERS)
    answer = (
        setting(MAX_FRAME_SIZE, SMALLEST_FRAME)
        + frame(HEADERS, 0, 1, block[:3])
        + frame(CONTINUATION, END_HEADERS, 1, block[3:])
        + frame(DATA, PADDED, 1, b"\2one\0\0")
        + frame(HEADERS, END_HEADERS | END_STREAM, 1, encode((("grpc-status", "0"),)))
    )
    received = [event for byte in answer for event in connection.receive(bytes([byte]))]
    assert received == [
        Received(1, OK_HEADERS, b"", ended=False),
        Received(1, (), b"one", ended=False),
        Received(1, (("grpc-status", "0"),), b"", ended=True),
    ]
    assert connection.receive(frame(DATA, 0, 1, b"late")) == []


def test_no_more_is_sent_than_the_windows_admit(connection: Http2) -> None:
    """Neither of a stream, nor of all; one that waits is in nobody's way."""
    connection.receive(setting(INITIAL_WINDOW_SIZE, 1000))
    connection.open(b"", [bytes(5000)], ended=True)
    connection.open(b"", [bytes(800)], ended=True)
    first = sent(connection)
    assert (data_bytes(first, 1), data_bytes(first, 3)) == (1000, 800)
    connection.receive(window(1, 1500))
    assert data_bytes(sent(connection), 1) == 1500
    connection.receive(setting(INITIAL_WINDOW_SIZE, 500))  # 500 less than nothing
    connection.receive(window(1, 400))
    assert data_bytes(sent(connection), 1) == 0
    connection.receive(window(1, 5000))
    last = sent(connection)
    assert data_bytes(last, 1) == 2500
    assert last[-1].flags == END_STREAM
    connection.receive(setting(INITIAL_WINDOW_SIZE, 1 << 20))
    connection.open(b"", [bytes(1 << 20)], ended=True)
    assert data_bytes(sent(connection), 5) == DEFAULT_WINDOW - 5800
    connection.receive(window(0, 10_000))
    large = sent(connection)
    assert data_bytes(large, 5) == 10_000


def test_frames_are_no_larger_than_the_other_end_accepts(connection: Http2) -> None:
    """Which may accept larger ones than it must."""
    connection.open(b"", [bytes(40_000)], ended=True)
    assert [len(each.payload) for each in sent(connection)[1:]] == [SMALLEST_FRAME, SMALLEST_FRAME, 7232]
    connection.receive(setting(MAX_FRAME_SIZE, 20_000))
    connection.open(b"", [bytes(25_000)], ended=True)
    assert [len(each.payload) for each in sent(connection)[2:]] == [20_000, 5_000]


def test_the_other_end_may_send_more_once_it_is_consumed(connection: Http2) -> None:
    """Of a stream when its owner says so, of all as it comes; what comes for nobody counts as well."""
    connection.open(b"", [b""], ended=True)
    sent(connection)
    for _ in range(CONNECTION_WINDOW // 4 // SMALLEST_FRAME):
        connection.receive(frame(DATA, 0, 1, bytes(SMALLEST_FRAME)))
    assert sent(connection) == [Frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", CONNECTION_WINDOW // 4))]
    connection.consumed(1, STREAM_WINDOW // 4 - 1)
    assert sent(connection) == []
    connection.consumed(1, 1)
    assert sent(connection) == [Frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", STREAM_WINDOW // 4))]
    connection.reset(1)
    connection.consumed(1, STREAM_WINDOW)
    assert [each.kind for each in sent(connection)] == [RST_STREAM]


def test_an_answer_before_all_was_sent_ends_the_sending(connection: Http2) -> None:
    """As when a request is too large for gRPC."""
    connection.open(b"", [bytes(1 << 20)], ended=True)
    sent(connection)
    connection.receive(frame(HEADERS, END_HEADERS | END_STREAM, 1, encode(OK_HEADERS)))
    connection.receive(window(1, 1000) + window(0, 1000))
    assert [each.kind for each in sent(connection)] == [RST_STREAM]


def test_pings_and_settings_are_answered(connection: Http2) -> None:
    """But not answers to ours."""
    connection.receive(frame(PING, 0, 0, b"12345678") + frame(PING, ACK, 0, bytes(8)) + frame(SETTINGS, ACK, 0, b""))
    assert sent(connection) == [Frame(PING, ACK, 0, b"12345678")]


def test_a_reset_stream_is_told_with_its_reason(connection: Http2) -> None:
    """Once."""
    connection.open(b"", [b""], ended=True)
    reset = frame(RST_STREAM, 0, 1, struct.pack(">I", 7))
    assert connection.receive(reset + reset) == [Received(1, (), b"", ended=True, reset=7)]


def test_no_more_streams_are_open_than_the_other_end_accepts(connection: Http2) -> None:
    """And none after it has said that it goes away."""
    connection.receive(setting(MAX_CONCURRENT_STREAMS, 1))
    assert connection.accepts_stream
    connection.open(b"", [b""], ended=True)
    assert not connection.accepts_stream
    connection.receive(frame(HEADERS, END_HEADERS | END_STREAM, 1, encode(OK_HEADERS)))
    assert connection.accepts_stream
    connection.receive(frame(GOAWAY, 0, 0, struct.pack(">II", 1, 0)))
    assert not connection.accepts_stream
    assert connection.last_stream == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        frame(DATA, 0, 1, bytes(SMALLEST_FRAME + 1)),
        frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack(">I", 2)),
        frame(CONTINUATION, END_HEADERS, 1, b""),
        frame(HEADERS, 0, 1, b"") + frame(DATA, 0, 1, b""),
        frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, END_HEADERS, 3, b""),
        frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
        frame(HEADERS, 0, 1, bytes(16000)) + frame(CONTINUATION, 0, 1, bytes(16000)) * 4,
        frame(DATA, PADDED, 1, b"\5x"),
        frame(DATA, PADDED, 1, b""),
        frame(RST_STREAM, 0, 1, b"x"),
        frame(WINDOW_UPDATE, 0, 0, b"x"),
        window(0, 2**31 - 1),
        frame(GOAWAY, 0, 0, b"x"),
        frame(SETTINGS, 0, 0, b"x"),
        setting(INITIAL_WINDOW_SIZE, 2**31),
        setting(MAX_FRAME_SIZE, 1),
        frame(PING, 0, 0, bytes(8)) * (MAX_UNSENT_ANSWERS + 1),
    ],
)
def test_whoever_breaks_the_protocol_is_left(connection: Http2, answer: bytes) -> None:
    """With the one error that says so."""
    connection.open(b"", [b""], ended=True)
    with pytest.raises(Http2Error):
        connection.receive(answer)


def test_windows_bind_the_other_end() -> None:
    """It may send on a stream what was announced and is not consumed, and announce no more than 31 bits."""
    http2 = Http2()
    number = http2.open(b"", [b"x"], ended=False)
    piece = frame(DATA, 0, number, bytes(SMALLEST_FRAME))
    for _ in range(STREAM_WINDOW // SMALLEST_FRAME):
        http2.receive(piece)
    http2.consumed(number, STREAM_WINDOW)
    http2.take_output()
    for _ in range(STREAM_WINDOW // SMALLEST_FRAME):
        http2.receive(piece)
    with pytest.raises(Http2Error, match="window"):
        http2.receive(piece)
    most = struct.pack(">I", 2**31 - 1)
    for stream in (0, 1):
        http2 = Http2()
        http2.open(b"", [b"x"], ended=False)
        with pytest.raises(Http2Error, match="31 bits"):
            http2.receive(frame(WINDOW_UPDATE, 0, stream, most))
    http2 = Http2()
    http2.open(b"", [], ended=False)
    http2.receive(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 2**31 - 1 - DEFAULT_WINDOW)))
    with pytest.raises(Http2Error, match="31 bits"):
        http2.receive(setting(INITIAL_WINDOW_SIZE, DEFAULT_WINDOW + 1))
