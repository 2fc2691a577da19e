"""Messages that no request asked for: they leave as replies do, and have the same bounds."""

import pytest

from kvs.adapters.inbound.line.connection import line_protocol
from kvs.adapters.inbound.line.limits import LineLimits
from kvs.adapters.inbound.protocol.connection import TOO_SLOW, Connection
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.logs import make_logger
from tests.support.sessions import Bench, output_of
from tests.support.users import open_to_all

ROOM_BYTES = 100


@pytest.fixture
def bench() -> Bench:
    """Return sessions."""
    return Bench()


def connect(bench: Bench) -> tuple[Connection, list[str]]:
    """Return a connection, and a list that has an entry for each time that it woke its channel."""
    protocol = line_protocol(
        LineLimits(100, 4000, 1000, ROOM_BYTES),
        bench.budget,
        Observation(),
        open_to_all(),
        make_logger("info", "json", bench.log),
    )
    connection = protocol(bench.sessions.open(), None)
    wakes: list[str] = []
    connection.wake = lambda: wakes.append("wake")
    return connection, wakes


def test_push_follows_the_replies_that_are_due(bench: Bench) -> None:
    """It wakes the channel, which then takes both."""
    connection, wakes = connect(bench)
    connection.receive(b"PING\n")
    connection.push(b"news\n")
    assert wakes == ["wake"]
    assert output_of(connection).endswith(b'"PONG"}\nnews\n')


def test_push_beyond_the_room_closes_the_connection(bench: Bench) -> None:
    """The messages that had room are still sent; nothing is run or pushed any more, and nothing is held."""
    connection, wakes = connect(bench)
    connection.push(b"x" * ROOM_BYTES)
    assert not connection.closing
    connection.push(b"y")
    assert connection.closing
    assert connection.close_reason == TOO_SLOW
    connection.push(b"z")
    assert wakes == ["wake", "wake"]
    assert output_of(connection) == b"x" * ROOM_BYTES
    bench.assert_nothing_is_held()


def test_push_to_a_client_that_does_not_read_closes_the_connection(bench: Bench) -> None:
    """The channel says that its output is full: then what leaves makes no room."""
    connection, _ = connect(bench)
    connection.output_full = True
    connection.push(b"x" * ROOM_BYTES)
    assert output_of(connection) == b"x" * ROOM_BYTES
    assert not connection.closing
    connection.push(b"x")
    assert connection.closing
    assert output_of(connection) == b""


def test_push_to_a_client_that_reads_on(bench: Bench) -> None:
    """A full channel that has room again closes nobody, and neither do replies, however long."""
    connection, _ = connect(bench)
    connection.output_full = True
    connection.push(b"x" * ROOM_BYTES)
    connection.output_full = False
    assert output_of(connection) == b"x" * ROOM_BYTES
    connection.receive(b'PUT k "%b"\nGET k\n' % (b"v" * 10 * ROOM_BYTES))
    connection.push(b"x" * ROOM_BYTES)
    assert not connection.closing
    assert output_of(connection).endswith(b"}\n" + b"x" * ROOM_BYTES)


def test_a_message_may_be_longer_than_the_room(bench: Bench) -> None:
    """If it is the only one."""
    connection, _ = connect(bench)
    connection.push(b"x" * 2 * ROOM_BYTES)
    assert not connection.closing
    connection.push(b"x")
    assert connection.closing
