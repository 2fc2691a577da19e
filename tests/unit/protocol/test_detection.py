"""The first byte tells the protocol; until it has come, a connection speaks lines."""

import pytest

from kvs.adapters.inbound.line.connection import LineConnection, line_protocol
from kvs.adapters.inbound.line.limits import LineLimits
from kvs.adapters.inbound.net.registry import ChannelRegistry
from kvs.adapters.inbound.protocol.detection import ProtocolDetector
from kvs.adapters.inbound.resp.connection import RespConnection, resp_protocol
from kvs.adapters.inbound.resp.context import ServerContext
from kvs.adapters.inbound.resp.limits import RespLimits
from kvs.application.disposal import Disposal
from kvs.domain.errors import TimedOutError
from kvs.logs import make_logger
from tests.support.sessions import UNLIMITED, Bench, output_of


def detector(bench: Bench) -> ProtocolDetector:
    """Return what opens connections in either protocol."""
    log = make_logger("info", "json", bench.log)
    line = line_protocol(LineLimits(100, 100, 1000, UNLIMITED), bench.budget, log)
    shared = ServerContext(ChannelRegistry(), {}, bench.clock, bench.clock, Disposal())
    resp = resp_protocol(RespLimits(100, 100, 100, 1, 4096, 4096, 1000, UNLIMITED), shared, bench.budget, log)
    return ProtocolDetector(lambda: (bench.open(), None), line, resp)


@pytest.mark.parametrize(
    ("first", "rest", "reply"),
    [
        (b"*", b"1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
        (b"P", b"ING\n", b'{"status": "Ok", "result": "PONG"}\n'),
        (b"\n", b"", b'{"status": "Error", "code": "usage"'),
        (b"$", b"\n", b'{"status": "Error", "code": "unknown_command"'),
        (b"\x16", b"\x03\x01", b'{"status": "Error", "code": "protocol"'),
        (b"G", b"ET / HTTP/1.1\r\n", b'{"status": "Error", "code": "protocol"'),
    ],
)
@pytest.mark.parametrize("together", [False, True])
def test_detection_goes_by_the_first_byte(first: bytes, rest: bytes, reply: bytes, together: bool) -> None:
    """However little of the first request comes with it; the session stays the same."""
    bench = Bench()
    opened = detector(bench).connect()
    chunks = [first + rest] if together else [first, rest]
    connection = opened.detect(chunks[0])
    assert isinstance(connection, RespConnection if first == b"*" else LineConnection)
    assert connection.session is opened.session
    for chunk in filter(None, chunks):
        connection.receive(chunk)
    assert output_of(connection).startswith(reply)
    assert connection.closing == (b"protocol" in reply)
    connection.close()
    bench.assert_nothing_is_held()


def test_detection_is_over_once_a_connection_has_failed() -> None:
    """An error before the first byte is a line of JSON, and the connection stays in the line protocol."""
    bench = Bench()
    connection = detector(bench).connect()
    connection.fail(TimedOutError("too slow"))
    assert connection.detect(b"*1\r\n") is connection
    assert output_of(connection).startswith(b'{"status": "Error", "code": "timeout"')


def test_detection_happens_once() -> None:
    """A line may begin with a star, later."""
    connection = detector(Bench()).connect()
    assert connection.detect(b"PING\n") is connection
    assert connection.detect(b"*1\r\n") is connection
