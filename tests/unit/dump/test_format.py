"""The format of a dump: any bytes there and back, and every line that is none."""

import base64
import io
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.domain.values import MAX_DEADLINE_MS, Record, Value
from kvs.dump.format import HEADER, BadLineError, Clock, Header, Trailer, clock_line, entry_line, parse, trailer_line
from kvs.dump.reader import NumberedEntry, read_entries

if TYPE_CHECKING:
    from kvs.dump.errors import DumpError

pytestmark = pytest.mark.one_build

keys = st.one_of(st.binary(min_size=1), st.text(min_size=1).map(str.encode))
values = st.one_of(st.binary(), st.text().map(str.encode))
records = st.builds(Record, values, st.integers(1, MAX_DEADLINE_MS))


@given(keys, st.one_of(values, records))
def test_any_bytes_survive(key: bytes, value: Value) -> None:
    """One line for each entry, whatever the bytes are, with its deadline if it has one."""
    line = entry_line(key, value)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse(line[:-1]) == (key, value)


@given(keys, values)
def test_any_json_reader_understands_it(key: bytes, value: bytes) -> None:
    """Text is a string of JSON, and base64 is used only for what is no text."""
    fields = json.loads(entry_line(key, value))
    assert len(fields) == 2
    for name, data in (("key", key), ("value", value)):
        try:
            text = data.decode()
        except UnicodeDecodeError:
            assert base64.b64decode(fields[f"{name}_base64"], validate=True) == data
        else:
            assert fields[name] == text


@given(keys, values, st.booleans(), st.booleans(), st.booleans())
def test_what_other_writers_make_of_it_is_understood(
    key: bytes, value: bytes, ascii_only: bool, spaces: bool, value_first: bool
) -> None:
    """Escapes, blanks, the order of the fields, and base64 without need are the writer's choice."""
    try:
        fields = {"key": key.decode(), "value": value.decode()}
    except UnicodeDecodeError:
        fields = {"key_base64": base64.b64encode(key).decode(), "value_base64": base64.b64encode(value).decode()}
    if value_first:
        fields = dict(reversed(fields.items()))
    separators = (" , ", " : ") if spaces else (",", ":")
    line = json.dumps(fields, ensure_ascii=ascii_only, separators=separators)
    assert parse(line.encode() + b" \t\r" * spaces) == (key, value)


def test_it_looks_as_documented() -> None:
    """The very bytes."""
    assert HEADER == b'{"kvs_dump":1}\n'
    assert entry_line(b"user/1", 'Zoë "\\\n\x01\x7f/'.encode()) == (
        b'{"key":"user/1","value":"Zo\xc3\xab \\"\\\\\\n\\u0001\x7f/"}\n'
    )
    assert entry_line(b"\xff\x00", b"v") == b'{"key_base64":"/wA=","value":"v"}\n'
    assert entry_line(b"k", b"\xff") == b'{"key":"k","value_base64":"/w=="}\n'
    assert trailer_line(2) == b'{"entries":2}\n'
    assert entry_line(b"k", Record(b"v", 1764350060000)) == b'{"key":"k","value":"v","deadline_ms":1764350060000}\n'
    assert entry_line(b"k", Record(b"\xff", 1)) == b'{"key":"k","value_base64":"/w==","deadline_ms":1}\n'
    assert clock_line(1764350000000) == b'{"time_ms":1764350000000}\n'
    assert parse(b'{"time_ms":5}') == Clock(5)
    assert parse(HEADER.strip()) == Header(1)
    assert parse(trailer_line(0).strip()) == Trailer(0)


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a valid entry (empty line)"),
    "blank": (b"  ", "not a valid entry"),
    "no JSON": (b"PUT a 1", "not a valid entry"),
    "binary": (bytes(range(256)), "not a valid entry"),
    "cut": (b'{"key":"a","value":"', "not a valid entry"),
    "two objects": (b'{"key":"a","value":"b"}{"key":"a","value":"b"}', "not a valid entry"),
    "something behind": (b'{"key":"a","value":"b"},', "not a valid entry"),
    "trailing comma": (b'{"key":"a","value":"b",}', "not a valid entry"),
    "single quotes": (b"{'key':'a','value':'b'}", "not a valid entry"),
    "BOM": (b'\xef\xbb\xbf{"key":"a","value":"b"}', "not a valid entry"),
    "UTF-16": ('{"key":"a","value":"b"}'.encode("utf-16"), "not a valid entry"),
    "null": (b"null", "not a valid entry"),
    "number": (b"12", "not a valid entry"),
    "array": (b'["a","b"]', "not a valid entry"),
    "empty object": (b"{}", "neither key nor key_base64 is given"),
    "no key": (b'{"value":"b"}', "neither key nor key_base64 is given"),
    "no value": (b'{"key":"a"}', "neither value nor value_base64"),
    "empty key": (b'{"key":"","value":"b"}', "the key is empty"),
    "empty base64 key": (b'{"key_base64":"","value":"b"}', "the key is empty"),
    "both keys": (b'{"key":"a","key_base64":"YQ==","value":"b"}', "both key and key_base64"),
    "both values": (b'{"key":"a","value":"b","value_base64":"Yg=="}', "both value and value_base64"),
    "unknown field": (b'{"key":"a","vlaue":"b"}', "vlaue"),
    "one field more": (b'{"key":"a","value":"b","ttl":"1"}', "ttl"),
    "key twice": (b'{"key":"a","key":"a","value":"b"}', "key is given twice"),
    "value twice": (b'{"key":"a","value":"b","value":"c"}', "value is given twice"),
    "value twice, once escaped": (b'{"key":"a","value":"b","v\\u0061lue":"c"}', "value is given twice"),
    "header twice": (b'{"kvs_dump":1,"kvs_dump":1}', "kvs_dump is given twice"),
    "number as value": (b'{"key":"a","value":1}', "not a valid entry"),
    "null as value": (b'{"key":"a","value":null}', "not a valid entry"),
    "object as key": (b'{"key":{},"value":"b"}', "not a valid entry"),
    "bad base64": (b'{"key":"a","value_base64":"?"}', "not a valid entry"),
    "base64 without padding": (b'{"key":"a","value_base64":"Yg"}', "not a valid entry"),
    "base64 for URLs": (b'{"key":"a","value_base64":"_-8="}', "not a valid entry"),
    "base64 with a line break": (b'{"key":"a","value_base64":"Yg==\\n"}', "not a valid entry"),
    "half a surrogate": (b'{"key":"a","value":"\\ud800"}', "not a valid entry"),
    "surrogates in disorder": (b'{"key":"a","value":"\\udc00\\ud800"}', "not a valid entry"),
    "not UTF-8": (b'{"key":"a","value":"\xff"}', "not a valid entry"),
    "surrogate in UTF-8": (b'{"key":"a","value":"\xed\xa0\x80"}', "not a valid entry"),
    "raw control character": (b'{"key":"a","value":"\x01"}', "not a valid entry"),
    "entry and header": (b'{"kvs_dump":1,"key":"a","value":"b"}', "in one line"),
    "entry and trailer": (b'{"key":"a","value":"b","entries":1}', "in one line"),
    "header and trailer": (b'{"kvs_dump":1,"entries":1}', "in one line"),
    "entry and time": (b'{"time_ms":1,"key":"a","value":"b"}', "in one line"),
    "header and time": (b'{"kvs_dump":1,"time_ms":1}', "in one line"),
    "deadline alone": (b'{"deadline_ms":1}', "neither key nor key_base64 is given"),
    "header and deadline": (b'{"kvs_dump":1,"deadline_ms":1}', "in one line"),
    "no deadline": (b'{"key":"a","value":"b","deadline_ms":0}', "$.deadline_ms"),
    "null as deadline": (b'{"key":"a","value":"b","deadline_ms":null}', "$.deadline_ms"),
    "text as deadline": (b'{"key":"a","value":"b","deadline_ms":"1"}', "$.deadline_ms"),
    "fraction as deadline": (b'{"key":"a","value":"b","deadline_ms":1.5}', "$.deadline_ms"),
    "negative deadline": (b'{"key":"a","value":"b","deadline_ms":-1}', "$.deadline_ms"),
    "deadline too late": (b'{"key":"a","value":"b","deadline_ms":9007199254740993}', "$.deadline_ms"),
    "deadline twice": (b'{"key":"a","value":"b","deadline_ms":1,"deadline_ms":2}', "deadline_ms is given twice"),
    "time that is none": (b'{"time_ms":0}', "$.time_ms"),
    "negative number": (b'{"entries":-1}', "not a valid entry"),
    "fraction": (b'{"entries":1.5}', "not a valid entry"),
    "true": (b'{"entries":true}', "not a valid entry"),
    "text as number": (b'{"entries":"1"}', "not a valid entry"),
    "number of many digits": (b'{"entries":%b}' % (b"9" * 100_000), ""),
    "deep array": (b"[" * 1_000_000, "not a valid entry"),
    "deep value": (b'{"key":"a","value":' + b"[" * 1_000_000, "not a valid entry"),
    "deep object": (b'{"key":' * 500_000, "not a valid entry"),
    "long name": (b'{"%b":1}' % (b"x" * 1_000_000), "not a valid entry"),
    "terminal escapes": (b'{"\\u001b[2J\\r":1}', "not a valid entry"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_line_is_refused_with_one_short_printable_line(name: str) -> None:
    """And nothing else is raised."""
    line, words = BAD[name]
    with pytest.raises(BadLineError) as refused:
        parse(line)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 300
    assert str(refused.value).isprintable()


@given(st.one_of(st.binary(), st.text().map(str.encode), st.from_regex(rb'\{("(key|value)(_base64)?":"\w*",?)*\}')))
def test_any_line_is_either_refused_or_means_what_is_written_for_it(line: bytes) -> None:
    """No line crashes the reader."""
    try:
        said = parse(line)
    except BadLineError:
        return
    if isinstance(said, tuple):
        assert parse(entry_line(*said)[:-1]) == said


# Reading a whole dump.

A, B = (b'{"key":"a","value":"1"}\n', b'{"key":"b","value":"2"}\n')
END = trailer_line(2)
MAX_LINE_BYTES = 64


def read(data: bytes, extends_to_ms: int = 0) -> tuple[list[NumberedEntry], list[str]]:
    """Return the entries of a dump, and what is wrong with it."""
    problems: list[DumpError] = []
    entries = list(read_entries(io.BytesIO(data), MAX_LINE_BYTES, problems.append, extends_to_ms))
    return entries, [str(problem) for problem in problems]


WHOLE: dict[str, bytes] = {
    "dump": HEADER + A + B + END,
    "without its first line": A + B + END,
    "without its last line": A + B,
    "whose last line has no end": HEADER + A + B + END.rstrip(b"\n"),
    "by hand, whose last line has no end": A + B.rstrip(b"\n"),
    "with CR LF": (HEADER + A + B + END).replace(b"\n", b"\r\n"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_dump_that_is_all_there(name: str) -> None:
    """With its first and last line, or made by hand without either."""
    shift = WHOLE[name].startswith(b'{"kvs')
    assert read(WHOLE[name]) == ([(1 + shift, b"a", b"1"), (2 + shift, b"b", b"2")], [])


def test_a_dump_of_nothing() -> None:
    """Is all there."""
    assert read(HEADER + trailer_line(0)) == ([], [])


@pytest.mark.parametrize("size", range(len(HEADER + A + B + END) - 1))
def test_a_dump_that_is_cut_off_anywhere_is_noticed(size: int) -> None:
    """Whatever the last byte is, something is wrong, and what is whole before it comes all the same."""
    whole = HEADER + A + B + END
    entries, problems = read(whole[:size])
    assert len(problems) == 1
    assert "truncated" in problems[0] or (size == 0 and "empty" in problems[0])
    assert [entry[0] for entry in entries] == [2, 3][: len(entries)]
    assert len(entries) >= (size >= len(HEADER + A)) + (size >= len(HEADER + A + B))


BROKEN: dict[str, tuple[bytes, list[str]]] = {
    "too few": (HEADER + A + END, ["line 3: expected 2 entries, found 1"]),
    "too many": (HEADER + A + A + B + END, ["line 5: expected 2 entries, found 3"]),
    "by hand, too few": (A + END, ["line 2: expected 2 entries, found 1"]),
    "more behind": (HEADER + A + B + END + A, ["line 5: more data after"]),
    "two": (HEADER + A + B + END + HEADER, ["line 5: more data after"]),
    "a first line in the middle": (A + HEADER + B, ["line 2: a second dump begins here"]),
    "another format": (HEADER.replace(b"1", b"2") + A + B + END, ["line 1: the dump has format 2"]),
    "two times": (
        HEADER + clock_line(1) + A + clock_line(1) + B + END,
        ["line 4: the time of the dump is given twice"],
    ),
    "bad lines": (
        HEADER + A + b"nonsense\n" + b"\n" + B + trailer_line(4),
        ["line 3: not a valid entry", "line 4: not a valid entry"],
    ),
    "a bad line and a wrong number": (
        HEADER + A + b"nonsense\n" + END[:-2] + b"9}\n",
        ["line 3: ", "line 4: exp"],
    ),
    "a line that is too long": (A + b"x" * 200 + b"\n" + A, ["line 2: longer than any entry"]),
    "a line that never ends": (A + b"x" * 200, ["line 2: longer than any entry"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_told_with_the_number_of_the_line(name: str) -> None:
    """All of it, where the lines that follow still make sense."""
    data, expected = BROKEN[name]
    _, problems = read(data)
    assert [problem[: len(words)] for problem, words in zip(problems, expected, strict=True)] == expected


def test_the_longest_line_is_read() -> None:
    """Its end counts."""
    line = entry_line(b"k", b"v" * (MAX_LINE_BYTES - len(entry_line(b"k", b""))))
    assert len(line) == MAX_LINE_BYTES
    assert read(line)[1] == []
    assert read(line.replace(b"vv", b"vvv", 1))[1] != []


# Deadlines.

OF_9 = entry_line(b"c", Record(b"3", 9))


@pytest.mark.parametrize(
    ("time_ms", "to_ms", "expected_ms"),
    [
        (5, 0, 9),
        (5, 5, 9),
        (5, 1000, 1004),
        (1000, 5, 1),  # it was due at the time of the dump, so it is due
        (1, MAX_DEADLINE_MS, MAX_DEADLINE_MS),
    ],
)
def test_deadlines_are_shifted_by_the_age_of_the_dump(time_ms: int, to_ms: int, expected_ms: int) -> None:
    """If that is asked for; entries without one stay as they are."""
    entries, problems = read(HEADER + A + clock_line(time_ms) + OF_9 + trailer_line(2), to_ms)
    assert entries == [(2, b"a", b"1"), (4, b"c", Record(b"3", expected_ms))]
    assert problems == []


def test_a_dump_without_a_time_has_no_age() -> None:
    """So it can be loaded, and not extended."""
    dump = A + OF_9 + B + trailer_line(3)
    assert read(dump)[1] == []
    entries, problems = read(dump, 1000)
    assert problems == ["line 2: the time of the dump is not known, so this deadline cannot be extended"]
    assert [entry[0] for entry in entries] == [1, 3]
