"""The same is said to Redis and to kvs while time passes: both go by a clock that the test holds.

So all replies are the same to the millisecond. Only at the deadline itself are they not: a key is gone by then, and in
Redis one millisecond later.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.interop.conftest import redis_process
from tests.interop.pairs import Pair, connected, sorted_listings, speak
from tests.interop.strategies import DATA, IF, KEYS, OPTIONS, TRANSACTIONS, VALUES
from tests.support import held_clock
from tests.support.harness import Server
from tests.support.held_clock import HeldClock
from tests.support.resp_wire import NULL_ARRAY, OK, Reply, Typed

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the clock is made of system calls of Linux"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="the clock needs a C compiler"),
]

START_MS: Final = 1_900_000_000_123

MS: Final = st.sampled_from(["1", "500", "999", "1000", "1001", "2000", "60000"])
SECONDS: Final = st.sampled_from(["1", "2", "60"])
LIFETIMES: Final = st.one_of(
    MS.map("PX {}".format),
    SECONDS.map("EX {}".format),
    MS.map("PXAT ms+{}".format),
    SECONDS.map("EXAT s+{}".format),
    st.sampled_from(["KEEPTTL", "PERSIST", ""]),
)
MORTAL: Final = st.one_of(
    st.builds('SET {} "{}" {} {}'.format, KEYS, VALUES, OPTIONS, LIFETIMES),
    st.builds("GETEX {} {}".format, KEYS, LIFETIMES),
    st.builds("PEXPIRE {} {} {}".format, KEYS, MS, IF),
    st.builds("EXPIRE {} {} {}".format, KEYS, SECONDS, IF),
    st.builds("PEXPIREAT {} ms+{} {}".format, KEYS, MS, IF),
    st.builds("EXPIREAT {} s+{} {}".format, KEYS, SECONDS, IF),
    st.builds("PSETEX {} {} 1".format, KEYS, MS),
    st.builds("{} {}".format, st.sampled_from(["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "GET", "PERSIST"]), KEYS),
)
MOVES: Final = st.sampled_from(["1", "499", "500", "501", "999", "1000", "1001", "5000", "60000"]).map("move {}".format)
SAID: Final = st.lists(
    st.tuples(st.sampled_from("AAB"), st.one_of(MORTAL, MORTAL, DATA, TRANSACTIONS, MOVES)), max_size=50
)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeldClock]:
    """Return the clock of both servers."""
    clock = HeldClock(tmp_path_factory.mktemp("clock") / "ms")
    clock.set(START_MS)
    yield clock
    clock.close()


@pytest.fixture(scope="module")
def pairs(clock: HeldClock) -> Iterator[dict[str, Pair]]:
    """Return connections to both servers by name."""
    command = (sys.executable, held_clock.__file__, str(clock.path))
    with (
        redis_process(clock.preloaded(clock.path.parent)) as redis,
        Server(command=command) as server,
        connected((server.host, server.port), redis) as pairs,
    ):
        yield dict(pairs)


def begin(pairs: dict[str, Pair], version: int = 2) -> None:
    """Empty both servers, and have the clients begin anew."""
    for pair in pairs.values():
        assert pair.ask("RESET") == (Typed("+", b"RESET"),) * 2
    assert pairs["A"].ask("FLUSHALL") == (OK, OK)
    speak(pairs, version)


def at(clock: HeldClock, line: str) -> str:
    """Return a line with its moments filled in."""
    now_ms = clock.now_ms()
    line = re.sub(r"\bms\+(\d+)", lambda found: str(now_ms + int(found[1])), line)
    return re.sub(r"\bs\+(\d+)", lambda found: str(now_ms // 1000 + int(found[1])), line)


def move(clock: HeldClock, pairs: dict[str, Pair], by_ms: int) -> None:
    """Let time pass, but not to the very deadline of a key."""
    deadlines = {pairs["C"].kvs.ask("PEXPIRETIME", key) for key in "abcf"}
    now_ms = clock.now_ms() + by_ms
    while now_ms in deadlines:
        now_ms += 1
    clock.set(now_ms)
    kvs, redis = pairs["C"].ask("EXISTS a b c f")  # where one asks, Redis deletes, too
    assert kvs == redis


def test_the_clock_is_held(clock: HeldClock, pairs: dict[str, Pair]) -> None:
    """By both, or nothing would be compared here; and a key is gone at its deadline, and not a millisecond before."""
    begin(pairs)
    seconds, ms = divmod(clock.now_ms(), 1000)
    pair = pairs["A"]
    assert pair.ask("TIME") == ([b"%d" % seconds, b"%d" % (ms * 1000)],) * 2
    pair.ask("SET a 1 PX 2")
    clock.move(1)
    assert pair.ask("PTTL a") == (1, 1)
    clock.move(1)
    assert pair.ask("PTTL a") == (-2, 0)
    clock.move(1)
    assert pair.ask("PTTL a") == (-2, -2)


@pytest.mark.parametrize(("moved_ms", "reply"), [(4, [OK]), (6, NULL_ARRAY)])
def test_a_watched_key_expires(clock: HeldClock, pairs: dict[str, Pair], moved_ms: int, reply: Reply) -> None:
    """So the transaction does nothing."""
    begin(pairs)
    pair = pairs["A"]
    for line in ("SET a 1 PX 5", "WATCH a"):
        pair.ask(line)
    clock.move(moved_ms)
    for line in ("MULTI", "SET b 1"):
        pair.ask(line)
    assert pair.ask("EXEC") == (reply, reply)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(said=SAID, version=st.sampled_from([2, 3]))
def test_anything(clock: HeldClock, pairs: dict[str, Pair], said: list[tuple[str, str]], version: int) -> None:
    """Random commands, in queues and out of them, with time that passes between them, have the same replies."""
    begin(pairs, version)
    for sender, template in said:
        if template.startswith("move "):
            move(clock, pairs, int(template.removeprefix("move ")))
            continue
        line = at(clock, template)
        kvs, redis = pairs[sender].ask(line)
        assert sorted_listings(kvs, line) == sorted_listings(redis, line), f"{sender}: {line}"
    pairs["A"].ask("DISCARD")
    for key in "abcf":
        for name in ("PEXPIRETIME", "PTTL", "GET"):
            kvs, redis = pairs["C"].ask(f"{name} {key}")
            assert kvs == redis
