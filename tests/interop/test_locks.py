"""Locks and limits of rates by SET NX PX, as programs write them with redis-py."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Final, TypeAlias
from uuid import uuid4

import pytest
import redis

from tests.support.harness import polling

Address: TypeAlias = tuple[str, int]
Release: TypeAlias = Callable[[Any, str, bytes], bool]

LONG_MS: Final = 1_000_000
SHORT_MS: Final = 50


@pytest.fixture
def client(address: Address) -> Iterator[Any]:
    """Return a client that any number of threads may use."""
    with closing(redis.Redis(*address)) as client:
        yield client


def acquire(client: Any, name: str, lifetime_ms: int) -> bytes | None:
    """Take a lock if it is free; return what to release it with."""
    token = uuid4().hex.encode()
    return token if client.set(name, token, nx=True, px=lifetime_ms) else None


def release_by_watch(client: Any, name: str, token: bytes) -> bool:
    """Release a lock, unless it has expired and somebody else has it, as is done where there are no scripts."""

    def delete(pipe: Any) -> None:
        is_mine = pipe.get(name) == token
        pipe.multi()
        if is_mine:
            pipe.delete(name)

    return bool(client.transaction(delete, name))


def release_by_delex(client: Any, name: str, token: bytes) -> bool:
    """Do the same with one command."""
    return bool(client.execute_command("DELEX", name, "IFEQ", token))


@pytest.fixture(params=[release_by_watch, release_by_delex])
def release(request: pytest.FixtureRequest) -> Release:
    """Return a way to release a lock."""
    way: Release = request.param
    return way


def test_locks_expire(client: Any, release: Release) -> None:
    """A lock is held by one; who has lost it to its deadline cannot release it for who has it now."""
    held = acquire(client, "lock", LONG_MS)
    assert held
    assert acquire(client, "lock", LONG_MS) is None
    assert not release(client, "lock", b"of another")
    assert acquire(client, "lock", LONG_MS) is None
    assert release(client, "lock", held)

    late = acquire(client, "lock", SHORT_MS)
    assert late
    for _ in polling("the lock has expired"):
        held = acquire(client, "lock", LONG_MS)
        if held:
            break
    assert not release(client, "lock", late)
    assert acquire(client, "lock", LONG_MS) is None
    assert held
    assert release(client, "lock", held)
    assert client.dbsize() == 0


def test_locks_exclude(client: Any, release: Release) -> None:
    """What is read and written under a lock adds up, whoever is at it at the same time."""

    def add() -> None:
        for _ in polling("the lock is free"):
            held = acquire(client, "lock", LONG_MS)
            if held:
                break
        client.set("sum", int(client.get("sum") or 0) + 1)
        assert held
        assert release(client, "lock", held)

    with ThreadPoolExecutor(8) as threads:
        done = [threads.submit(add) for _ in range(64)]
    for one in done:
        one.result()
    assert client.get("sum") == b"64"


def is_allowed(client: Any, name: str, limit: int, window_ms: int) -> bool:
    """Count a request, and tell whether it is within the limit for its window of time, which begins with its first."""
    pipe = client.pipeline()
    pipe.set(name, 0, nx=True, px=window_ms)
    pipe.incr(name)
    number: int = pipe.execute()[-1]
    return number <= limit


def test_limits_of_rates(client: Any) -> None:
    """As many as may are allowed in a window, whoever asks at the same time; and again in the next one."""
    with ThreadPoolExecutor(8) as threads:
        allowed = list(threads.map(lambda _: is_allowed(client, "one", 30, LONG_MS), range(100)))
    assert allowed.count(True) == 30
    assert is_allowed(client, "another", 30, LONG_MS)
    assert not is_allowed(client, "one", 30, LONG_MS)
    assert client.pttl("one") > LONG_MS // 2  # as set by the first

    for _ in polling("there are more requests than may be, within one window"):
        if not is_allowed(client, "soon", 3, SHORT_MS):
            break
    for _ in polling("the next window has begun"):
        if is_allowed(client, "soon", 3, SHORT_MS):
            break
