"""What the admin port answers, by path, while a server runs, loads, or does not turn."""

import asyncio
import io
import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import pytest

from kvs.adapters.inbound.admin import site
from kvs.adapters.inbound.admin.access import Access
from kvs.adapters.inbound.admin.messages import Request, Response
from kvs.adapters.inbound.admin.site import Site
from kvs.adapters.inbound.admin.status import LONGEST, encode, printable
from kvs.adapters.inbound.net.collector import Collected, Collector, OpenTransaction
from kvs.adapters.inbound.net.health import LOADING, Health
from kvs.adapters.inbound.net.registry import ChannelRegistry
from kvs.adapters.inbound.protocol.audit import Audit
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.protocol.slow_log import SlowCommand
from kvs.application.conflict_keys import ConflictKey
from kvs.logs import make_logger
from tests.support.audit import Lines
from tests.support.sessions import Bench

pytestmark = pytest.mark.one_build

TOKEN = "admin secret"  # noqa: S105
HOST = "127.0.0.1:9400"
BEARER = {"authorization": f"Bearer {TOKEN}"}


class Sited:
    """A site of a server whose loop the test runs, or not.

    Attributes:
        health: The server's.
        site: The site.
        log: What was logged, as JSON lines.
        lines: Takes those of the audit log.
    """

    def __init__(self, token: str = TOKEN) -> None:
        self.later_s = 0.0
        self.health = Health(lambda: time.monotonic() + self.later_s)
        self.log = io.StringIO()
        logger = make_logger("info", "json", self.log)
        self.lines = Lines()
        audit = Audit(self.lines, time.time, required=True)
        self.site = Site(self.health, Access(token.encode(), b"", ()), lambda: {"version": "1.2.3"}, logger, audit)
        self.bench = Bench()
        self.loop = asyncio.new_event_loop()
        self.collector = Collector(
            self.bench.sessions, self.bench.storage, ChannelRegistry(), Observation(), None, logger
        )

    def listen(self) -> None:
        """Let the server listen."""
        self.collector.start(self.loop)
        self.health.begin(self.collector, None)

    def get(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Response:
        """Return the response to a request without a body."""
        return self.site.respond(Request(method, path, {"host": HOST, **(headers or {})}, b"", "peer", False))

    def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> Response:
        """Return the response to a change."""
        own = {"host": HOST, "origin": f"http://{HOST}", "content-type": "application/json", **(headers or {})}
        return self.site.respond(Request("POST", path, own, json.dumps(body).encode(), "peer", False))


@pytest.fixture
def sited() -> Iterator[Sited]:
    """Return a site; its loop does not turn."""
    sited = Sited()
    yield sited
    sited.loop.close()


@pytest.fixture
def running(sited: Sited) -> Iterator[Sited]:
    """Return one whose loop turns."""
    thread = threading.Thread(target=sited.loop.run_forever)
    thread.start()
    sited.listen()
    yield sited
    sited.loop.call_soon_threadsafe(sited.loop.stop)
    thread.join()


def status(sited: Sited, headers: Mapping[str, str] | None = None) -> Any:
    """Return what the page is told."""
    response = sited.get("/api/status", headers or BEARER)
    assert response.status == 200
    return json.loads(response.body)


def test_pages_are_for_all_and_figures_are_not(running: Sited) -> None:
    """The page itself has nothing that anybody must not know."""
    for path in site.ASSETS:
        assert running.get(path).status == 200
    for path in ("/metrics", "/api/status"):
        assert running.get(path).status == 401
        assert running.get(path, BEARER).status == 200


def test_what_is_not_there_is_told(running: Sited) -> None:
    """And methods that are not for a path."""
    assert running.get("/nothing").status == 404
    assert running.get("/../access.py").status == 404
    assert running.get("/metrics", BEARER, "DELETE").status == 405
    assert running.get("/api/abort", BEARER).status == 405
    assert running.post("/metrics", {}).status == 405
    assert running.get("/metrics", {**BEARER, "host": "evil.example"}).status == 421
    assert b'kvs_admin_requests_total{status="405"} 3' in running.get("/metrics", BEARER).body


def test_metrics_come_in_the_format_that_is_asked_for(running: Sited) -> None:
    """With those of the server."""
    plain = running.get("/metrics", BEARER)
    openmetrics = running.get("/metrics", {**BEARER, "accept": "application/openmetrics-text"})
    assert plain.kind.startswith("text/plain; version=0.0.4")
    assert openmetrics.kind.startswith("application/openmetrics-text")
    assert openmetrics.body.endswith(b"# EOF\n")
    assert b"kvs_commits_total 0" in plain.body
    assert b"kvs_ready 1" in plain.body


def test_a_server_that_loads_is_alive_and_not_ready(sited: Sited) -> None:
    """Why, an admin is told; and what figures there are."""
    assert sited.get("/livez").status == 200
    assert (sited.get("/readyz").status, sited.get("/readyz").body) == (503, b"not ready\n")
    assert sited.get("/readyz", BEARER).body == f"{LOADING}\n".encode()
    metrics = sited.get("/metrics", BEARER).body
    assert b'kvs_build_info{version="1.2.3"} 1' in metrics
    assert b"kvs_ready 0" in metrics
    told = status(sited)
    assert told["not_ready"] == [LOADING]
    assert "transactions" not in told


def test_a_loop_that_does_not_turn_is_not_alive(sited: Sited, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it does when it is asked to: then all of the process was stopped."""
    monkeypatch.setattr(site, "TURN_PATIENCE_S", 0.05)
    monkeypatch.setattr(site, "PATIENCE_S", 0.05)
    sited.listen()
    assert sited.get("/livez").status == 200
    sited.later_s = 3600
    assert sited.get("/livez").status == 503
    assert b'version="1.2.3"' in sited.get("/metrics", BEARER).body
    monkeypatch.setattr(site, "TURN_PATIENCE_S", 40)
    thread = threading.Thread(target=sited.loop.run_forever)
    thread.start()
    assert sited.get("/livez").status == 200
    sited.loop.call_soon_threadsafe(sited.loop.stop)
    thread.join()


@pytest.mark.parametrize("path", ["/metrics", "/api/status"])
def test_a_wrong_token_is_held_back_and_told(running: Sited, path: str) -> None:
    """Wherever one is taken; that none is sent is no attempt."""
    assert running.get(path).delay_s == 0
    refused = running.get(path, {"authorization": "Bearer wrong"})
    assert (refused.status, refused.delay_s) == (401, site.WRONG_TOKEN_S)
    assert running.get("/livez", {"authorization": "Bearer wrong"}).status == 200
    assert [json.loads(line)["event"] for line in running.log.getvalue().splitlines()] == ["admin_login_failed"]
    assert [(line["event"], line["peer"]) for line in running.lines.told()] == [("admin_login_failed", "peer")]


def test_admins_log_in_and_out(running: Sited) -> None:
    """A wrong token takes a second, and is logged; right ones, too."""
    refused = running.post("/api/login", {"token": "wrong"})
    assert (refused.status, refused.delay_s) == (403, site.WRONG_TOKEN_S)
    response = running.post("/api/login", {"token": TOKEN})
    assert response.status == 200
    cookie = {"cookie": response.headers["Set-Cookie"].partition(";")[0]}
    told = status(running, cookie)
    assert told["is_admin"]
    assert not status(running)["is_admin"]  # a program with the token reads only
    change = {**cookie, "x-kvs-token": told["page_token"]}
    assert running.post("/api/logout", {}, cookie).status == 403
    assert running.post("/api/abort", {"session": 7, "seen_s": 1.5}, change).status == 409
    for body in ({}, {"session": "7", "seen_s": 1}, {"session": 7, "seen_s": 10**400}, {"session": 7, "seen_s": None}):
        assert running.post("/api/abort", body, change).status == 400
    assert running.post("/api/logout", {}, change).status == 200
    assert running.get("/api/status", cookie).status == 401
    events = [json.loads(line)["event"] for line in running.log.getvalue().splitlines()]
    assert events == ["admin_login_failed", "admin_login"]
    assert [(line["event"], line["peer"]) for line in running.lines.told()] == [
        ("admin_login_failed", "peer"),
        ("admin_login", "peer"),
    ]


def test_nobody_changes_anything_that_cannot_be_told(running: Sited) -> None:
    """While the audit log cannot be written, which is required here; logging out is always allowed."""
    response = running.post("/api/login", {"token": TOKEN})
    cookie = {"cookie": response.headers["Set-Cookie"].partition(";")[0]}
    change = {**cookie, "x-kvs-token": status(running, cookie)["page_token"]}
    running.lines.trouble = "the disk is full"
    for path, body in (("/api/login", {"token": TOKEN}), ("/api/abort", {"session": 7, "seen_s": 1.5})):
        refused = running.post(path, body, change)
        assert refused.status == 503
        assert b"the disk is full" in refused.body
    assert running.post("/api/logout", {}, change).status == 200


def test_what_comes_from_clients_is_escaped() -> None:
    """What cannot be seen, or turns text around; markup stays as it is, for the page shows text."""
    assert printable("käse".encode()) == "käse"
    assert printable(b"<img src=x onerror=alert(1)>") == "<img src=x onerror=alert(1)>"
    assert printable("a\u202eb\u2066c\x00\n\U000e0001".encode()) == "a\\u202eb\\u2066c\\x00\\x0a\\U000e0001"
    assert printable(b"\xff\xfe") == "\\xff\\xfe"
    assert printable(b"k" * (LONGEST + 1)) == "k" * LONGEST + "…"
    hostile = "\u202e<b>".encode()
    collected = Collected(
        {},
        [OpenTransaction(1, 2.0, 1, 100, "peer", hostile, "")],
        [ConflictKey(hostile, True, 3, 1)],
        [SlowCommand(0, 1, 2, [b"GET", hostile], b"peer", hostile)],
        1.0,
        2.0,
    )
    told = orjson.loads(encode(collected, {}, {}))
    shown = "\\u202e<b>"
    assert told["transactions"][0]["name"] == told["conflict_keys"][0]["key"] == shown
    assert told["slow_commands"][0]["arguments"] == ["GET", shown]
