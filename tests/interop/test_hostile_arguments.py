"""Any command with any arguments, wrong ones above all, said to Redis and to kvs: the replies are the same.

What differs is named here, and in the table of differences of ``docs/protocol.md``. How many examples are tried is for
the profile of Hypothesis to say.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kvs.adapters.inbound.protocol.command import KEY
from kvs.adapters.inbound.resp.command import RespCommand
from kvs.adapters.inbound.resp.commands.registry import BY_NAME, COMMANDS, HTTP_WORDS
from tests.support.resp_wire import OK, QUEUED, Address, Reply, Typed, Wire, request

CONTAINERS: Final = {command.name: command.subcommands for command in COMMANDS if command.subcommands is not None}
LEFT_OUT: Final = (
    *(b"start", b"commit", b"rollback", b"quit", b"exec", b"monitor"),
    *(b"wait", b"replicaof", b"slaveof"),  # Redis would wait for ever, or become a replica: see the conversations
)
NAMES: Final = [
    *([command.name] for command in COMMANDS if command.name not in LEFT_OUT),
    *([name, word] for name, subcommands in CONTAINERS.items() for word in subcommands),
    *([name, b"foo"] for name in CONTAINERS),
]

KEYS: Final = st.sampled_from([b"a", b"b", b"c", b"n", b"\xff\x00\r\n"])
NUMBERS: Final = st.sampled_from(
    [
        *(
            b"0",
            b"1",
            b"2",
            b"-1",
            b"-2",
            b"3",
            b"10",
            b"100",
            b"-100",
            b"00",
            b"01",
            b"+1",
            b"-0",
            b" 1",
            b"1 ",
            b"1\n",
        ),
        *(b"2147483647", b"2147483648", b"-2147483648", b"-2147483649", b"4294967295", b"4294967296", b"1_0", b"1,0"),
        *(b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"-9223372036854775809", b"0x10"),
        *(b"18446744073709551615", b"18446744073709551616", b"1" * 30, b"0" * 30, b"\xd9\xa1", b"", b"-", b"+0", b"x"),
    ]
)
FRACTIONS: Final = st.sampled_from(
    [
        *(b"0.5", b"-.25", b"5.", b".", b"1e3", b"1e", b"1e-400", b"1e400", b"1e4932", b"1e5000", b"1e-5000", b"1E+2"),
        *(b"inf", b"-inf", b"+Infinity", b"nan", b"-nan", b"0x1p3", b"0x.8", b"0x", b"0X1.8P-2", b"0x1p", b"3.0e2x"),
        *(b"1" * 400, b"0." + b"1" * 400, b"123456789012345678901.5", b"9" * 5200, b"1e308", b"-1e308", b"1e-20"),
    ]
)
VALUES: Final = st.one_of(
    st.sampled_from([b"", b"x", b"abc", b"\x00\xff\r\n", b"v" * 300]), NUMBERS, FRACTIONS, st.binary(max_size=6)
)
WORDS: Final = st.sampled_from(
    [
        *(
            b"NX",
            b"XX",
            b"GET",
            b"nx",
            b"Get",
            b"EX",
            b"px",
            b"EXAT",
            b"PXAT",
            b"KEEPTTL",
            b"PERSIST",
            b"GT",
            b"LT",
            b"REPLACE",
            b"replace",
            b"DB",
            b"MATCH",
            b"match",
            b"COUNT",
            b"TYPE",
        ),
        *(
            b"string",
            b"STRING",
            b"list",
            b"none",
            b"ASYNC",
            b"sync",
            b"FOO",
            b"",
            b"two words",
            b"a'b",
            b"f" * 140,
            b"\xff",
        ),
        *(b"ID", b"ADDR", b"LADDR", b"USER", b"SKIPME", b"skipme", b"yes", b"no", b"maybe", b"default", b"nobody"),
        *(b"pubsub", b"replica", b"1.1.1.1:1", b"ON", b"off", b"TIMEOUT", b"error", b"SETNAME", b"AUTH", b"me"),
        *(b"FILTERBY", b"filterby", b"ACLCAT", b"MODULE", b"PATTERN", b"transaction", b"nope", b"mset*", b"get|x"),
        *(
            b"BIT",
            b"byte",
            b"AND",
            b"or",
            b"NOT",
            b"GET",
            b"SET",
            b"INCRBY",
            b"OVERFLOW",
            b"SAT",
            b"fail",
            b"u8",
            b"i64",
        ),
        *(b"u64", b"i1", b"u63", b"#1", b"#0", b"LEN", b"IDX", b"idx", b"MINMATCHLEN", b"WITHMATCHLEN", b"bit\x00x"),
        *(b"*", b"a*", b"?", b"[ab]", b"[^a]", b"[", b"\\", b"HELP", b"help", b"save", b"SAVE", b"sav?", b"WRITE"),
    ]
)
ANYTHING: Final = st.one_of(KEYS, KEYS, NUMBERS, WORDS, WORDS, VALUES)


class Said(NamedTuple):
    """A request by one of two connections."""

    sender: str
    words: list[bytes]


def found(words: list[bytes]) -> RespCommand | None:
    """Return the command that is meant."""
    command = BY_NAME.get(words[0].lower())
    if command is not None and command.subcommands is not None and len(words) > 1:
        return command.subcommands.get(words[1].lower())
    return command


SETTERS: Final = (
    *(b"set", b"setex", b"psetex", b"getex", b"expire", b"pexpire"),
    *(b"expireat", b"pexpireat"),
)
FAR_OFF: Final = 5_000_000_000_000
"""A deadline that nobody here will see pass, in seconds and in milliseconds, from now and from 1970."""
MAX_DEADLINE: Final = 2**53 - FAR_OFF


def far_off(name: bytes, words: list[bytes]) -> list[bytes]:
    """Return a request that sets a deadline, so that no key expires between two requests, and none is out of range.

    Nor does it compare two moments, each of which was a while after the servers were asked.
    """
    least = MAX_DEADLINE // 1000 if name in (b"expireat", b"pexpireat") else 0
    changed = words[:2]
    for word in words[2:]:
        number = int(word) if word.isdigit() and len(word) < 20 and word.isascii() else 0
        far = least < number < 1 << 63
        changed.append(b"%d" % FAR_OFF if far else b"XX" if word.upper() in (b"GT", b"LT") else word)
    return changed


def harmless(words: list[bytes]) -> list[bytes]:
    """Return a request that changes nothing about the servers, and asks for nothing that kvs is known not to have."""
    command = found(words)
    if command is None:
        return words
    for at in range(1, len(words)):
        if command.kind_of(at) == KEY:
            words[at] = words[at] or b"a"  # no key is empty
    if command.about.group != "string":
        words = [word[:400] for word in words]  # names and patterns have bounds
    name, rest = command.name, words[2:]
    if name in (b"client|setinfo", b"client|no-touch", b"client|reply"):  # of Redis 7.2; and tried in test_clients.py
        return [b"PING"]
    if name in LATER:
        return [b"PING"]
    if name in SETTERS:
        return far_off(name, words)
    if name == b"command|info":  # there are more in Redis
        asked = [b"nope" if word.isalpha() and word.lower() not in BY_NAME else word for word in rest]
        return [*words[:2], *(asked or [b"get"])]
    if name.startswith(b"command|getkeys") and rest and found(rest) is None:
        return [*words[:2], b"FOO", *rest[1:]]
    if name == b"client|kill" and len(words) > 3:
        return [*words, b"ADDR", b"1.1.1.1:1"]
    if name == b"client|tracking" and rest:
        return [*words[:2], b"OFF" if rest[0].lower() == b"off" else b"foo"]
    if name == b"client|pause" and rest:
        return [*words[:2], b"foo", *rest[1:]]
    if name == b"config|set" and rest:
        return [*words[:2], b"foo", *rest[1:]]
    if name == b"config|get":
        return words[:2] + [word if word.lower() in (b"save", b"sav?", b"nope") else b"foo" for word in rest]
    return words


@st.composite
def known(draw: st.DrawFn) -> list[bytes]:
    """Return a request of a command that there is, with arguments that may be right, too many or too few."""
    words = list(draw(st.sampled_from(NAMES)))
    words[0] = draw(st.sampled_from([words[0], words[0].upper(), words[0].capitalize()]))
    command = found(words)
    least = max(0, abs(command.arity) - len(words)) if command is not None else 0
    count = max(0, least + draw(st.sampled_from([0, 0, 0, 0, 1, 2, 2, 4, -1])))
    return harmless(words + draw(st.lists(ANYTHING, min_size=count, max_size=count)))


def tuples(*parts: st.SearchStrategy[bytes] | bytes) -> st.SearchStrategy[list[bytes]]:
    """Return requests of words that are given, or drawn."""
    drawn = [st.just(part) if isinstance(part, bytes) else part for part in parts]
    return st.tuples(*drawn).map(list)


BITS: Final = st.sampled_from([b"0", b"1", b"0", b"1", b"2", b"-1", b"x", b"01"])
UNITS: Final = st.sampled_from([b"BIT", b"bit", b"Byte", b"bit\x00x", b"FOO"])
OFFSETS: Final = st.sampled_from(
    [b"0", b"7", b"8", b"100", b"2000", b"-1", b"x", b"", b"01", b"#1", b"4294967296", b"9223372036854775808"]
)
FIELDS: Final = st.one_of(
    st.builds(b"%b%d".__mod__, st.tuples(st.sampled_from([b"i", b"u"]), st.integers(0, 65))),
    st.sampled_from([b"i8", b"u8", b"i08", b"i", b"", b"I8", b"x8", b"u8\x00x"]),
)
PLACES: Final = st.one_of(OFFSETS, st.sampled_from([b"#0", b"#1", b"#3", b"#-1", b"#", b"##1", b"#x", b"13"]))
OPERATIONS: Final = st.one_of(
    tuples(b"GET", FIELDS, PLACES),
    tuples(b"set", FIELDS, PLACES, NUMBERS),
    tuples(b"INCRBY", FIELDS, PLACES, NUMBERS),
    tuples(b"OVERFLOW", st.sampled_from([b"WRAP", b"sat", b"FAIL", b"fail", b"FOO"])),
)
LIKELY: Final = st.one_of(
    tuples(st.sampled_from([b"INCRBYFLOAT", b"SET", b"APPEND", b"GETSET", b"SETNX"]), KEYS, VALUES),
    tuples(st.sampled_from([b"INCRBYFLOAT", b"SET"]), KEYS, FRACTIONS),
    tuples(st.sampled_from([b"INCRBY", b"DECRBY", b"SET"]), KEYS, NUMBERS),
    tuples(st.sampled_from([b"GET", b"INCR", b"DECR", b"WATCH", b"GETDEL", b"EXISTS", b"STRLEN", b"TYPE"]), KEYS),
    tuples(st.sampled_from([b"RENAME", b"RENAMENX", b"COPY", b"MGET", b"DEL"]), KEYS, KEYS),
    tuples(b"SET", KEYS, VALUES, st.sampled_from([b"EX", b"PX", b"EXAT", b"PXAT"]), NUMBERS),
    tuples(b"SET", KEYS, VALUES, WORDS, WORDS),
    tuples(b"GETEX", KEYS, WORDS, NUMBERS),
    tuples(st.sampled_from([b"SETEX", b"PSETEX"]), KEYS, NUMBERS, VALUES),
    tuples(st.sampled_from([b"EXPIRE", b"PEXPIRE", b"EXPIREAT", b"PEXPIREAT"]), KEYS, NUMBERS),
    tuples(st.sampled_from([b"EXPIRE", b"PEXPIREAT"]), KEYS, NUMBERS, WORDS),
    tuples(st.sampled_from([b"TTL", b"PTTL", b"PEXPIRETIME", b"EXPIRETIME", b"PERSIST"]), KEYS),
    tuples(b"SETRANGE", KEYS, NUMBERS, VALUES),
    tuples(b"GETRANGE", KEYS, NUMBERS, NUMBERS),
    tuples(b"SETBIT", KEYS, OFFSETS, BITS),
    tuples(b"GETBIT", KEYS, NUMBERS),
    tuples(b"BITCOUNT", KEYS, NUMBERS, NUMBERS),
    tuples(b"BITCOUNT", KEYS, NUMBERS, NUMBERS, UNITS),
    tuples(b"BITPOS", KEYS, BITS, NUMBERS),
    tuples(b"BITPOS", KEYS, BITS, NUMBERS, NUMBERS, UNITS),
    tuples(b"BITOP", st.sampled_from([b"AND", b"or", b"XOR", b"NOT"]), KEYS, KEYS, KEYS),
    tuples(b"BITOP", st.sampled_from([b"AND", b"NOT", b"not"]), KEYS, KEYS),
    st.builds(
        lambda name, key, operations: [name, key, *(word for operation in operations for word in operation)],
        st.sampled_from([b"BITFIELD", b"BITFIELD", b"BITFIELD_RO"]),
        KEYS,
        st.lists(OPERATIONS, max_size=4),
    ),
    tuples(b"LCS", KEYS, KEYS),
    tuples(b"LCS", KEYS, KEYS, st.sampled_from([b"LEN", b"IDX"]), st.sampled_from([b"WITHMATCHLEN", b"len"])),
    tuples(b"LCS", KEYS, KEYS, b"IDX", b"MINMATCHLEN", NUMBERS),
    tuples(b"SCAN", NUMBERS, st.sampled_from([b"COUNT", b"count", b"MATCH", b"TYPE"]), ANYTHING),
    tuples(b"COPY", KEYS, KEYS, b"DB", NUMBERS),
    tuples(st.sampled_from([b"SELECT", b"HELLO"]), NUMBERS),
    tuples(b"HELLO", st.sampled_from([b"2", b"3"]), WORDS, WORDS),
    tuples(b"HELLO", st.sampled_from([b"2", b"3"])),
    tuples(st.sampled_from([b"DISCARD", b"UNWATCH", b"FLUSHALL", b"DBSIZE", b"RANDOMKEY"])),
)
UNKNOWN: Final = st.lists(
    st.one_of(
        st.sampled_from(
            [b"", b"\r\n", b"GET\x00x", b"\x00", b"\xff\xfe", b"1" * 200, b"1" * 127, b"'", b"\xc3\xa9" * 70]
        ),
        st.binary(max_size=9),
    ),
    min_size=1,
    max_size=5,
).filter(lambda words: not words[0].isalpha() and words[0].lower() not in HTTP_WORDS)  # nor what only Redis knows
QUEUES: Final = st.sampled_from([[b"MULTI"], [b"MULTI"], [b"EXEC"], [b"EXEC"], [b"exec", b"x"], [b"DISCARD", b"x"]])
SAID: Final = st.lists(
    st.builds(
        Said,
        st.sampled_from("AAAB"),
        st.one_of(known(), known(), LIKELY, LIKELY, UNKNOWN, QUEUES).map(list).map(harmless),
    ),
    max_size=30,
)


class Unlike(NamedTuple):
    """Why replies are not compared, but for what they are: an error, a number, an array ..."""

    reason: str
    shaped_alike: bool = True


TIMES: Final = (b"ttl", b"pttl", b"expiretime", b"pexpiretime")
NO_DATABASE: Final = b"ERR DB index is out of range"
LATER: Final = (b"delex", b"delifeq", b"msetex")
"""Commands of later versions of Redis, or of Valkey."""

ABOUT_SERVERS: Final = Unlike("tells of this server")
UNLIKE: Final[dict[bytes, Unlike]] = {
    b"time": ABOUT_SERVERS,
    b"info": ABOUT_SERVERS,
    b"client|id": ABOUT_SERVERS,
    b"client|info": ABOUT_SERVERS,
    b"client|list": ABOUT_SERVERS,
    b"hello": ABOUT_SERVERS,
    b"randomkey": Unlike("any key will do"),
    b"command": Unlike("there are more in Redis"),
    b"command|count": Unlike("there are more in Redis"),
    b"command|list": Unlike("there are more in Redis"),
    b"command|docs": Unlike("has no arguments"),
    b"client|help": Unlike("in words of kvs"),
    b"config|help": Unlike("in words of kvs"),
    b"command|help": Unlike("in words of kvs"),
    b"object|help": Unlike("in words of kvs"),
    b"memory|help": Unlike("in words of kvs"),
    b"slowlog|help": Unlike("in words of kvs"),
    b"latency|help": Unlike("in words of kvs"),
    b"object|encoding": Unlike("values are stored in one way"),
    b"object|refcount": Unlike("values are not shared"),
    b"object|idletime": Unlike("accesses are not recorded", shaped_alike=False),
    b"memory|usage": Unlike("values are stored in another way"),
    b"config|rewrite": Unlike("changes last until the server stops", shaped_alike=False),
    b"latency|histogram": Unlike("each measures its own commands"),
    b"slowlog|get": Unlike("each measures its own commands"),
    b"slowlog|len": Unlike("each measures its own commands"),
}


def shape(reply: Reply) -> Reply:
    """Return what kind of reply it is; of an error, all of it."""
    if isinstance(reply, Typed):
        return reply if reply.kind == "-" or reply.value is None else Typed(reply.kind, None)
    return type(reply)()


def alike(words: list[bytes], kvs: Reply, redis: Reply) -> bool:
    """Return whether two replies are the same, as far as they are to be."""
    if kvs == redis:
        return True
    command = found(words)
    name = b"" if command is None else command.name
    unlike = UNLIKE.get(name)
    if unlike is not None:
        return not unlike.shaped_alike or shape(kvs) == shape(redis)
    if name in TIMES and isinstance(kvs, int) and isinstance(redis, int):
        return min(kvs, redis) > 0
    if is_error(kvs) and is_error(redis) and as_bytes(kvs).startswith(NO_DATABASE):
        return as_bytes(redis) == NO_DATABASE  # kvs adds the remedy
    if name == b"scan" and isinstance(redis, list):
        if isinstance(kvs, Typed):  # Redis knows no cursor, and takes any number for one
            return b"invalid cursor: it was forgotten, or never given" in as_bytes(kvs)
        if not isinstance(kvs, int | bytes) and [kvs[0], redis[0]] != [b"0", b"0"]:
            return True  # which keys come first is for each server to say
    if name in (b"keys", b"scan", b"command|info", b"config|get", b"command|getkeysandflags"):
        return ordered(kvs) == ordered(redis)
    return False


def as_bytes(reply: Reply) -> bytes:
    """Return the text of a reply."""
    return reply.value if isinstance(reply, Typed) and isinstance(reply.value, bytes) else b""


def ordered(reply: Reply) -> Reply:
    """Return a reply with all lists in it in one order."""
    if isinstance(reply, Typed) and isinstance(reply.value, list):
        return Typed(reply.kind, sorted(map(ordered, reply.value), key=repr))
    return sorted(map(ordered, reply), key=repr) if isinstance(reply, list) else reply


class Speaker:
    """A connection to each server, and what it has queued."""

    def __init__(self, kvs: Address, redis: Address) -> None:
        self.wires = [Wire(kvs), Wire(redis)]
        self.queue: list[list[bytes]] = []

    def say(self, *words: bytes) -> list[Reply]:
        """Return the replies to a request, of kvs and of Redis."""
        for wire in self.wires:
            wire.send(request(*words))
        return [wire.reply() for wire in self.wires]

    def check(self, words: list[bytes]) -> None:
        """Say something, and assert that the replies are alike."""
        kvs, redis = self.say(*words)
        if words[0].lower() == b"exec" and isinstance(kvs, list) and isinstance(redis, list):
            assert len(kvs) == len(redis) == len(self.queue)
            for queued, one, other in zip(self.queue, kvs, redis, strict=True):
                assert alike(queued, one, other), (queued, one, other)
        else:
            assert alike(words, kvs, redis), (words, kvs, redis)
        if kvs == QUEUED:
            self.queue.append(words)
        elif words[0].lower() in (b"multi", b"exec", b"discard", b"reset") and not is_error(kvs):
            self.queue = []

    def close(self) -> None:
        """Leave both."""
        for wire in self.wires:
            wire.close()


def is_error(reply: Reply) -> bool:
    """Return whether a reply is an error."""
    return isinstance(reply, Typed) and reply.kind == "-"


@contextmanager
def speaking(address: Address, redis_path: Path) -> Iterator[dict[str, Speaker]]:
    """Return two speakers by name; both servers are empty."""
    with ExitStack() as stack:
        speakers = {}
        for name in "AB":
            speakers[name] = Speaker(address, redis_path)
            stack.callback(speakers[name].close)
        assert speakers["A"].say(b"FLUSHALL") == [OK, OK]
        yield speakers


@pytest.fixture
def speakers(address: Address, redis_path: Path) -> Iterator[dict[str, Speaker]]:
    """Return two speakers by name; both servers are empty."""
    with speaking(address, redis_path) as speakers:
        yield speakers


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(said=SAID, version=st.sampled_from([b"2", b"3"]))
@example([Said("A", [b"MULTI"]), Said("A", [b"HELLO", b"3"]), Said("A", [b"GET", b"a"]), Said("A", [b"EXEC"])], b"2")
@example([Said("A", [b"WATCH", b"a"]), Said("A", [b"EXEC", b"x"]), Said("B", [b"SET", b"a", b"1"])], b"2")
def test_any_arguments(address: tuple[str, int], redis_path: Path, said: list[Said], version: bytes) -> None:
    """Reply by reply, in queues and out of them, in both versions of the protocol."""
    with speaking(address, redis_path) as speakers:
        for speaker in speakers.values():
            speaker.say(b"HELLO", version)
        for sender, words in said:
            speakers[sender].check(words)
        speakers["A"].say(b"RESET")
        for key in (b"a", b"b", b"c", b"n", b"\xff\x00\r\n"):
            kvs, redis = speakers["A"].say(b"GET", key)
            assert kvs == redis
