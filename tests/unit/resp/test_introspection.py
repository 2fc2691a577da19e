"""OBJECT and MEMORY: what is said of how a value is stored."""

import pytest

from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.domain.values import Record, Value, entry_bytes
from tests.support.resp_connection import RespServer, ask
from tests.support.resp_wire import NULL, OK, Typed, error
from tests.support.sessions import UNLIMITED

LATER_MS = 2_000_000


@pytest.fixture
def server() -> RespServer:
    """Return a server over the memory engine."""
    return RespServer(storage=MemoryStorage(0, UNLIMITED))


@pytest.mark.parametrize("value", [b"", b"v", b"12", b"v" * 1000, Record(b"v", LATER_MS)])
class TestPresentKey:
    """Whatever its value."""

    def test_memory_is_what_limits_count(self, server: RespServer, value: Value) -> None:
        server.bench.storage.put(b"key", value)
        connection = server.connect()
        for options in ((), (b"SAMPLES", b"0"), (b"samples", b"5", b"SAMPLES", b"1")):
            assert ask(connection, b"MEMORY", b"USAGE", b"key", *options) == entry_bytes(b"key", value)

    def test_encoding_is_that_of_bytes(self, server: RespServer, value: Value) -> None:
        server.bench.storage.put(b"key", value)
        connection = server.connect()
        assert ask(connection, b"OBJECT", b"ENCODING", b"key") == b"raw"
        assert ask(connection, b"OBJECT", b"REFCOUNT", b"key") == 1

    @pytest.mark.parametrize("subcommand", [b"FREQ", b"IDLETIME"])
    def test_accesses_are_not_recorded(self, server: RespServer, value: Value, subcommand: bytes) -> None:
        server.bench.storage.put(b"key", value)
        reply = ask(server.connect(), b"OBJECT", subcommand, b"key")
        assert isinstance(reply, Typed)
        assert reply.kind == "-"


@pytest.mark.parametrize("subcommand", [b"ENCODING", b"REFCOUNT", b"FREQ", b"IDLETIME"])
def test_absent_key_is_null(server: RespServer, subcommand: bytes) -> None:
    """A key that has expired is one."""
    connection = server.connect()
    server.bench.storage.put(b"short", Record(b"v", LATER_MS))
    assert ask(connection, b"TTL", b"short") == 1000
    server.pass_time(1000)
    for key in (b"short", b"nope"):
        assert ask(connection, b"OBJECT", subcommand, key) == NULL
        assert ask(connection, b"MEMORY", b"USAGE", key) == NULL


def test_reads_are_observed(server: RespServer) -> None:
    """A transaction that has asked conflicts if the value changes."""
    connection, other = server.connect(), server.connect()
    assert ask(connection, b"START") == OK
    assert ask(connection, b"MEMORY", b"USAGE", b"key") == NULL
    assert ask(connection, b"SET", b"mine", b"") == OK
    assert ask(other, b"SET", b"key", b"") == OK
    assert repr(ask(connection, b"COMMIT")).startswith("-b'CONFLICT ")


@pytest.mark.parametrize("options", [(b"SAMPLES",), (b"SAMPLES", b"-1"), (b"FOO", b"1"), (b"SAMPLES", b"1", b"FOO")])
def test_wrong_options_are_refused(server: RespServer, options: tuple[bytes, ...]) -> None:
    """Whether the key is there or not."""
    assert ask(server.connect(), b"MEMORY", b"USAGE", b"key", *options) == error("ERR syntax error")
