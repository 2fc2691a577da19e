"""litellm's cache in Redis: on kvs as on Redis, with nothing changed but the port.

litellm is many packages, and takes seconds to import: it is a group of its own, which continuous integration leaves
out.
"""

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import Any, TypeAlias

import pytest

from tests.interop.lifetimes import LONG_S, is_long, lifetime_s, wait_until_gone
from tests.support.resp_wire import Wire

pytestmark = pytest.mark.filterwarnings("default")  # which are between its parts

Address: TypeAlias = tuple[str, int]


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return its caches; skip where it is not installed."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # or its import would fetch a list of prices
    with closing(asyncio.new_event_loop()) as loop:
        asyncio.set_event_loop(loop)  # or it would make one, and leave it open
        try:
            yield importlib.import_module("litellm.caching")
        except ModuleNotFoundError as error:
            pytest.skip(f"there is no {error.name} here: make litellm installs it")
        finally:
            asyncio.set_event_loop(None)


@pytest.fixture
def cache(litellm: Any, address: Address) -> Iterator[Any]:
    """Return what it talks to Redis by."""
    host, port = address
    cache = litellm.RedisCache(host=host, port=port)
    with closing(cache.redis_client):
        yield cache


def talk(cache: Any, what: Callable[[], Awaitable[None]]) -> None:
    """Run something in a loop of its own, and close the connections that the cache has made for that."""

    async def run() -> None:
        await what()
        await cache.disconnect()

    asyncio.run(run())


def lifetime_of(address: Address, key: str) -> Any:
    """Return how many seconds a key has left."""
    with Wire(address) as wire:
        return wire.ask("TTL", key)


def test_values(cache: Any, address: Address) -> None:
    """Of any type, for a time or for good, counted with, and many at once."""
    assert cache.sync_ping()
    cache.set_cache("a", {"x": [1, None, "ü"]}, ttl=LONG_S)
    assert cache.get_cache("a") == {"x": [1, None, "ü"]}
    assert is_long(lifetime_s(address))
    assert cache.get_cache("nope") is None
    assert [cache.increment_cache("n", 2, ttl=LONG_S) for _ in range(3)] == [2, 4, 6]
    assert is_long(lifetime_of(address, "n"))
    assert cache.batch_get_cache(["a", "n", "nope"]) == {"a": {"x": [1, None, "ü"]}, "n": 6, "nope": None}
    cache.delete_cache("a")
    assert cache.get_cache("a") is None
    cache.flush_cache()
    assert cache.get_cache("n") is None
    assert cache.info()["redis_version"]
    assert len(cache.client_list()) == 1


def test_values_expire(cache: Any, address: Address) -> None:
    """However they were written."""
    cache.set_cache("a", 1, ttl=1)
    cache.increment_cache("b", 1, ttl=1)

    async def what() -> None:
        await cache.async_set_cache("c", 1, ttl=LONG_S)
        await cache.async_set_cache("c", 2, ttl=1)
        await cache.async_set_cache_pipeline([("d", {"x": 1}), ("e", 2)], ttl=1)
        await cache.async_increment("f", 1.5, ttl=1)
        assert await cache.async_set_cache("g", 1, nx=True, ttl=1)
        wait_until_gone(address)
        assert await cache.async_batch_get_cache(list("abcdefg")) == dict.fromkeys("abcdefg")
        assert await cache.async_set_cache("g", 2, nx=True)
        assert await cache.async_get_cache("g") == 2

    talk(cache, what)


def test_asynchronous_calls(cache: Any, address: Address) -> None:
    """Conditional writes, counters, pipelines, and a search for names."""

    async def what() -> None:
        assert await cache.ping()
        assert await cache.async_set_cache("lock", "me", nx=True, ttl=LONG_S)
        assert not await cache.async_set_cache("lock", "you", nx=True, ttl=LONG_S)
        assert await cache.async_get_cache("lock") == "me"
        assert is_long(await cache.async_get_ttl("lock"))
        await cache.async_set_cache_pipeline([("one", {"x": 1}), ("two", [2])], ttl=LONG_S)
        assert await cache.async_batch_get_cache(["one", "two", "three"]) == {
            "one": {"x": 1},
            "two": [2],
            "three": None,
        }
        assert is_long(lifetime_of(address, "two"))
        assert [await cache.async_increment("n", 1.5, ttl=LONG_S) for _ in range(2)] == [1.5, 3]
        assert is_long(lifetime_of(address, "n"))
        operation = {"key": "n", "increment_value": 2.0, "ttl": LONG_S}
        assert (await cache.async_increment_pipeline([operation]))[0] == 5
        assert sorted(await cache.async_scan_iter("*o*")) == [b"lock", b"one", b"two"]
        await cache.async_delete_cache("one")
        await cache.delete_cache_keys(["two", "lock"])
        assert await cache.async_batch_get_cache(["one", "two", "lock"]) == {"one": None, "two": None, "lock": None}

    talk(cache, what)


def test_answers_are_kept(litellm: Any, address: Address) -> None:
    """As ``litellm.cache`` keeps the answers of models: by what was asked, and until their deadline."""
    host, port = address
    cache = litellm.Cache(type="redis", host=host, port=port, ttl=LONG_S)
    question = {"model": "some", "messages": [{"role": "user", "content": "what is it?"}]}
    with closing(cache.cache.redis_client):
        assert cache.get_cache(**question) is None
        cache.add_cache({"answer": 42}, **question)
        assert cache.get_cache(**question) == {"answer": 42}
        assert is_long(lifetime_s(address))
        assert cache.get_cache(**question | {"model": "other"}) is None
        cache.add_cache({"answer": 43}, **question, cache={"ttl": 1})
        wait_until_gone(address)
        assert cache.get_cache(**question) is None
