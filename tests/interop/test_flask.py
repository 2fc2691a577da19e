"""Flask-Session, Flask-Caching and the cachelib beneath it: on kvs as on Redis, with nothing changed but the port."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any, TypeAlias

import pytest
import redis

from tests.interop.conftest import package
from tests.interop.lifetimes import LONG_S, is_long, lifetime_s, wait_until_gone

pytestmark = pytest.mark.filterwarnings("default")  # which are between these programs

Address: TypeAlias = tuple[str, int]


@pytest.fixture
def client(address: Address) -> Iterator[Any]:
    """Return the client of Redis that the programs use."""
    with closing(redis.Redis(*address)) as client:
        yield client


@pytest.fixture
def app() -> Any:
    """Return a site without pages."""
    return package("flask").Flask(__name__)


@pytest.fixture
def cache(app: Any, address: Address) -> Iterator[Any]:
    """Return the cache that Flask-Caching gives that site."""
    host, port = address
    config = {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_HOST": host, "CACHE_REDIS_PORT": port}
    cache = package("flask_caching").Cache(app, config=config)
    yield cache
    with app.app_context():
        cache.cache._write_client.close()


def test_sessions_expire(app: Any, client: Any, address: Address) -> None:
    """They are remembered, forgotten at their deadline, and not taken up again under their old name."""
    flask = package("flask")
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=client)
    app.permanent_session_lifetime = timedelta(seconds=LONG_S)
    package("flask_session").Session(app)

    def visits() -> Any:
        flask.session["visits"] = flask.session.get("visits", 0) + 1
        return str(flask.session["visits"])

    def leave() -> Any:
        flask.session.clear()
        return ""

    app.add_url_rule("/visits", view_func=visits)
    app.add_url_rule("/leave", view_func=leave)
    browser = app.test_client()
    assert [browser.get("/visits").text for _ in range(3)] == ["1", "2", "3"]
    assert is_long(lifetime_s(address))
    name = browser.get_cookie("session").value

    app.permanent_session_lifetime = timedelta(seconds=1)
    assert browser.get("/visits").text == "4"
    wait_until_gone(address)
    app.permanent_session_lifetime = timedelta(seconds=LONG_S)
    browser.set_cookie("session", name)  # which has expired in the browser, too
    assert browser.get("/visits").text == "1"
    browser.get("/leave")
    assert client.dbsize() == 0


@pytest.mark.parametrize("prefix", [None, "of-the-site-"])
def test_values_of_cachelib(client: Any, address: Address, prefix: str | None) -> None:
    """Of any type, counted with, for a time or for good."""
    cache = package("cachelib").RedisCache(client, key_prefix=prefix)
    assert cache.set("a", {"x": [1, None, "ü"]})
    assert 180 < lifetime_s(address) <= 300  # which is what cachelib does unless told otherwise
    assert cache.get("a") == {"x": [1, None, "ü"]}
    assert not cache.add("a", 1)
    assert cache.set("a", 1, timeout=0)
    assert lifetime_s(address) == -1
    assert cache.inc("a", 5) == 6
    assert cache.dec("a", 2) == 4
    assert cache.delete("a")
    assert cache.add("a", 1, timeout=LONG_S)
    assert is_long(lifetime_s(address))
    assert cache.inc("a") == 2
    assert is_long(lifetime_s(address))
    assert cache.set_many({"b": "x", "c": 1.5}, timeout=LONG_S) == ["b", "c"]
    assert cache.get_many("a", "b", "c", "nope") == [2, "x", 1.5, None]
    assert cache.delete_many("b", "c") == ["b", "c"]
    assert is_long(lifetime_s(address))
    assert cache.has("a")
    assert cache.clear()
    assert not cache.has("a")


def test_values_of_cachelib_expire(client: Any, address: Address) -> None:
    """However their deadline was set."""
    cache = package("cachelib").RedisCache(client)
    cache.set("a", 1, timeout=LONG_S)
    cache.set("a", 2, timeout=1)
    cache.set_many({"b": 3}, timeout=LONG_S)
    cache.set_many({"b": 4, "c": 5}, timeout=1)
    assert cache.add("d", 6, timeout=1)
    wait_until_gone(address)
    assert cache.get_many("a", "b", "c", "d") == [None] * 4
    assert cache.add("d", 7)
    assert cache.get("d") == 7


def test_pages_and_results_expire(app: Any, cache: Any, address: Address) -> None:
    """Those that Flask-Caching keeps are made once, until their deadline or until they are deleted."""
    made = []

    def make(what: Any = "page") -> Any:
        made.append(what)
        return str(len(made))

    app.add_url_rule("/long", endpoint="long", view_func=cache.cached(LONG_S)(make))
    app.add_url_rule("/short", endpoint="short", view_func=cache.cached(1)(make))
    browser = app.test_client()
    assert [browser.get("/long").text for _ in range(3)] == ["1"] * 3
    assert is_long(lifetime_s(address))
    with app.app_context():
        assert cache.clear()
    assert browser.get("/short").text == "2"
    wait_until_gone(address)
    assert browser.get("/short").text == "3"

    with app.app_context():
        remembered = cache.memoize(LONG_S)(make)
        assert [remembered(one) for one in ("x", "y", "x", "y")] == ["4", "5", "4", "5"]
        cache.delete_memoized(remembered, "x")
        assert [remembered(one) for one in ("x", "y")] == ["6", "5"]


def test_sessions_in_cachelib_expire(app: Any, client: Any, address: Address) -> None:
    """As Flask-Session now recommends: what it keeps in cachelib."""
    flask = package("flask")
    app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=package("cachelib").RedisCache(client))
    app.permanent_session_lifetime = timedelta(seconds=LONG_S)
    package("flask_session").Session(app)

    def visits() -> Any:
        flask.session["visits"] = flask.session.get("visits", 0) + 1
        return str(flask.session["visits"])

    app.add_url_rule("/visits", view_func=visits)
    browser = app.test_client()
    assert [browser.get("/visits").text for _ in range(2)] == ["1", "2"]
    assert is_long(lifetime_s(address))
    app.permanent_session_lifetime = timedelta(seconds=1)
    name = browser.get_cookie("session").value
    assert browser.get("/visits").text == "3"
    wait_until_gone(address)
    browser.set_cookie("session", name)
    assert browser.get("/visits").text == "1"
