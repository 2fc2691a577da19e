"""LCS, against the textbook's table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.adapters.inbound.resp.commands.lcs import BLOCK, Range, Table
from kvs.ports.session import Work
from tests.support.resp_connection import RespServer, answer, ask
from tests.support.resp_wire import Reply, error, request
from tests.support.sessions import shares


def reference(first: bytes, second: bytes) -> tuple[int, list[Range]]:
    """Return the length, and the ranges that Redis chooses, the last one first."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, one in enumerate(first, 1):
        above, row = table[i - 1], table[i]
        for j, other in enumerate(second, 1):
            row[j] = above[j - 1] + 1 if one == other else max(above[j], row[j - 1])
    ranges: list[Range] = []
    i, j = len(first), len(second)
    while i and j:
        if first[i - 1] == second[j - 1]:
            i, j = i - 1, j - 1
            if ranges and ranges[-1][:2] == (i + 1, j + 1):
                ranges[-1] = (i, j, ranges[-1][2] + 1)
            else:
                ranges.append((i, j, 1))
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return table[-1][-1], ranges


def compared(first: bytes, second: bytes) -> None:
    """Assert that a table is the same as the textbook's."""
    work = Work()
    table = Table(first, second, work, keeps_rows=True)
    _, length = shares(table.length(), work)
    _, ranges = shares(table.ranges(), work)
    assert (length, ranges) == reference(first, second)
    assert shares(Table(first, second, work, keeps_rows=False).length(), work)[1] == length


WORDS = st.text("abc", max_size=40).map(str.encode)


@given(first=WORDS, second=WORDS)
def test_short_values(first: bytes, second: bytes) -> None:
    """Of few letters, so that there are many subsequences to choose from."""
    compared(first, second)


@given(first=st.binary(max_size=20), second=st.binary(max_size=200))
def test_any_bytes(first: bytes, second: bytes) -> None:
    """In both orders, as the shorter value is always the one of the rows."""
    compared(first, second)
    compared(second, first)


LONG = [
    b"a" * (BLOCK + 10),
    (b"abcd" * BLOCK)[: 2 * BLOCK],
    b"x" * BLOCK + b"abc" + b"x" * BLOCK + b"ddd",
    b"d" + b"x" * (BLOCK - 2) + b"ab" + b"ca",  # "ab" is on both sides of the border
]
SHORT = [(b"aaaa", b"zz"), (b"abcd", b"dddd"), (b"abcd", b"dxab"), (b"abcd", b"dxab")]
"""Two for each of these, as the textbook's table takes long."""


@pytest.mark.parametrize(("long", "short"), [(LONG[at], short) for at, two in enumerate(SHORT) for short in two])
def test_values_of_several_blocks(long: bytes, short: bytes) -> None:
    """A carry goes from one block to the next, and the walk goes back."""
    compared(long, short)
    compared(short, long)


def test_a_table_makes_way_for_others() -> None:
    """After every block of a row."""
    work = Work()
    table = Table(LONG[2], b"abcd", work, keeps_rows=True)
    yields, _ = shares(table.length(), work, units=1)
    assert yields == 4 * 3
    yields, _ = shares(table.ranges(), work, units=1)
    assert yields >= 3


@pytest.mark.parametrize("keeps_rows", [False, True])
def test_the_memory_of_a_table_is_known_before(keeps_rows: bool) -> None:
    """It is at most twice what it has to be, for a bit of each cell."""
    table = Table(bytes(1000), b"ab" * 2000, Work(), keeps_rows=keeps_rows)
    rows = 1000 if keeps_rows else 1
    assert (256 + rows) * 4000 // 8 <= table.held_bytes() <= 2 * (256 + rows) * 4000 // 8


def server(max_value_bytes: int = 1 << 20) -> RespServer:
    """Return a server of long values."""
    server = RespServer()
    server.limits.max_value_bytes = max_value_bytes
    return server


TOO_MANY = error("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")


def test_a_table_of_too_many_cells_is_refused() -> None:
    """A bit for each cell may take as much memory as a value."""
    resp = server(max_value_bytes=2)
    connection = resp.connect()
    resp.bench.storage.put(b"a", b"xyz")
    resp.bench.storage.put(b"b", b"xyz")
    resp.bench.storage.put(b"c", b"xyzx")
    assert ask(connection, b"LCS", b"a", b"b") == b"xyz"
    for words in ((b"a", b"c"), (b"c", b"a", b"LEN")):
        assert ask(connection, b"LCS", *words) == TOO_MANY


@pytest.mark.parametrize(
    ("options", "reply"),
    [
        ((), b"mytext"),
        ((b"LEN",), 6),
        ((b"len", b"minmatchlen", b"100", b"WITHMATCHLEN"), 6),
        ((b"IDX",), [b"matches", [[[4, 7], [5, 8]], [[2, 3], [0, 1]]], b"len", 6]),
        ((b"IDX", b"MINMATCHLEN", b"4", b"WITHMATCHLEN"), [b"matches", [[[4, 7], [5, 8], 4]], b"len", 6]),
        ((b"IDX", b"MINMATCHLEN", b"5"), [b"matches", [], b"len", 6]),
        ((b"IDX", b"MINMATCHLEN", b"-5", b"MINMATCHLEN", b"3"), [b"matches", [[[4, 7], [5, 8]]], b"len", 6]),
        ((b"IDX", b"LEN"), error("ERR If you want both the length and indexes, please just use IDX.")),
        ((b"MINMATCHLEN",), error("ERR syntax error")),
    ],
)
def test_replies(options: tuple[bytes, ...], reply: Reply) -> None:
    """With the options in any order, of which the last of a kind holds."""
    resp = server()
    resp.bench.storage.put(b"a", b"ohmytext")
    resp.bench.storage.put(b"b", b"mynewtext")
    assert ask(resp.connect(), b"LCS", b"a", b"b", *options) == reply
    resp.assert_nothing_is_left()


def test_ranges_are_no_more_than_a_reply_may_have() -> None:
    """Those that are left out do not count."""
    resp = RespServer(max_reply_bytes=200)
    resp.limits.max_value_bytes = 1 << 20
    resp.bench.storage.put(b"a", b"a-" * 50)
    resp.bench.storage.put(b"b", b"a+" * 50)
    connection = resp.connect()
    assert "max_reply_bytes" in str(ask(connection, b"LCS", b"a", b"b", b"IDX"))
    assert ask(connection, b"LCS", b"a", b"b", b"LEN") == 50
    assert ask(connection, b"LCS", b"a", b"b", b"IDX", b"MINMATCHLEN", b"2") == [b"matches", [], b"len", 50]
    resp.assert_nothing_is_left()


def test_who_leaves_is_charged_for_the_table_no_more() -> None:
    """Others are served meanwhile, and what they change makes no difference."""
    resp = server()
    resp.bench.storage.put(b"a", LONG[2])
    resp.bench.storage.put(b"b", b"abcd")
    connection, leaving, other = resp.connect(), resp.connect(), resp.connect()
    for each in (connection, leaving):
        each.receive(request(b"LCS", b"a", b"b"))
        assert each.backlog
    assert ask(other, b"FLUSHALL")
    leaving.close()
    assert answer(connection) == b"abcd"
    resp.assert_nothing_is_left()
