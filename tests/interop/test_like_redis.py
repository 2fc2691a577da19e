"""The same is said to Redis and to kvs, and the replies are the same, but for the differences that are listed here."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvs.adapters.inbound.resp.commands.registry import COMMANDS
from tests.interop.conversations import CONVERSATIONS, requests
from tests.interop.pairs import Pair, connected, sorted_in, sorted_listings, speak
from tests.interop.strategies import SAID
from tests.support.harness import Server, polling
from tests.support.resp_wire import NULL, NULL_ARRAY, OK, Address, Reply, Typed, error, words
from tests.system.conftest import TRANSPORTS_AND_ENGINES, Reused, flags_of

NO_DATABASE: Final = "ERR DB index is out of range"
REMEDY: Final = ": there is one database, 0; run a server for each, or give each a prefix of keys"
FAR: Final = "ERR invalid expire time in '{}' command"

DIFFERENCES: Final[dict[str, Reply]] = {
    # What there is instead of databases is said.
    "SELECT 1": error(NO_DATABASE + REMEDY),
    "SWAPDB 0 1": error(NO_DATABASE + REMEDY),
    # A deadline has 53 bits.
    "SET far 1 PXAT 9007199254740993": error(FAR.format("set")),
    "PEXPIREAT a 9223372036854775807": error(FAR.format("pexpireat")),
    "EXPIREAT a 9007199254741": error(FAR.format("expireat")),
    # Values are stored in one way, and accesses are not recorded.
    "OBJECT ENCODING n": b"raw",
    "OBJECT REFCOUNT n": 1,
    "OBJECT IDLETIME n": error("ERR OBJECT IDLETIME is not supported: accesses are not recorded"),
    "MEMORY USAGE n": 162,
    # In later versions of Redis, or in Valkey, these are as here.
    "SET n 2 IFEQ 1": OK,
    "SET n 3 IFNE 2": NULL,
    "SET n 3 IFDEQ 2": error("ERR IFDEQ and IFDNE are not supported: there are no digests of values; use IFEQ or IFNE"),
    "DELIFEQ n 1": 0,
    "DELEX n IFEQ 1": 0,
    "MSETEX 1 n 3 EX 1000": 1,
    # What Redis writes is the file that it was started with.
    "CONFIG REWRITE": error(
        "ERR CONFIG REWRITE is not supported: what CONFIG SET changes lasts until the server stops; to keep it, change "
        "the flags, the environment or the file that the server is started with"
    ),
    # No key is empty.
    'SET "" 1': error("ERR a key cannot be empty"),
    'GET ""': error("ERR a key cannot be empty"),
    'MGET a ""': error("ERR a key cannot be empty"),
    'EXISTS ""': error("ERR a key cannot be empty"),
    # A cursor was given by this server, or it is none.
    "SCAN -1": error("ERR invalid cursor: it was forgotten, or never given; begin again from 0"),
    # Redis would leave replies out of the one that EXEC has.
    "CLIENT REPLY OFF": error("ERR CLIENT REPLY is not allowed between MULTI and EXEC"),
}
"""Replies of kvs that Redis does not give, by request, each with its reason."""

DIFFER: Final = r"""
    SELECT 1 | SWAPDB 0 1 | SET far 1 PXAT 9007199254740993 | SET a 1 | PEXPIREAT a 9223372036854775807
    EXPIREAT a 9007199254741 | SET n 1 | OBJECT ENCODING n | OBJECT REFCOUNT n | OBJECT IDLETIME n | MEMORY USAGE n
    SET n 2 IFEQ 1 | SET n 3 IFNE 2 | SET n 3 IFDEQ 2 | DELIFEQ n 1 | DELEX n IFEQ 1 | MSETEX 1 n 3 EX 1000 | FLUSHALL
    CONFIG REWRITE | SET "" 1 | GET "" | MGET a "" | EXISTS "" | SCAN -1 | MULTI | CLIENT REPLY OFF | RESET
"""
"""Has every one of them, where that makes no difference to what comes later."""

ABSENT: Final = (
    *("LPUSH a 1", "HSET a b c", "SADD a b", "ZADD a 1 b", "XLEN a", "PFADD a", "SORT a"),  # values are bytes
    *("SUBSCRIBE a", "PUBLISH a b", "EVAL return 0", "FUNCTION LIST", "SCRIPT LOAD x"),  # no messages, no programs
    *("SAVE", "BGSAVE", "SYNC", "CLUSTER INFO", "DEBUG JMAP", "SHUTDOWN"),
    *("DUMP a", "SUBSTR a 0 1", "WAITAOF 1 0 0", "SENTINEL MASTERS"),
)
"""Commands of Redis that kvs has not, and says so, with the error that Redis has for those it does not know."""

OURS: Final = (b"start", b"commit", b"rollback")
"""Commands that Redis has not."""

LATER: Final = (b"delex", b"delifeq", b"msetex")
"""Commands of later versions of Redis, or of Valkey."""

UNLIKE: Final = {
    b"time": "tells the time",
    b"info": "tells of this server",
    b"acl|load": "reads a file of Redis, which is written in another way",
    b"acl|save": "the same",
    b"client|id": "each server counts for itself",
    b"client|info": "has a field for the depth of the transaction, and fewer than Redis besides",
    b"client|setinfo": "is of Redis 7.2",
    b"client|no-touch": "is of Redis 7.2",
    b"command|count": "there are more in Redis",
    b"monitor": "has more than one reply: see test_monitor.py",
}
"""Commands whose replies cannot be compared, with the reason."""

UNORDERED: Final = (b"keys", b"scan", b"command", b"config", b"mget")
"""Commands that list in no order that Redis promises."""


@pytest.fixture(scope="module", params=TRANSPORTS_AND_ENGINES)
def reused_server(request: pytest.FixtureRequest) -> Iterator[Reused]:
    """Return what lends a server of every kind: what is said does not depend on that."""
    reused = Reused(lambda: Server(*flags_of(request.param)))
    yield reused
    reused.end()


@pytest.fixture
def pairs(address: Address, redis_path: Path) -> Iterator[Mapping[str, Pair]]:
    """Return connections to both servers by name; both servers are empty."""
    with connected(address, redis_path) as pairs:
        yield pairs


def anonymous(reply: Reply) -> Reply:
    """Return a reply without what HELLO says of the server, wherever it is in it."""
    items = reply.value if isinstance(reply, Typed) else reply
    if not isinstance(items, list):
        return reply
    if items[:1] == [b"server"]:
        return b"HELLO"
    return Typed(reply.kind, [*map(anonymous, items)]) if isinstance(reply, Typed) else [*map(anonymous, items)]


def without_remedy(reply: Reply) -> Reply:
    """Return a reply without what kvs adds to an error of Redis, wherever it is in it."""
    if isinstance(reply, list):
        return [*map(without_remedy, reply)]
    return error(NO_DATABASE) if reply == error(NO_DATABASE + REMEDY) else reply


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("about", CONVERSATIONS)
def test_conversations(pairs: Mapping[str, Pair], about: str, version: int) -> None:
    """Reply by reply, to the byte."""
    speak(pairs, version)
    lists_keys = False
    for sender, line in requests(CONVERSATIONS[about]):
        kvs, redis = pairs[sender].ask(line)
        name = words(line)[0].lower()
        lists_keys |= name in UNORDERED
        if name in UNORDERED or (name == b"exec" and lists_keys):
            kvs, redis = sorted_in(kvs), sorted_in(redis)
        assert anonymous(without_remedy(kvs)) == anonymous(redis), f"{sender}: {line}"


def test_differences(pairs: Mapping[str, Pair]) -> None:
    """Each is one still, and there are no others."""
    met = set()
    for _, line in requests(DIFFER):
        kvs, redis = pairs["A"].ask(line)
        assert (kvs == redis) == (line not in DIFFERENCES), line
        assert kvs == DIFFERENCES.get(line, kvs)
        met.add(line)
    assert met > DIFFERENCES.keys()


@pytest.mark.parametrize("line", ABSENT)
def test_commands_that_are_absent(pairs: Mapping[str, Pair], line: str, request: pytest.FixtureRequest) -> None:
    """They get the error of Redis for what it does not know, with other names in it; the connection lives."""
    name, _, rest = line.partition(" ")
    if name == "SENTINEL" and "etcd" in request.node.nodeid:
        pytest.skip("it is there where several servers have the same data")
    strange = "X" * len(name)
    kvs = pairs["A"].kvs.asked(line)
    redis = pairs["A"].redis.asked(f"{strange} {rest}")
    assert isinstance(redis, Typed)
    assert isinstance(redis.value, bytes)
    assert redis.value.startswith(b"ERR unknown command")
    assert kvs == error(redis.value.decode().replace(strange, name, 1))
    assert pairs["A"].ask("PING") == (Typed("+", b"PONG"),) * 2


def test_our_transactions_are_unknown_to_redis(pairs: Mapping[str, Pair]) -> None:
    """And what Redis has besides does not mix with them."""
    pair = pairs["A"]
    for name in OURS:
        reply = pair.redis.ask(name)
        assert isinstance(reply, Typed)
        assert reply.kind == "-"
    assert pair.kvs.ask("START") == OK
    assert pair.kvs.ask("MULTI") == error(
        "ERR MULTI inside a transaction that START opened; COMMIT or ROLLBACK ends it."
    )
    assert pair.kvs.ask("ROLLBACK") == OK
    assert pair.kvs.ask("MULTI") == OK
    for name in OURS:
        assert pair.kvs.ask(name) == error(f"ERR {name.decode().upper()} is not allowed between MULTI and EXEC")
    assert pair.kvs.ask("EXEC") == error("EXECABORT Transaction discarded because of previous errors.")


def test_every_command_is_compared() -> None:
    """With arguments that are right, and some that are not, unless there is a reason not to."""
    said = [words(line) for conversation in CONVERSATIONS.values() for _, line in requests(conversation)]
    for command in COMMANDS:
        if command.subcommands is not None:
            lengths = {
                sub.name: {
                    len(line)
                    for line in said
                    if line[0].lower() == command.name and len(line) > 1 and line[1].lower() == word
                }
                for word, sub in command.subcommands.items()
            }
        else:
            lengths = {command.name: {len(line) for line in said if line[0].lower() == command.name}}
        for name, numbers in lengths.items():
            assert (name in UNLIKE or name in OURS or name in LATER) or numbers, name


def test_what_commands_are_told_to_be(pairs: Mapping[str, Pair]) -> None:
    """COMMAND INFO tells the number of arguments and where keys are; the flags are some of those in Redis."""
    names = [command.name.decode() for command in COMMANDS if command.name not in (*OURS, *LATER)]
    kvs, redis = pairs["A"].ask("COMMAND INFO " + " ".join(names))
    assert isinstance(kvs, list)
    assert isinstance(redis, list)
    for ours, theirs in zip(kvs, redis, strict=True):
        assert isinstance(ours, list)
        assert isinstance(theirs, list)
        assert len(ours) == len(theirs)
        assert (ours[:2], ours[3:6]) == (theirs[:2], theirs[3:6])
        assert set(as_words(ours[2])) <= set(as_words(theirs[2])), ours[0]


def as_words(reply: Reply) -> Sequence[Reply]:
    """Return the items of an array."""
    assert isinstance(reply, list)
    return reply


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("TIME", "*"),
        ("INFO", "="),
        ("CLIENT ID", ":"),
        ("CLIENT INFO", "="),
        ("CLIENT LIST", "="),
        ("COMMAND COUNT", ":"),
        ("COMMAND DOCS get", "%"),
        ("HELLO", "%"),
    ],
)
def test_shapes_of_what_differs(pairs: Mapping[str, Pair], version: int, line: str, kind: str) -> None:
    """Replies about the server itself are of the same type, at least."""
    speak(pairs, version)
    in_version_2 = {"=": "$", "%": "*"}
    shapes = [shape(reply) for reply in pairs["A"].ask(line)]
    assert shapes == [kind if version == 3 else in_version_2.get(kind, kind)] * 2


def shape(reply: Reply) -> str:
    """Return the first byte that a reply has on the wire."""
    if isinstance(reply, Typed):
        return reply.kind
    return ":" if isinstance(reply, int) else "$" if isinstance(reply, bytes) else "*"


# Anything that may be said.

A_WHILE: Final = 10_000
"""Numbers from here to :data:`AGES` are times: the values are smaller or larger."""
AGES: Final = 1 << 56
FAR_TIMES: Final = (
    *(32503680000000, 32503680001499, 32503680001500, 32503680002000, 32503680001000),
    *(32503680000, 32503680001, 32503680002),
)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(said=SAID, version=st.sampled_from([2, 3]))
def test_anything(pairs: Mapping[str, Pair], said: list[tuple[str, str]], version: int) -> None:
    """Random commands over a few keys, by two connections, in queues and out of them, have the same replies."""
    for pair in pairs.values():
        assert pair.ask("RESET") == (Typed("+", b"RESET"),) * 2
    assert pairs["A"].ask("FLUSHALL") == (OK, OK)
    speak(pairs, version)
    for sender, line in said:
        kvs, redis = pairs[sender].ask(line)
        # The order of a listing is nobody's promise, nor is that of one among the replies to a queue.
        kvs, redis = sorted_listings(kvs, line), sorted_listings(redis, line)
        assert timeless(kvs) == timeless(redis), f"{sender}: {line}"
    for key in "abc":
        kvs, redis = pairs["A"].ask(f"PEXPIRETIME {key}")
        assert timeless(kvs) == timeless(redis)
        kvs, redis = pairs["A"].ask("DISCARD")
        assert kvs == redis
        kvs, redis = pairs["A"].ask(f"GET {key}")
        assert kvs == redis
        assert kvs != NULL or version == 2


def timeless(reply: Reply) -> Reply:
    """Return a reply in which every time that depends on the moment of the question is the same."""
    if isinstance(reply, list):
        return [*map(timeless, reply)]
    return A_WHILE if isinstance(reply, int) and A_WHILE < reply < AGES and reply not in FAR_TIMES else reply


def test_keys_that_expire(pairs: Mapping[str, Pair]) -> None:
    """They go by themselves, however their deadline was set; those without one stay."""
    pair = pairs["A"]
    assert pair.ask("MSET a 1 b 1 stays 1") == (OK, OK)
    for line in ("PEXPIRE a 20", "GETEX b PX 20", "SET c 1 PX 20", "PSETEX d 20 1"):
        pair.ask(line)
    for _ in polling("all have expired"):
        if pair.ask("EXISTS a b c d") == (0, 0):
            break
    assert pair.ask("TTL a") == (-2, -2)
    assert pair.ask("MGET a b c d stays") == ([NULL] * 4 + [b"1"],) * 2
    assert pair.ask("KEYS *") == ([b"stays"],) * 2
    assert pair.ask("DBSIZE") == (1, 1)


def test_watched_keys_that_expire(pairs: Mapping[str, Pair]) -> None:
    """Who watches a key sees that it has expired, and does nothing."""
    mine, other = pairs["A"], pairs["B"]
    for lifetime_ms in (1 << power for power in range(5, 20)):  # until it is long enough for what is asked meanwhile
        mine.ask("UNWATCH")
        other.ask(f"SET a 1 PX {lifetime_ms}")
        assert mine.ask("WATCH a") == (OK, OK)
        if other.ask("EXISTS a") == (1, 1):
            break
    for _ in polling("it has expired"):
        if other.ask("EXISTS a") == (0, 0):
            break
    for line in ("MULTI", "SET b 1"):
        mine.ask(line)
    assert mine.ask("EXEC") == (NULL_ARRAY, NULL_ARRAY)
    assert other.ask("EXISTS b") == (0, 0)
