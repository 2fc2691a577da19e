"""fastapi-cache2 and starsessions, the sessions of Starlette: on kvs as on Redis, with nothing changed but the port."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest
import redis.asyncio

from tests.interop.conftest import package
from tests.interop.lifetimes import LONG_S, is_long, lifetime_s, wait_until_gone

pytestmark = pytest.mark.filterwarnings("default")  # which are between these programs

Address: TypeAlias = tuple[str, int]


def talk(address: Address, what: Callable[[Any], Awaitable[None]]) -> None:
    """Run something with a client, in a loop of its own."""

    async def run() -> None:
        async with redis.asyncio.Redis(host=address[0], port=address[1]) as client:
            await what(client)

    asyncio.run(run())


def browser_of(app: Any) -> Any:
    """Return what sends requests to a site, and keeps its cookies."""
    httpx = package("httpx")
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://site")


def test_pages_expire(address: Address) -> None:
    """Those that fastapi-cache2 keeps are made once, until their deadline."""
    fastapi_cache = package("fastapi_cache")
    cache = package("fastapi_cache.decorator").cache
    made = 0

    async def page(name: str) -> Any:
        nonlocal made
        made += 1
        return {"name": name, "made": made}

    async def what(client: Any) -> None:
        app = package("fastapi").FastAPI()
        app.add_api_route("/long/{name}", cache(LONG_S)(page))
        app.add_api_route("/short/{name}", cache(1)(page))
        backend = package("fastapi_cache.backends.redis").RedisBackend(client)
        fastapi_cache.FastAPICache.reset()
        fastapi_cache.FastAPICache.init(backend, prefix="pages")
        async with browser_of(app) as browser:
            for status in ("MISS", "HIT", "HIT"):
                answer = await browser.get("/long/x")
                assert answer.json() == {"name": "x", "made": 1}
                assert answer.headers["X-FastAPI-Cache"] == status
            assert is_long(lifetime_s(address))
            assert is_long(int(answer.headers["Cache-Control"].removeprefix("max-age=")))
            assert (await browser.get("/long/y")).json() == {"name": "y", "made": 2}
            assert [await backend.clear(key=key.decode()) for key in await client.keys()] == [1, 1]
            assert (await browser.get("/short/x")).json() == {"name": "x", "made": 3}
            wait_until_gone(address)
            assert (await browser.get("/short/x")).json() == {"name": "x", "made": 4}

    talk(address, what)


def test_sessions_expire(address: Address) -> None:
    """They are remembered, forgotten at their deadline, and not taken up again under their old name."""
    starsessions = package("starsessions")
    applications, responses, routing = (
        package(f"starlette.{name}") for name in ("applications", "responses", "routing")
    )

    async def visits(request: Any) -> Any:
        request.session["visits"] = request.session.get("visits", 0) + 1
        return responses.PlainTextResponse(str(request.session["visits"]))

    async def leave(request: Any) -> Any:
        request.session.clear()
        return responses.PlainTextResponse("")

    def site(client: Any, of_s: int) -> Any:
        """Return a site whose sessions live so many seconds from each request on."""
        app = applications.Starlette(routes=[routing.Route("/visits", visits), routing.Route("/leave", leave)])
        app.add_middleware(starsessions.SessionAutoloadMiddleware)
        store = package("starsessions.stores.redis").RedisStore(connection=client)
        app.add_middleware(starsessions.SessionMiddleware, store=store, lifetime=of_s, rolling=True)
        return app

    async def what(client: Any) -> None:
        async with browser_of(site(client, LONG_S)) as browser:
            assert [(await browser.get("/visits")).text for _ in range(3)] == ["1", "2", "3"]
            assert is_long(lifetime_s(address))
            name = browser.cookies["session"]
        async with browser_of(site(client, 1)) as browser:
            browser.cookies.set("session", name)
            assert (await browser.get("/visits")).text == "4"
        wait_until_gone(address)
        async with browser_of(site(client, LONG_S)) as browser:
            browser.cookies.set("session", name)
            assert (await browser.get("/visits")).text == "1"
            await browser.get("/leave")
            assert await client.dbsize() == 0

    talk(address, what)
