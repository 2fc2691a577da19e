"""Commands about deadlines, with a clock that the test holds: in and out of transactions of both kinds, and watched."""

import pytest

from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.application.set_times import TIMES_KEPT
from kvs.domain.values import MAX_DEADLINE_MS, Record
from tests.support.resp_connection import RespServer, ask
from tests.support.resp_wire import NULL, NULL_ARRAY, OK, QUEUED, Reply, Typed, error, words
from tests.support.sessions import UNLIMITED

NOW_MS = 1_000_000
"""What the clock shows at first."""


@pytest.fixture
def server() -> RespServer:
    """Return a server over the memory engine."""
    server = RespServer(storage=MemoryStorage(0, UNLIMITED))
    server.limits.max_value_bytes = 100
    return server


class Client:
    """A connection, spoken to in lines."""

    def __init__(self, server: RespServer) -> None:
        self._connection = server.connect()

    def says(self, line: str) -> Reply:
        """Return the reply to a line."""
        return ask(self._connection, *words(line))

    def says_all(self, *lines: str) -> list[Reply]:
        """Return the replies to several lines."""
        return [self.says(line) for line in lines]


def is_conflict(reply: Reply) -> bool:
    """Return whether a COMMIT was rejected."""
    return repr(reply).startswith("-b'CONFLICT ")


class TestTimes:
    """How a time is given, and how it is told."""

    @pytest.mark.parametrize(
        ("line", "deadline_ms"),
        [
            ("SET a v EX 5", NOW_MS + 5000),
            ("SET a v ex 5", NOW_MS + 5000),
            ("SET a v PX 5", NOW_MS + 5),
            ("SET a v EXAT 1005", NOW_MS + 5000),
            ("SET a v PXAT 1000001", NOW_MS + 1),
            ("SET a v NX PX 5 GET", NOW_MS + 5),
            ("SETEX a 5 v", NOW_MS + 5000),
            ("PSETEX a 5 v", NOW_MS + 5),
            ("MSETEX 2 a v b w PX 5", NOW_MS + 5),
            ("MSETEX 1 a v EXAT 1005 NX", NOW_MS + 5000),
        ],
    )
    def test_value_has_the_deadline(self, server: RespServer, line: str, deadline_ms: int) -> None:
        Client(server).says(line)
        assert server.bench.storage.get(b"a") == Record(b"v", deadline_ms)

    @pytest.mark.parametrize(
        ("line", "deadline_ms"),
        [
            ("EXPIRE a 5", NOW_MS + 5000),
            ("PEXPIRE a 5", NOW_MS + 5),
            ("EXPIREAT a 1005", NOW_MS + 5000),
            ("PEXPIREAT a 1000001", NOW_MS + 1),
            ("GETEX a EX 5", NOW_MS + 5000),
            ("GETEX a PX 5", NOW_MS + 5),
            ("GETEX a EXAT 1005", NOW_MS + 5000),
            ("GETEX a PXAT 1000001", NOW_MS + 1),
        ],
    )
    def test_key_gets_the_deadline(self, server: RespServer, line: str, deadline_ms: int) -> None:
        client = Client(server)
        client.says("SET a v")
        client.says(line)
        assert server.bench.storage.get(b"a") == Record(b"v", deadline_ms)
        assert client.says("PEXPIRETIME a") == deadline_ms

    def test_time_left_goes_down_and_is_rounded(self, server: RespServer) -> None:
        client = Client(server)
        client.says("SET a v PX 2500")
        for passed_s, left in ((0, [3, 2500]), (0.001, [2, 2499]), (1, [1, 1499]), (1.25, [0, 249])):
            server.pass_time(passed_s)
            assert client.says_all("TTL a", "PTTL a") == left
        assert client.says_all("EXPIRETIME a", "PEXPIRETIME a") == [1003, NOW_MS + 2500]

    @pytest.mark.parametrize("lifetime", ["EX 5", "PX 5000", "EXAT 1005", "PXAT 1005000"])
    def test_key_is_absent_from_its_deadline_on(self, server: RespServer, lifetime: str) -> None:
        client = Client(server)
        client.says_all("SET stays v", f"SET a v {lifetime}")
        server.pass_time(4.999)
        assert client.says_all("GET a", "PTTL a", "DBSIZE") == [b"v", 1, 2]
        server.pass_time(0.001)
        assert client.says_all("GET a", "PTTL a", "EXISTS a", "DBSIZE", "KEYS *") == [NULL, -2, 0, 1, [b"stays"]]
        assert client.says_all("INCR a", "TTL a") == [1, -1]

    @pytest.mark.parametrize("line", ["SET a w PXAT {}", "PEXPIREAT a {}", "GETEX a PXAT {}", "MSETEX 1 a w PXAT {}"])
    def test_latest_deadline(self, server: RespServer, line: str) -> None:
        client = Client(server)
        client.says("SET a v")
        name = line.split(maxsplit=1)[0].lower()
        assert client.says(line.format(MAX_DEADLINE_MS + 1)) == error(f"ERR invalid expire time in '{name}' command")
        client.says(line.format(MAX_DEADLINE_MS))
        assert client.says("PEXPIRETIME a") == MAX_DEADLINE_MS

    @pytest.mark.parametrize("line", ["SET a w PX {}", "PEXPIRE a {}", "GETEX a PX {}", "PSETEX a {} w"])
    def test_latest_deadline_from_now(self, server: RespServer, line: str) -> None:
        client = Client(server)
        client.says("SET a v")
        name = line.split(maxsplit=1)[0].lower()
        latest_ms = MAX_DEADLINE_MS - NOW_MS
        assert client.says(line.format(latest_ms + 1)) == error(f"ERR invalid expire time in '{name}' command")
        client.says(line.format(latest_ms))
        assert client.says("PEXPIRETIME a") == MAX_DEADLINE_MS

    @pytest.mark.parametrize(
        "line",
        ["SET a w PXAT 1000000", "EXPIRE a 0", "PEXPIREAT a 1000000", "GETEX a EXAT 9", "MSETEX 1 a w EXAT 1"],
    )
    def test_deadline_that_has_passed_deletes(self, server: RespServer, line: str) -> None:
        client = Client(server)
        client.says("SET a v")
        client.says(line)
        assert server.bench.storage.get(b"a") is None
        assert client.says_all("SET a v", "START")
        client.says(line)
        assert client.says_all("GET a", "COMMIT", "GET a") == [NULL, OK, NULL]


class TestTransactions:
    """START, COMMIT and ROLLBACK."""

    def test_deadline_of_a_level_that_is_rolled_back_is_not_set(self, server: RespServer) -> None:
        client = Client(server)
        client.says_all("MSET a v b v", "START", "EXPIRE b 5", "START", "EXPIRE a 5", "SET c v EX 5")
        assert client.says_all("TTL a", "TTL c", "ROLLBACK", "TTL a", "TTL c") == [5, 5, OK, -1, -2]
        assert client.says_all("TTL b", "COMMIT") == [5, OK]
        assert [server.bench.storage.get(key) for key in (b"a", b"b", b"c")] == [
            b"v",
            Record(b"v", NOW_MS + 5000),
            None,
        ]

    def test_others_see_the_deadline_from_the_commit_on(self, server: RespServer) -> None:
        client, other = Client(server), Client(server)
        client.says_all("SET a v", "START", "EXPIRE a 5")
        assert other.says("TTL a") == -1
        client.says("COMMIT")
        assert other.says("TTL a") == 5

    def test_clock_of_a_transaction_stands_still(self, server: RespServer) -> None:
        client, other = Client(server), Client(server)
        client.says_all("SET a v EX 5", "START")
        server.pass_time(10)
        assert other.says_all("GET a", "TTL a") == [NULL, -2]
        assert client.says_all("GET a", "PTTL a") == [b"v", 5000]

    def test_time_left_is_never_more_than_was_set(self, server: RespServer) -> None:
        """Though the clock of the transaction is behind that from which it counts; and that stands still, too."""
        client = Client(server)
        client.says_all("SET a v", "SET c v PX 60000", "START", "GET a")
        server.pass_time(10)
        assert client.says_all("SET b v PX 5000", "PTTL b", "EXPIRE a 5", "PTTL a") == [OK, 5000, 1, 5000]
        server.pass_time(1)
        assert client.says_all("PTTL b", "PTTL a", "EXPIRE a 3", "PTTL a") == [5000, 5000, 1, 3000]
        assert client.says_all("APPEND c w", "PTTL c") == [2, 60000]
        assert client.says_all("START", "PEXPIRE a 9000", "PTTL a", "ROLLBACK", "PTTL a") == [OK, 1, 9000, OK, 3000]
        assert client.says_all("RENAME b d", "PTTL d", "COMMIT") == [OK, 4000, OK]
        assert client.says_all("PTTL a", "PTTL c", "PTTL d") == [3000, 49000, 4000]

    def test_of_many_deadlines_none_seems_longer_than_it_was_set(self, server: RespServer) -> None:
        """However many there are: what is known of them is bounded."""
        client = Client(server)
        client.says("START")
        for number in range(3 * TIMES_KEPT):
            server.pass_time(1)
            client.says(f"SET k{number} v PX {5000 + number}")
        left = [client.says(f"PTTL k{number}") for number in range(3 * TIMES_KEPT)]
        assert left[-TIMES_KEPT:] == [5000 + number for number in range(2 * TIMES_KEPT, 3 * TIMES_KEPT)]
        assert all(isinstance(one, int) and one <= 5000 + number for number, one in enumerate(left))

    def test_pending_record_stays_until_the_commit(self, server: RespServer) -> None:
        client, other = Client(server), Client(server)
        client.says_all("START", "SET a v EX 5")
        server.pass_time(10)
        assert client.says_all("GET a", "TTL a", "COMMIT") == [b"v", 5, OK]
        server.pass_time(0)
        assert other.says("GET a") == NULL

    @pytest.mark.parametrize(
        "read",
        ["GET a", "TTL a", "PEXPIRETIME a", "PERSIST a", "EXPIRE a 5 NX", "GETEX a PERSIST", "SET a w KEEPTTL"],
    )
    def test_key_that_was_read_and_expires_is_a_conflict(self, server: RespServer, read: str) -> None:
        client = Client(server)
        client.says_all("SET a v EX 5", "START", read, "SET b v")
        server.pass_time(5)
        assert is_conflict(client.says("COMMIT"))

    @pytest.mark.parametrize("write", ["SET a w EX 7", "SETEX a 7 w", "SET a w", "MSETEX 1 a w EX 7"])
    def test_key_that_was_only_written_and_expires_is_none(self, server: RespServer, write: str) -> None:
        client = Client(server)
        client.says_all("SET a v EX 5", "START", write)
        server.pass_time(5)
        assert client.says("COMMIT") == OK
        assert client.says("GET a") == b"w"

    def test_transaction_that_only_reads_does_not_conflict(self, server: RespServer) -> None:
        client = Client(server)
        client.says_all("SET a v EX 5", "START", "GET a", "TTL a")
        server.pass_time(5)
        assert client.says("COMMIT") == OK

    @pytest.mark.parametrize("condition", ["EXPIRE a 5 XX", "PEXPIREAT a 1 GT", "PERSIST a", "TTL a"])
    def test_deadline_that_another_sets_is_a_conflict(self, server: RespServer, condition: str) -> None:
        """Also if a condition on it did not hold, and nothing was written for it."""
        client, other = Client(server), Client(server)
        client.says_all("SET a v", "START", condition, "SET b v")
        other.says("EXPIRE a 5")
        assert is_conflict(client.says("COMMIT"))

    @pytest.mark.parametrize(
        "line",
        [
            *("SET a w EX 5", "SET a w PXAT 1", "SET a w NX EX 5", "SETEX a 5 w", "PSETEX a 5 w", "GETEX a EX 5"),
            *("GETEX a PERSIST", "GETEX nope PERSIST", "EXPIRE a 5", "EXPIRE a 5 XX", "PEXPIREAT nope 1", "PERSIST a"),
            *("DELEX a", "DELEX a IFEQ v", "DELIFEQ a x", "MSETEX 1 a w", "MSETEX 1 a w XX EX 5"),
        ],
    )
    def test_read_only_transaction_refuses_it(self, server: RespServer, line: str) -> None:
        client = Client(server)
        client.says_all("SET a v", "START READONLY")
        reply = client.says(line)
        assert isinstance(reply, Typed)
        assert reply.kind == "-"
        assert client.says_all("GET a", "TTL a", "TOUCH a nope", "OBJECT ENCODING a") == [b"v", -1, 1, b"raw"]
        assert client.says("COMMIT") == OK

    def test_rename_and_copy_take_the_deadline_along(self, server: RespServer) -> None:
        client = Client(server)
        client.says_all("SET a v EX 5", "SET b v", "START", "RENAME a c", "COPY c d", "RENAME b c")
        assert client.says_all("TTL a", "TTL b", "TTL c", "TTL d", "COMMIT") == [-2, -2, -1, 5, OK]
        assert client.says_all("TTL c", "TTL d") == [-1, 5]


class TestQueues:
    """MULTI, EXEC and WATCH."""

    def test_relative_deadline_counts_from_exec(self, server: RespServer) -> None:
        client = Client(server)
        assert client.says_all("MULTI", "SET a v EX 5", "TTL a") == [OK, QUEUED, QUEUED]
        server.pass_time(10)
        assert client.says("EXEC") == [OK, 5]
        assert client.says("PEXPIRETIME a") == NOW_MS + 15_000

    def test_watched_key_that_expires(self, server: RespServer) -> None:
        client = Client(server)
        client.says_all("SET a v EX 5", "WATCH a", "MULTI", "SET b v")
        server.pass_time(5)
        assert client.says("EXEC") == NULL_ARRAY
        assert client.says_all("EXISTS b", "WATCH a", "MULTI", "SET b v", "EXEC") == [0, OK, OK, QUEUED, [OK]]

    @pytest.mark.parametrize(
        ("line", "changes"),
        [
            *(("EXPIRE a 9", True), ("EXPIRE a 9 NX", False), ("PERSIST a", True), ("PERSIST b", False)),
            *(("GETEX a", False), ("GETEX a PERSIST", True), ("GETEX b PERSIST", False), ("TTL a", False)),
            *(("EXPIRE a 0", True), ("PEXPIREAT nope 1", False), ("SET nope v PXAT 1", False), ("DELIFEQ a x", False)),
        ],
    )
    def test_what_another_does_to_a_watched_key(self, server: RespServer, line: str, changes: bool) -> None:
        client, other = Client(server), Client(server)
        client.says_all("SET a v EX 5", "SET b v", "WATCH a b nope", "MULTI", "PING")
        other.says(line)
        assert (client.says("EXEC") == NULL_ARRAY) == changes


class TestUpdates:
    """What becomes of a deadline when the value changes."""

    @pytest.mark.parametrize("line", ["INCR a", "INCRBYFLOAT a 0.5", "APPEND a 1", "SETRANGE a 0 7", "SET a 1 KEEPTTL"])
    def test_update_keeps_it(self, server: RespServer, line: str) -> None:
        assert Client(server).says_all("SET a 1 EX 5", line, "TTL a")[-1] == 5

    @pytest.mark.parametrize("line", ["SET a 1", "GETSET a 1", "MSET a 1", "SET a 1 XX", "MSETEX 1 a 1", "SET a 1 GET"])
    def test_new_value_removes_it(self, server: RespServer, line: str) -> None:
        assert Client(server).says_all("SET a 1 EX 5", line, "TTL a")[-1] == -1


class TestLaterCommands:
    """SET with IFEQ and IFNE, DELEX, DELIFEQ and MSETEX, which Redis 7 has not."""

    def test_set_if_equal(self, server: RespServer) -> None:
        client = Client(server)
        assert client.says_all("SET a w IFEQ v", "SET a v", "SET a w IFEQ x", "SET a w IFEQ v EX 5 GET") == [
            NULL,
            OK,
            NULL,
            b"v",
        ]
        assert client.says_all("GET a", "TTL a", "SET a x KEEPTTL IFEQ w", "TTL a") == [b"w", 5, OK, 5]
        assert client.says_all("SET a y ifeq nope GET", "GET a", "SET a y PXAT 1 IFEQ x", "EXISTS a") == [
            b"x",
            b"x",
            OK,
            0,
        ]

    def test_set_if_unequal(self, server: RespServer) -> None:
        assert Client(server).says_all("SET a v IFNE x", "SET a w IFNE v", "SET a w IFNE x", "GET a") == [
            OK,
            NULL,
            OK,
            b"w",
        ]

    @pytest.mark.parametrize(
        "options", ["IFEQ", "IFEQ v NX", "XX IFNE v", "IFEQ v IFNE v", "IFEQ v FOO", "IFEQ v EX", "IFEQ v EX 5 PX 5"]
    )
    def test_options_that_do_not_go_together(self, server: RespServer, options: str) -> None:
        assert Client(server).says_all("SET a v", f"SET a w {options}", "GET a") == [
            OK,
            error("ERR syntax error"),
            b"v",
        ]

    def test_delete_if_equal(self, server: RespServer) -> None:
        client = Client(server)
        assert client.says_all("DELIFEQ a v", "SET a v EX 5", "DELIFEQ a w", "DELIFEQ a v", "EXISTS a") == [
            0,
            OK,
            0,
            1,
            0,
        ]
        assert client.says_all("DELEX a IFEQ v", "DELEX a IFNE v", "DELEX a", "SET a v", "DELEX a IFEQ w") == [
            *(0, 0, 0, OK, 0),
        ]
        assert client.says_all("DELEX a ifne v", "DELEX a IFNE w", "SET a v", "DELEX a IFEQ v") == [0, 1, OK, 1]
        assert client.says_all("SET a v", "DELEX a", "EXISTS a") == [OK, 1, 0]

    def test_what_delex_refuses(self, server: RespServer) -> None:
        client = Client(server)
        arity = error("ERR wrong number of arguments for 'delex' command")
        assert client.says_all("SET a v", "DELEX a IFEQ", "DELEX a IFEQ v v", "DELEX a NX v", "DELEX a IFDEQ v") == [
            OK,
            arity,
            arity,
            error("ERR Invalid condition. Use IFEQ or IFNE"),
            error("ERR IFDEQ and IFDNE are not supported: there are no digests of values; use IFEQ or IFNE"),
        ]
        assert client.says("GET a") == b"v"

    def test_many_values_if_none_or_all_are_there(self, server: RespServer) -> None:
        client = Client(server)
        assert client.says_all("MSETEX 2 a 1 b 1 XX", "EXISTS a b", "MSETEX 2 a 1 b 1 NX EX 5", "TTL b") == [0, 0, 1, 5]
        assert client.says_all("MSETEX 2 b 2 c 2 NX", "MSETEX 2 b 2 c 2 XX", "MGET a b c") == [0, 0, [b"1", b"1", NULL]]
        assert client.says_all("MSETEX 2 a 2 b 2 KEEPTTL XX", "TTL a", "GET b", "MSETEX 2 b 3 c 3 KEEPTTL") == [
            *(1, 5, b"2", 1),
        ]
        assert client.says_all("TTL b", "TTL c", "MSETEX 2 a 4 c 4 PXAT 1 XX", "EXISTS a b c") == [5, -1, 1, 1]
        assert client.says_all("MSETEX 2 d 1 d 2", "GET d", "TTL d") == [1, b"2", -1]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("MSETEX x a 1", "invalid numkeys value"),
            ("MSETEX 0 a 1", "invalid numkeys value"),
            ("MSETEX -1 a 1", "invalid numkeys value"),
            ("MSETEX 2147483648 a 1", "invalid numkeys value"),
            ("MSETEX 2 a 1 b", "wrong number of key-value pairs"),
            ("MSETEX 2 a 1", "wrong number of key-value pairs"),
            ("MSETEX 1 a 1 b 2", "syntax error"),
            ("MSETEX 1 a 1 NX XX", "syntax error"),
            ("MSETEX 1 a 1 EX 5 KEEPTTL", "syntax error"),
            ("MSETEX 1 a 1 IFEQ 1", "syntax error"),
            ("MSETEX 1 a 1 GET", "syntax error"),
            ("MSETEX 1 a 1 EX x", "value is not an integer or out of range"),
            ("MSETEX 1 a 1 EX 0", "invalid expire time in 'msetex' command"),
            ("MSETEX 1 a", "wrong number of arguments for 'msetex' command"),
        ],
    )
    def test_what_msetex_refuses(self, server: RespServer, line: str, message: str) -> None:
        assert Client(server).says_all(line, "DBSIZE") == [error(f"ERR {message}"), 0]

    @pytest.mark.parametrize(
        ("line", "keys"),
        [("MSETEX 2 a 1 b 2 EX 5", [b"a", b"b"]), ("MSETEX 1 a 1", [b"a"]), ("DELEX a IFEQ b", [b"a"])],
    )
    def test_keys_are_known(self, server: RespServer, line: str, keys: list[Reply]) -> None:
        assert Client(server).says(f"COMMAND GETKEYS {line}") == keys

    @pytest.mark.parametrize("numkeys", ["2", "0", "x", "-1", "99999999999999999999"])
    def test_keys_of_a_wrong_number_are_none(self, server: RespServer, numkeys: str) -> None:
        refused = error("ERR Invalid arguments specified for command")
        for subcommand in ("GETKEYS", "GETKEYSANDFLAGS"):
            assert Client(server).says(f"COMMAND {subcommand} MSETEX {numkeys} a 1") == refused


def test_time_is_that_by_which_deadlines_are_judged(server: RespServer) -> None:
    """Also where the wall clock shows another."""
    server.shared.clock = lambda: 5.0
    client = Client(server)
    assert client.says("TIME") == [b"1000", b"0"]
    server.pass_time(1.25)
    assert client.says("TIME") == [b"1001", b"250000"]
    client.says("SET k v PXAT 1001251")
    assert client.says("PTTL k") == 1
