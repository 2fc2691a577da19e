"""KEYS of the line protocol among keys that it cannot show, and keys that no line can tell it to go on from."""

import re
from itertools import chain

import pytest

from kvs.adapters.inbound.line.keys import NO_NEXT_PAGE, PAGE_KEYS
from kvs.domain.keyspace import stored_key

from .test_connection import MAX_LINE_BYTES, Wire, check, result, ticks_of

NOT_SHOWN = re.compile(r"(\d+) keys? (?:is|are) not UTF-8 and cannot be shown\.")


def holding(*keys: bytes, max_tick_requests: int = 1 << 20) -> Wire:
    """Return a connection to an engine with these keys."""
    wire = Wire(max_tick_requests=max_tick_requests)
    for key in keys:
        wire.bench.storage.put(stored_key(key), b"")
    return wire


def numbered(form: bytes, count: int) -> list[bytes]:
    """Return keys, in order."""
    return [form % number for number in range(count)]


def listed(wire: Wire, line: bytes = b"KEYS") -> tuple[list[list[bytes]], int]:
    """Type what the messages of KEYS say; return the pages, and how many keys all of them together do not show."""
    pages: list[list[bytes]] = []
    not_shown = 0
    while True:
        wire.output = b""
        (reply,) = wire.feed([line + b"\n"]).replies()
        pages.append([key.encode() for key in reply["result"]])
        message = reply.get("mesg", "")
        not_shown += sum(map(int, NOT_SHOWN.findall(message)))
        _, more, following = message.partition("There are more; go on with: ")
        if not more:
            return pages, not_shown
        line = following.encode()


def test_keys_list_what_can_be_shown_and_count_the_others() -> None:
    """One, and several, under a prefix and beside it."""
    wire = holding(b"a", b"a\xff", b"b", b"b\xc3", b"b\xfe", "é".encode(), b"\xff")
    wire.feed([b"KEYS\nKEYS a\nKEYS b\nKEYS  b\nKEYS a a\nKEYS c\nCOUNT\n"])
    assert wire.replies() == [
        result(["a", "b", "é"], "4 keys are not UTF-8 and cannot be shown."),
        result(["a"], "1 key is not UTF-8 and cannot be shown."),
        result(["b"], "2 keys are not UTF-8 and cannot be shown."),
        result(["é"], "3 keys are not UTF-8 and cannot be shown."),
        result([], "1 key is not UTF-8 and cannot be shown."),
        result([]),
        result(7),
    ]


@pytest.mark.parametrize("inside", [b"PING\n", "START\nPUT ké 1\nDEL k0\n".encode(), b"START READONLY\n"])
@pytest.mark.parametrize("run", [1, PAGE_KEYS, 6 * PAGE_KEYS])
def test_keys_lose_no_key_between_pages_and_count_each_once(inside: bytes, run: int) -> None:
    """However many cannot be shown in a row: the pages of the others are as long as ever."""
    shown = [*numbered(b"a%05d", PAGE_KEYS + 1), *numbered(b"z%05d", PAGE_KEYS + 1)]
    wire = holding(*shown, *numbered(b"k%05d\xff", run), b"k0", b"a00500\xff", b"z01000\xff").feed([inside])
    changed = b"START\n" in inside
    pages, not_shown = listed(wire)
    assert list(chain(*pages)) == sorted([*shown, "ké".encode() if changed else b"k0"])
    assert [len(page) for page in pages] == [PAGE_KEYS, PAGE_KEYS, 3]
    assert not_shown == run + 2


def test_keys_count_what_comes_behind_a_page_on_the_next() -> None:
    """A page tells of what lies between its keys, and the last one of all that follows."""
    wire = holding(*numbered(b"%05d", PAGE_KEYS), b"00999\xff", b"01000", b"01000\xff")
    first, second = wire.feed([b"KEYS\nKEYS  00999\n"]).replies()
    assert first["mesg"] == "There are more; go on with: KEYS  00999"
    assert second == result(["01000"], "2 keys are not UTF-8 and cannot be shown.")


def test_keys_make_way_while_they_pass_over_others() -> None:
    """It takes several ticks, is one answer, and what is asked behind it waits."""
    wire = holding(*numbered(b"%05d\xff", 10 * PAGE_KEYS), max_tick_requests=PAGE_KEYS)
    ticks = ticks_of(wire, b"KEYS\nPING\n")
    assert len(ticks) > 2
    assert ticks[0] == 0
    check(wire, [result([], f"{10 * PAGE_KEYS} keys are not UTF-8 and cannot be shown."), result("PONG")])
    wire.connection.close()
    wire.bench.assert_nothing_is_held()


@pytest.mark.parametrize("passed_over", [[], [b"\xff"]], ids=["all shown", "one passed over"])
@pytest.mark.parametrize(("unit", "bytes_per_unit"), [(b"\x01", 128), (b'"', 128), ("é".encode(), 1024)])
def test_keys_make_way_while_they_escape_others(unit: bytes, bytes_per_unit: int, passed_over: list[bytes]) -> None:
    """A page of keys that consist of escapes takes as many ticks as a value of their length."""
    size = 8000
    keys = numbered(unit * (size // len(unit)) + b"%05d", 400)
    wire = holding(*keys, *passed_over, max_tick_requests=PAGE_KEYS)
    ticks = ticks_of(wire, b"KEYS\nPING\n")
    assert len(ticks) > size * len(keys) // bytes_per_unit // PAGE_KEYS
    message = "1 key is not UTF-8 and cannot be shown." if passed_over else None
    check(wire, [result([key.decode() for key in keys], message), result("PONG")])


UNTYPED = [b"x\ny", b"x\r", b"\n", b"\r\r", b"x" * MAX_LINE_BYTES]
"""What makes a key one that cannot be typed at the end of a line."""


@pytest.mark.parametrize("untyped", UNTYPED, ids=lambda text: repr(text[:4]))
@pytest.mark.parametrize("passed_over", [[], [b"n00500\xff"], [b"n5\xff"], [b"n00500\xff", b"n51\xff", b"n5\xff"]])
def test_keys_cuts_a_page_back_to_a_key_that_can_be_typed(untyped: bytes, passed_over: list[bytes]) -> None:
    """The next one goes on there, and no key is lost or counted twice."""
    typed = numbered(b"n%05d", PAGE_KEYS - 5)
    behind = [*[b"n5%d%b" % (number, untyped) for number in range(9)], b"n9"]
    wire = holding(*typed, *behind, *passed_over)
    assert listed(wire, b"KEYS n") == ([typed, behind], len(passed_over))


def test_longest_key_that_can_be_typed() -> None:
    """A line with one byte more would close the connection."""
    for extra, cut in ((0, 0), (1, 1)):
        keys = [*numbered(b"n%05d", PAGE_KEYS - 1), b"n5".ljust(MAX_LINE_BYTES - len(b"KEYS n ") + extra, b"x"), b"n9"]
        pages, _ = listed(holding(*keys), b"KEYS n")
        assert pages == [keys[: PAGE_KEYS - cut], keys[PAGE_KEYS - cut :]]


@pytest.mark.parametrize("form", [b"%05d\n", b"%05d\r"])
def test_keys_says_that_nothing_can_go_on_from_a_page(form: bytes) -> None:
    """All of it is shown."""
    keys = numbered(form, PAGE_KEYS + 1)
    wire = holding(*keys, b"00500\xff")
    (reply,) = wire.feed([b"KEYS\n"]).replies()
    assert [key.encode() for key in reply["result"]] == keys[:-1]
    assert reply["mesg"] == "1 key is not UTF-8 and cannot be shown. " + NO_NEXT_PAGE.decode()


def test_nothing_can_go_on_from_blanks() -> None:
    """``KEYS prefix`` with blanks behind it is the first page."""
    keys = [b"\t" * length for length in range(1, PAGE_KEYS + 2)]
    (reply,) = holding(*keys).feed([b"KEYS\n"]).replies()
    assert [key.encode() for key in reply["result"]] == keys[:-1]
    assert reply["mesg"] == NO_NEXT_PAGE.decode()
