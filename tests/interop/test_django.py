"""Django's cache and its sessions: on kvs as on Redis, with nothing changed but the port."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest

from tests.interop.conftest import package
from tests.interop.lifetimes import LONG_S, is_long, lifetime_s, wait_until_gone

pytestmark = pytest.mark.filterwarnings("default")  # which are between Django and redis-py

Address: TypeAlias = tuple[str, int]


@pytest.fixture
def cache(address: Address) -> Iterator[Any]:
    """Return the default cache of a Django that is set up for kvs, and keeps its sessions there, too."""
    conf = package("django.conf")
    if not conf.settings.configured:  # once in a process
        conf.settings.configure(
            ALLOWED_HOSTS=["testserver"],
            MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
            SESSION_ENGINE="django.contrib.sessions.backends.cache",
        )
        package("django").setup()
    backend = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": "redis://{}:{}".format(*address),
    }
    with package("django.test.utils").override_settings(CACHES={"default": backend}):
        cache = package("django.core.cache").caches["default"]
        yield cache
        for pool in cache._cache._pools.values():
            pool.disconnect()


@pytest.fixture
def site(cache: Any) -> Iterator[Any]:
    """Return what sends requests to a site with two pages: one counts visits, one is cached and counts its making."""
    urls = package("django.urls")
    respond = package("django.http").HttpResponse
    made = 0

    def visits(request: Any) -> Any:
        request.session["visits"] = request.session.get("visits", 0) + 1
        if "lifetime_s" in request.GET:
            request.session.set_expiry(int(request.GET["lifetime_s"]))
        return respond(request.session["visits"])

    def page(request: Any) -> Any:
        nonlocal made
        made += 1
        return respond(made)

    def leave(request: Any) -> Any:
        request.session.flush()
        return respond("")

    cached = package("django.views.decorators.cache").cache_page
    pages = (
        urls.path("visits", visits),
        urls.path("leave", leave),
        urls.path("long", cached(LONG_S)(page)),
        urls.path("short", cached(1)(page)),
    )
    with package("django.test.utils").override_settings(ROOT_URLCONF=pages):
        yield package("django.test").Client()


def test_cached_values(cache: Any) -> None:
    """Of any type; numbers can be counted with."""
    cache.set("a", {"x": [1, 2.5, None, "ü"]})
    assert cache.get("a") == {"x": [1, 2.5, None, "ü"]}
    assert cache.get("nope", "instead") == "instead"
    assert cache.add("a", "other") is False
    assert cache.add("b", 10) is True
    assert cache.incr("b", 5) == 15
    assert cache.decr("b") == 14
    with pytest.raises(ValueError, match="not found"):
        cache.incr("nope")
    assert cache.get_or_set("b", 1) == 14
    assert cache.get_or_set("c", lambda: "made") == "made"
    assert cache.set_many({"d": 1, "e": True}) == []
    assert cache.get_many(["b", "d", "e", "nope"]) == {"b": 14, "d": 1, "e": True}
    assert "d" in cache
    assert cache.delete("d") is True
    assert cache.delete("d") is False
    cache.set("a", "second", version=2)
    assert cache.get("a", version=2) == "second"
    assert cache.incr_version("a", version=2) == 3
    assert cache.get("a", version=3) == "second"
    cache.delete_many(["b", "c"])
    assert cache.get_many(["a", "b", "c", "e"]) == {"a": {"x": [1, 2.5, None, "ü"]}, "e": True}
    assert cache.clear() is True
    assert cache.get("e") is None


def test_cached_values_expire(cache: Any, address: Address) -> None:
    """However their deadline was set; and for good is for good."""
    assert cache.add("k", 1, LONG_S) is True
    assert is_long(lifetime_s(address))
    assert cache.incr("k") == 2
    assert is_long(lifetime_s(address))
    assert cache.touch("k", None) is True
    assert lifetime_s(address) == -1
    assert cache.touch("k", LONG_S) is True
    assert is_long(lifetime_s(address))
    cache.set("k", 2, None)
    assert lifetime_s(address) == -1
    cache.set("k", 3)
    assert 180 < lifetime_s(address) <= 300  # which is what Django does unless told otherwise
    cache.set_many({"k": 4}, LONG_S)
    assert is_long(lifetime_s(address))
    assert cache.get("k") == 4
    cache.set("k", 5, 0)
    assert cache.get("k") is None

    cache.set_many({"k": 6, "l": 7}, LONG_S)
    assert cache.touch("k", 1) is True
    cache.set_many({"l": 8}, 1)
    cache.add("m", 9, 1)
    cache.set("n", 10, 1)
    wait_until_gone(address)
    assert cache.get_many(["k", "l", "m", "n"]) == {}
    assert cache.touch("k", 1) is False
    assert cache.add("k", 11, LONG_S) is True
    assert cache.get("k") == 11


def test_cached_pages_expire(site: Any, cache: Any, address: Address) -> None:
    """They are made once, until their deadline."""
    assert [site.get("/long").content for _ in range(3)] == [b"1"] * 3
    cache.clear()
    assert site.get("/short").content == b"2"
    wait_until_gone(address)
    assert site.get("/short").content == b"3"


def test_sessions_expire(site: Any, address: Address) -> None:
    """They are remembered, forgotten at their deadline, and not taken up again under their old name."""
    assert site.get("/visits", {"lifetime_s": LONG_S}).content == b"1"
    assert is_long(lifetime_s(address))
    assert site.get("/visits").content == b"2"
    name = site.cookies["sessionid"].value
    assert site.get("/visits", {"lifetime_s": 1}).content == b"3"
    assert site.cookies["sessionid"].value == name
    wait_until_gone(address)
    assert site.get("/visits").content == b"1"
    assert site.cookies["sessionid"].value not in ("", name)
    site.get("/leave")
    wait_until_gone(address)
