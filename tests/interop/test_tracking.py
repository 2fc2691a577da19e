"""CLIENT TRACKING beside Redis: what is refused, what is told, and what a library that caches makes of it."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import redis
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection

from tests.support.harness import Client, Server, polling, slow_engine
from tests.support.resp_wire import NULL, OK, Address, Reply, Typed, Wire, error, words
from tests.system.conftest import Reused

ENGINES: Final = {"memory": (), "sqlite": ("--storage", "sqlite"), "blocking": slow_engine(0.0)[0]}

News: TypeAlias = "set[bytes | None]"
"""Keys that were told; None: all of them."""


@pytest.fixture(scope="module", params=ENGINES)
def reused_server(request: pytest.FixtureRequest) -> Iterator[Reused]:
    """Return what lends a server of each kind of engine."""
    reused = Reused(lambda: Server(*ENGINES[request.param]))
    yield reused
    reused.end()


class Tracker:
    """A connection in RESP3 that tells replies from messages."""

    def __init__(self, address: Address) -> None:
        self.wire = Wire(address)
        self.wire.ask("HELLO", 3)
        self._told: News = set()

    def ask(self, line: str) -> Reply:
        """Return the reply to a request."""
        self.wire.send(
            b"".join([b"*%d\r\n" % len(words(line))] + [b"$%d\r\n%b\r\n" % (len(w), w) for w in words(line)])
        )
        while True:
            reply = self.wire.reply()
            if not (isinstance(reply, Typed) and reply.kind == ">"):
                return reply
            assert isinstance(reply.value, list)
            name, keys = reply.value
            assert name == b"invalidate"
            if isinstance(keys, list):
                self._told.update(key for key in keys if isinstance(key, bytes))
            else:
                assert keys == Typed("_", None)
                self._told.add(None)

    def news(self) -> News:
        """Return what has been told so far. What it asks for does not use up CLIENT CACHING."""
        assert self.ask("CLIENT GETNAME") in (Typed("_", None), NULL)
        told, self._told = self._told, set()
        return told


Pair: TypeAlias = tuple[Tracker, Tracker]


@pytest.fixture
def pairs(address: Address, redis_path: Path) -> Iterator[Mapping[str, Pair]]:
    """Return connections to kvs and to Redis by name; both servers are empty."""
    with ExitStack() as stack:
        pairs = {name: (Tracker(address), Tracker(redis_path)) for name in "ABC"}
        for pair in pairs.values():
            for tracker in pair:
                stack.callback(tracker.wire.close)
        for tracker in pairs["A"]:
            assert tracker.ask("FLUSHALL") == OK
        yield pairs


REFUSED: Final = r"""
CLIENT TRACKING | CLIENT TRACKING x | CLIENT TRACKING ON x | CLIENT TRACKING ON PREFIX | CLIENT TRACKING ON REDIRECT
CLIENT TRACKING ON PREFIX a | CLIENT TRACKING ON REDIRECT x | CLIENT TRACKING ON REDIRECT 99999
CLIENT TRACKING ON REDIRECT 0 | CLIENT TRACKING ON BCAST OPTIN | CLIENT TRACKING ON OPTOUT BCAST
CLIENT TRACKING ON OPTIN OPTOUT | CLIENT TRACKING off x | CLIENT TRACKING off bcast OPTIN | CLIENT TRACKING x REDIRECT x
CLIENT TRACKING ON BCAST PREFIX a PREFIX ab | CLIENT TRACKING ON BCAST PREFIX a PREFIX a | CLIENT GETREDIR
CLIENT TRACKING ON BCAST PREFIX ab PREFIX a | CLIENT TRACKINGINFO | CLIENT CACHING YES | CLIENT CACHING x
CLIENT TRACKING ON BCAST PREFIX user: PREFIX x | CLIENT TRACKINGINFO | CLIENT GETREDIR | CLIENT TRACKING ON
CLIENT TRACKING ON BCAST PREFIX user:1 | CLIENT TRACKING ON BCAST PREFIX us | CLIENT TRACKING ON BCAST PREFIX ""
CLIENT TRACKING ON BCAST PREFIX y NOLOOP | CLIENT TRACKINGINFO | CLIENT TRACKING ON BCAST PREFIX z | CLIENT TRACKINGINFO
CLIENT TRACKING ON OPTIN | CLIENT CACHING YES | CLIENT CACHING no | CLIENT TRACKING OFF | CLIENT TRACKINGINFO
CLIENT TRACKING ON BCAST | CLIENT TRACKINGINFO | CLIENT TRACKING ON BCAST PREFIX a | CLIENT TRACKING OFF
CLIENT GETREDIR
CLIENT TRACKING on optin noloop | CLIENT TRACKINGINFO | CLIENT CACHING no | CLIENT CACHING x | CLIENT CACHING yes
CLIENT TRACKINGINFO | PING | CLIENT TRACKINGINFO | CLIENT TRACKING ON OPTOUT | CLIENT TRACKING ON BCAST
CLIENT TRACKING ON | CLIENT TRACKINGINFO | CLIENT CACHING YES | CLIENT TRACKING ON OPTOUT | CLIENT CACHING YES
CLIENT CACHING NO | CLIENT TRACKINGINFO | CLIENT GETNAME | CLIENT TRACKINGINFO | MULTI | CLIENT TRACKINGINFO | EXEC
CLIENT TRACKINGINFO | CLIENT CACHING NO | FOO | CLIENT TRACKINGINFO | CLIENT TRACKING ON OPTIN | RESET | HELLO 3
CLIENT TRACKINGINFO | CLIENT TRACKING ON NOLOOP | CLIENT TRACKING ON | CLIENT TRACKINGINFO | CLIENT CACHING
CLIENT TRACKINGINFO x
"""


def test_what_is_said(pairs: Mapping[str, Pair]) -> None:
    """Options and their errors, reply by reply, to the byte."""
    kvs, redis_too = pairs["A"]
    for line in REFUSED.replace("\n", " | ").split(" | "):
        if line.strip():
            replies = [tracker.ask(line) for tracker in (kvs, redis_too)]
            if line == "HELLO 3":
                continue
            assert replies[0] == replies[1], line


TOLD: Final[dict[str, str]] = {
    "what was read": """
        A: CLIENT TRACKING ON | A: GET a | B: GET a | B: SET a 1 | B: SET a 2 | A: MGET a b c | B: MSET a 1 c 1 d 1
        A: EXISTS b | A: TTL b | B: SET b 1 | B: EXPIRE b 100 | A: TYPE b | B: PERSIST b | A: STRLEN b | B: DEL b
        A: GET nope | B: DEL nope | B: SETNX nope 1 | A: GET b | B: APPEND b x | A: GETEX b | B: SET b 2
        A: GETDEL b | B: SET b 3 | A: OBJECT ENCODING b | B: INCR b | A: LCS a b | B: RENAME b c | B: SET a 1
        A: WATCH b | B: SET b 1 | A: BITCOUNT b | B: SETBIT b 1 1 | A: SCAN 0 | A: KEYS * | B: SET b 1 | A: GET b
        B: FLUSHALL | B: SET b 1 | A: GET b | A: FLUSHDB | A: GET b | A: CLIENT TRACKING OFF | B: SET b 2
        A: CLIENT TRACKING ON | B: SET b 3 | A: GET b | A: RESET | A: HELLO 3 | B: SET b 4
    """,
    "own changes": """
        A: CLIENT TRACKING ON | A: GET a | A: SET a 1 | A: SET a 2 | A: GET a | A: DEL a | A: GET a | A: INCR a
        B: CLIENT TRACKING ON NOLOOP | B: GET a | B: SET a 1 | B: GET a | A: SET a 2 | B: GET b | B: MSET a 1 b 1
        B: GET a | B: FLUSHALL
    """,
    "broadcast": """
        A: CLIENT TRACKING ON BCAST PREFIX user: PREFIX x | B: CLIENT TRACKING ON BCAST NOLOOP | C: SET user:1 1
        C: SET us 1 | C: SET x 1 | C: SET xyz 1 | C: DEL xyz | C: DEL xyz | C: MSET user:1 1 user:2 1 y 1
        A: SET x 1 | B: SET x 2 | A: GET x | B: FLUSHALL | C: SET x 1 | A: CLIENT TRACKING ON BCAST PREFIX y
        C: SET y 1
        A: CLIENT TRACKING OFF | C: SET x 1 | C: GETEX x EX 100 | C: RENAME x y
    """,
    "opting in and out": """
        A: CLIENT TRACKING ON OPTIN | A: GET a | B: SET a 1 | A: CLIENT CACHING YES | A: GET a | B: SET a 2
        A: CLIENT CACHING YES | A: CLIENT GETNAME | A: GET a | A: GET b | B: MSET a 1 b 1 | A: CLIENT CACHING YES
        A: MULTI | A: GET a | A: GET b | A: EXEC | A: GET c | B: MSET a 1 b 1 c 1 | A: CLIENT CACHING YES | A: FOO
        A: GET a | B: SET a 1 | C: CLIENT TRACKING ON OPTOUT | C: GET a | B: SET a 1 | C: CLIENT CACHING NO | C: GET a
        B: SET a 1 | C: GET a | B: SET a 1
    """,
    "queues": """
        A: CLIENT TRACKING ON | A: MULTI | A: GET a | A: MGET b c | A: EXEC | B: MSET a 1 b 1 c 1 | A: GET a | B: MULTI
        B: SET a 1 | B: SET b 1 | A: PING | B: EXEC | A: GET a | B: MULTI | B: SET a 1 | B: DISCARD | B: WATCH w
        C: SET w 1 | B: MULTI | B: SET a 2 | B: EXEC | B: SET a 3 | A: MULTI | A: GET a | A: SET a 4 | A: EXEC
        A: GET a | B: MULTI | B: FLUSHALL | B: SET a 1 | B: EXEC
    """,
}


@pytest.mark.parametrize("about", TOLD)
def test_what_is_told(pairs: Mapping[str, Pair], about: str) -> None:
    """After each request, everybody has been told of the same keys by both servers."""
    queueing = set()
    for line in TOLD[about].replace("\n", " | ").split(" | "):
        sender, _, said = line.strip().partition(": ")
        if not said:
            continue
        if said == "MULTI":
            queueing.add(sender)
        elif said in ("EXEC", "DISCARD"):
            queueing.remove(sender)
        replies = [tracker.ask(said) for tracker in pairs[sender]]
        assert replies[0] == replies[1] or said.startswith(("HELLO", "OBJECT", "KEYS", "SCAN")), said
        for name, (kvs, redis_too) in pairs.items():
            assert name in queueing or kvs.news() == redis_too.news(), f"{name}, after {line}"


def test_expiry_is_told(address: Address) -> None:
    """By the server itself, when nobody asks for the key."""
    tracker = Tracker(address)
    with closing(tracker.wire):
        assert tracker.ask("CLIENT TRACKING ON NOLOOP") == OK
        tracker.ask("GET a")
        assert tracker.ask("SET a 1 PX 20") == OK
        for _ in polling("the key has expired"):
            if tracker.news() == {b"a"}:
                break


@pytest.mark.parametrize("mode", ["ON", "ON BCAST", "ON OPTIN", "ON OPTOUT NOLOOP", "OFF"])
def test_the_state_of_clients(pairs: Mapping[str, Pair], mode: str) -> None:
    """Flags and fields in CLIENT LIST, and the figures of INFO."""
    found = []
    for one, other in zip(pairs["A"], pairs["B"], strict=True):
        number = one.ask("CLIENT ID")
        one.ask(f"CLIENT TRACKING {mode}")
        one.ask("MGET a b")
        assert isinstance(number, int)
        line = other.ask(f"CLIENT LIST ID {number}")
        info = other.ask("INFO everything")
        assert isinstance(line, Typed)
        assert isinstance(line.value, bytes)
        assert isinstance(info, Typed)
        assert isinstance(info.value, bytes)
        fields = dict(field.split("=", 1) for field in line.value.decode().split(" ")[1:])
        figures = [row for row in info.value.decode().splitlines() if row.startswith("tracking_")]
        found.append((fields["flags"].replace("U", "") or "N", fields["redir"], sorted(figures)))
    assert found[0] == found[1]


def test_redirection_is_refused(address: Address) -> None:
    """There is no pub/sub to send by."""
    tracker = Tracker(address)
    with closing(tracker.wire):
        number = tracker.ask("CLIENT ID")
        assert tracker.ask(f"CLIENT TRACKING ON REDIRECT {number!r}") == error(
            "ERR CLIENT TRACKING needs RESP3 (HELLO 3), and no REDIRECT: there is no pub/sub to send by"
        )
        assert tracker.ask(f"CLIENT TRACKING ON REDIRECT {number!r} REDIRECT {number!r}") == error(
            "ERR A client can only redirect to a single other client"
        )
        assert tracker.ask("CLIENT GETREDIR") == -1


@pytest.fixture
def caching(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a client of redis-py that keeps what it has read; it has to be told that kvs will do."""
    monkeypatch.setattr(CacheProxyConnection, "DEFAULT_SERVER_NAME", "kvs")
    monkeypatch.setattr(CacheProxyConnection, "MIN_ALLOWED_VERSION", "7.0.0")
    with closing(redis.Redis(*address, protocol=3, decode_responses=True, cache_config=CacheConfig())) as client:
        yield client


def test_the_cache_of_redis_py(caching: Any, server: Server) -> None:
    """It answers from its cache until it is told, by whichever client and whichever protocol the key was changed."""
    with redis.Redis(server.host, server.port) as other, Client(server.host, server.port) as line:

        def cached() -> int:
            return len(caching.get_cache().collection)

        def now_reads(expected: object) -> None:
            for _ in polling(f"the cache has {expected!r}"):
                if caching.get("a") == expected:
                    break

        assert caching.get("a") is None
        other.set("a", "1")
        now_reads("1")
        caching.get("a")  # it keeps no value that comes behind a message
        reads = other.info("commandstats")["cmdstat_get"]["calls"]
        for _ in range(5):
            assert caching.get("a") == "1"
        assert other.info("commandstats")["cmdstat_get"]["calls"] == reads
        line.ok("PUT a 2")
        now_reads("2")
        line.ok("START", "PUT a 3", "ROLLBACK")
        assert caching.get("a") == "2"
        line.ok("START", "PUT a 4")
        assert caching.get("a") == "2"
        line.ok("COMMIT")
        now_reads("4")
        with other.pipeline() as pipe:
            pipe.set("a", "5").set("b", "1").execute()
        now_reads("5")
        other.pexpire("a", 20)
        now_reads(None)
        caching.mget("a", "b", "c")
        assert cached()
        other.flushall()
        for _ in polling("the cache is empty"):
            caching.ping()
            if caching.mget("a", "b", "c") == [None] * 3:
                break
