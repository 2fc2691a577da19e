"""What the fast path runs besides GET and SET: by it, and by the long way."""

import io
from collections.abc import Iterator

import pytest

from kvs.adapters.inbound.protocol import run_loop
from kvs.adapters.inbound.resp.connection import RespConnection
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.domain.values import Record
from tests.support.resp_connection import RespServer, ask
from tests.support.resp_wire import NULL, NULL_ARRAY, OK, QUEUED, Reply, Typed, error, read_reply, request
from tests.support.scripted_storage import ScriptedStorage
from tests.support.sessions import UNLIMITED, output_of

NO_TIME = "invalid expire time in 'set' command"
NO_INTEGER = "value is not an integer or out of range"


@pytest.fixture(autouse=True, params=[False, True], ids=["parsed", "fast"])
def _build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the fast path, or not. The compiled build always takes it."""
    monkeypatch.setattr(run_loop, "HAS_FAST_PATH", request.param)


def puts(**values: str) -> bytes:
    """Return MULTI, a SET for each value, and EXEC."""
    sets = [request("SET", key, value) for key, value in values.items()]
    return b"".join([request("MULTI"), *sets, request("EXEC")])


def replies_to(connection: RespConnection, data: bytes) -> list[Reply]:
    """Return the replies to a packet."""
    connection.receive(data)
    while connection.backlog:
        connection.resume()
    return list(replies_in(output_of(connection)))


def replies_in(data: bytes) -> Iterator[Reply]:
    """Return the replies in output."""
    stream = io.BytesIO(data)
    while stream.tell() < len(data):
        yield read_reply(stream)


@pytest.fixture
def server() -> RespServer:
    """Return a server over the memory engine."""
    server = RespServer(storage=MemoryStorage(0, UNLIMITED))
    server.limits.max_value_bytes = 100
    return server


class TestQueueThatArrivesWhole:
    """MULTI, SETs and EXEC in one packet."""

    def test_queue_is_run(self, server: RespServer) -> None:
        connection = server.connect()
        assert replies_to(connection, puts(a="1", b="2") + request("GET", "b")) == [OK, QUEUED, QUEUED, [OK, OK], b"2"]
        assert ask(connection, b"EXEC") == error("ERR EXEC without MULTI")
        assert connection.session.counters.committed == 1
        assert connection.requests == 6
        server.assert_nothing_is_left()

    def test_last_of_two_values_stays(self, server: RespServer) -> None:
        sets = request("SET", "a", "1") + request("SET", "a", "2")
        assert replies_to(server.connect(), request("MULTI") + sets + request("EXEC"))[-1] == [OK] * 2
        assert server.bench.storage.get(b"a") == b"2"

    @pytest.mark.parametrize(("version", "null"), [(2, NULL_ARRAY), (3, Typed("_", None))])
    def test_changed_watched_key_is_a_conflict(self, server: RespServer, version: int, null: Typed) -> None:
        mine, other = server.connect(), server.connect()
        ask(mine, b"HELLO", version)
        ask(mine, b"WATCH", b"a")
        ask(other, b"SET", b"a", b"other")
        assert replies_to(mine, puts(a="1", b="2"))[-1] == null
        assert server.bench.storage.get(b"a") == b"other"
        assert server.bench.storage.get(b"b") is None
        assert mine.session.counters.conflicted == 1
        assert replies_to(mine, puts(a="1"))[-1] == [OK]  # no key is watched any more
        server.assert_nothing_is_left()

    def test_evicted_snapshot_of_a_watched_key_is_a_conflict(self) -> None:
        server = RespServer(storage=MemoryStorage(0, max_history_bytes=1000))
        server.limits.max_value_bytes = 1000
        mine, other = server.connect(), server.connect()
        ask(other, b"SET", b"large", b"x" * 1000)
        ask(mine, b"WATCH", b"a")
        ask(other, b"SET", b"large", b"y" * 1000)
        assert replies_to(mine, puts(a="1"))[-1] == NULL_ARRAY
        assert mine.session.counters.conflicted == 1
        server.assert_nothing_is_left()

    def test_full_engine_applies_nothing_and_forgets_the_watched_keys(self) -> None:
        server = RespServer(storage=MemoryStorage(1000, UNLIMITED))
        server.limits.max_value_bytes = 2000
        connection = server.connect()
        ask(connection, b"WATCH", b"a")
        assert repr(replies_to(connection, puts(a="1", b="x" * 1000))[-1]).startswith("-b'LIMIT ")
        assert server.bench.storage.get(b"a") is None
        assert not connection.session.holds_snapshot
        assert replies_to(connection, puts(a="1"))[-1] == [OK]

    def test_failed_engine_leaves_the_outcome_unknown(self) -> None:
        storage = ScriptedStorage()

        def fail(_: object) -> object:
            raise OSError("disk")

        storage.on["commit"] = fail
        server = RespServer(storage=storage)
        server.limits.max_value_bytes = 100
        connection = server.connect()
        assert repr(replies_to(connection, puts(a="1"))[-1]).startswith("-b'OUTCOME_UNKNOWN ")
        server.assert_nothing_is_left()

    def test_transaction_of_start_refuses_multi(self, server: RespServer) -> None:
        connection = server.connect()
        ask(connection, b"START")
        multi, _, execute = replies_to(connection, puts(a="1"))
        assert isinstance(multi, Typed)
        assert multi.kind == "-"
        assert execute == error("ERR EXEC without MULTI")
        assert connection.session.depth == 1
        ask(connection, b"ROLLBACK")
        assert server.bench.storage.get(b"a") is None

    @pytest.mark.parametrize("max_transaction_bytes", range(100, 3000, 100))
    def test_limit_of_the_queue_is_the_same(self, server: RespServer, max_transaction_bytes: int) -> None:
        server.limits.max_transaction_bytes = max_transaction_bytes
        last = replies_to(server.connect(), puts(a="1", b="2", c="3"))[-1]
        held_bytes = 3 * (4 * 64 + 5)
        assert (last == [OK] * 3) == (held_bytes <= max_transaction_bytes)


class TestSeveralSets:
    """MSET."""

    @pytest.mark.parametrize("pairs", [1, 2, 4, 5, 10, 49, 50])
    def test_all_are_set(self, server: RespServer, pairs: int) -> None:
        server.limits.max_arguments = 101
        connection = server.connect()
        arguments = [f"{letter}{number}" for number in range(pairs) for letter in "kv"]
        mset = request("mSeT", *arguments)
        assert replies_to(connection, mset + mset + request("GET", "k0")) == [OK, OK, b"v0"]
        assert connection.requests == 3
        entries = {f"k{number}".encode(): f"v{number}".encode() for number in range(pairs)}
        assert {key: server.bench.storage.get(key) for key in entries} == entries

    def test_last_value_of_a_key_stays(self, server: RespServer) -> None:
        replies_to(server.connect(), request("MSET", *("a", "1", "b", "2", "a", "3"), *["c", "4"] * 5))
        assert server.bench.storage.get(b"a") == b"3"

    def test_level_that_is_rolled_back_takes_them_along(self, server: RespServer) -> None:
        data = request("START") + request("MSET", *["a", "v"] * 6) + request("GET", "a") + request("ROLLBACK")
        assert replies_to(server.connect(), data) == [OK, OK, b"v", OK]
        assert server.bench.storage.get(b"a") is None

    def test_queue_takes_it(self, server: RespServer) -> None:
        data = request("MULTI") + request("MSET", *["a", "v"] * 6) + request("GET", "a") + request("EXEC")
        assert replies_to(server.connect(), data) == [OK, QUEUED, QUEUED, [OK, b"v"]]

    def test_changed_watched_key_is_a_conflict(self, server: RespServer) -> None:
        mine, other = server.connect(), server.connect()
        ask(mine, b"WATCH", b"b")
        replies_to(other, request("MSET", *["a", "v"] * 5, "b", "v"))
        assert replies_to(mine, puts(a="1"))[-1] == NULL_ARRAY

    def test_full_engine_applies_nothing(self) -> None:
        server = RespServer(storage=MemoryStorage(1000, UNLIMITED))
        server.limits.max_value_bytes = 2000
        mset = request("MSET", *["a", "v"] * 5, "b", "x" * 1000)
        assert repr(replies_to(server.connect(), mset)[0]).startswith("-b'LIMIT ")
        assert server.bench.storage.get(b"a") is None

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["a"], "ERR wrong number of arguments for 'mset' command"),
            (["a", "v"] * 6 + ["b"], "ERR wrong number of arguments for 'mset' command"),
            (["a", "v"] * 6 + ["", "v"], "ERR a key cannot be empty"),
            (["a", "v"] * 6 + ["b", "v" * 101], "ERR The value has 101 bytes; max_value_bytes is 100."),
        ],
    )
    def test_what_is_wrong_is_refused(self, server: RespServer, arguments: list[str], message: str) -> None:
        connection = server.connect()
        assert replies_to(connection, request("MSET", *arguments) + request("GET", "a")) == [error(message), NULL]

    @pytest.mark.parametrize(("limit", "value"), [("max_arguments", 12), ("max_request_bytes", 13 * 65)])
    def test_limits_of_requests_are_the_same(self, server: RespServer, limit: str, value: int) -> None:
        setattr(server.limits, limit, value)
        connection = server.connect()
        (refused,) = replies_to(connection, request("MSET", *["a", "v"] * 6))
        assert repr(refused).startswith("-b'ERR Protocol error")
        assert server.bench.storage.get(b"a") is None

    def test_share_of_a_tick_counts_its_keys(self, server: RespServer) -> None:
        """Long pipelines give way to others as they would on the long way."""
        connection = server.connect()
        mset = request("MSET", *["a", "v"] * 40)
        connection.receive(mset * 100)
        assert connection.backlog
        assert 1 <= connection.requests <= server.limits.max_tick_requests // 40 + 1

    def test_it_is_run_when_all_of_it_has_come(self, server: RespServer) -> None:
        data = request("MSET", *["a", "v"] * 6)
        for cut in range(1, len(data)):
            connection = server.connect()
            assert replies_to(connection, data[:cut]) == []
            assert replies_to(connection, data[cut:]) == [OK]


@pytest.mark.parametrize("first", [-1001, -13, 0, 97, 997, 1021, 99998, 2**62 - 2, 2**63 - 5])
def test_incr_counts(server: RespServer, first: int) -> None:
    """Over the borders of what is looked up and of what fits into a register."""
    data = request("SET", "a", first) + request("INCR", "a") * 4
    assert replies_to(server.connect(), data) == [OK, *range(first + 1, first + 5)]
    assert server.bench.storage.get(b"a") == b"%d" % (first + 4)


class TestSetWithDeadline:
    """SET with EX or PX after the value."""

    @pytest.mark.parametrize(
        ("unit", "amount", "lifetime_ms"),
        [
            *(("EX", "5", 5000), ("ex", "5", 5000), ("PX", "5", 5), ("pX", "1234567890", 1_234_567_890)),
            *(("EX", "999999999999", 999_999_999_999_000), ("EX", "1000000000000", 1_000_000_000_000_000)),
            *(("PX", "9007199253740992", 9_007_199_253_740_992), ("EX", "9007199253740", 9_007_199_253_740_000)),
        ],
    )
    def test_deadline_is_set(self, server: RespServer, unit: str, amount: str, lifetime_ms: int) -> None:
        connection = server.connect()
        sets = request("SET", "a", "v", unit, amount) + request("GET", "a") + request("SET", "b", "w")
        assert replies_to(connection, sets) == [OK, b"v", OK]
        assert server.bench.storage.get(b"a") == Record(b"v", 1_000_000 + lifetime_ms)
        assert server.bench.storage.get(b"b") == b"w"
        assert connection.client_info().last_command == "set"
        assert connection.requests == 3

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            *[(("EX", amount), NO_TIME) for amount in ("0", "-1", "9007199254741")],
            *[(("PX", amount), NO_INTEGER) for amount in ("01", "x", "", "1.5", "5x", "+5")],
            *[
                (options, "syntax error")
                for options in (("AX", "1"), ("EX\r\n$1\r\n5", ""), ("XX", "XE"), ("E", "1"), ("EXA", "1"))
            ],
        ],
    )
    def test_what_is_wrong_is_refused(self, server: RespServer, options: tuple[str, str], message: str) -> None:
        sets = request("SET", "a", "v", *options) + request("GET", "a")
        assert replies_to(server.connect(), sets) == [error(f"ERR {message}"), NULL]

    def test_other_options_have_their_effect(self, server: RespServer) -> None:
        sets = [request("SET", "a", "v", *options) for options in (("NX", "GET"), ("XX", "GET"), ("NX", "NX"))]
        assert replies_to(server.connect(), b"".join(sets)) == [NULL, b"v", NULL]

    def test_limit_of_arguments_is_the_same(self, server: RespServer) -> None:
        server.limits.max_arguments = 4
        (refused,) = replies_to(server.connect(), request("SET", "a", "v", "EX", 5))
        assert repr(refused).startswith("-b'ERR Protocol error")

    def test_level_that_is_rolled_back_takes_it_along(self, server: RespServer) -> None:
        data = request("START") + request("SET", "a", "v", "EX", 5) + request("TTL", "a") + request("ROLLBACK")
        assert replies_to(server.connect(), data) == [OK, OK, 5, OK]
        assert server.bench.storage.get(b"a") is None

    def test_read_only_transaction_refuses_it(self, server: RespServer) -> None:
        _, refused = replies_to(server.connect(), request("START", "READONLY") + request("SET", "a", "v", "EX", 5))
        assert repr(refused).startswith("-b'ERR ")

    @pytest.mark.parametrize(("value", "stays"), [("v" * 100, True), ("v" * 101, False)])
    def test_limit_of_values_is_the_same(self, server: RespServer, value: str, stays: bool) -> None:
        replies_to(server.connect(), request("SET", "a", value, "EX", 5))
        assert (server.bench.storage.get(b"a") is not None) == stays

    def test_it_is_run_when_all_of_it_has_come(self, server: RespServer) -> None:
        data = request("SET", "a", "v", "PX", 1234)
        for cut in range(1, len(data)):
            connection = server.connect()
            assert replies_to(connection, data[:cut]) == []
            assert replies_to(connection, data[cut:]) == [OK]
