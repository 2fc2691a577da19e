"""The status page in a headless Chromium: what it shows, what it does, and what other sites cannot do."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from tests.interop.conftest import missing
from tests.support import browser
from tests.support.admin import TOKEN, Admin, bearer, token_file
from tests.support.browser import Browser
from tests.support.harness import Server
from tests.support.resp_wire import OK, Wire

HOSTILE: Final = "<img src=x onerror=document.title='evil'>\u202egnp"
SHOWN: Final = HOSTILE.replace("\u202e", "\\u202e")

SITE: Final = """<script>
async function attack(address) {
  const told = [];
  for (const path of ["/api/status", "/metrics"])
    told.push(await fetch(address + path, {credentials: "include"}).then((r) => r.text(), () => "refused"));
  for (const type of ["application/json", "text/plain"])
    told.push(await fetch(address + "/api/abort", {
      method: "POST", credentials: "include", mode: type === "text/plain" ? "no-cors" : "cors",
      headers: {"Content-Type": type}, body: '{"session": 1, "seen_s": 1e9}',
    }).then((r) => r.type, () => "refused"));
  return told;
}
</script>"""


@pytest.fixture(scope="module")
def page() -> Iterator[Browser]:
    """Return a browser."""
    if browser.found() is None:
        missing("there is no Chromium here")
    with Browser() as page:
        yield page


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Return a server with an admin token, in whose slow log is everything."""
    flags = ("--admin-port", "0", "--admin-token-file", token_file(tmp_path), "--slowlog-log-slower-than", "0")
    with Server(*flags) as server:
        yield server


def open_page(page: Browser, server: Server) -> Admin:
    """Open the page, and log in."""
    admin = Admin(server)
    page.resize(1280, 900)
    page.open(admin.url)
    page.wait_for("document.querySelector('#login')?.hidden === false")
    page.evaluate(f"document.querySelector('#token').value = {TOKEN!r}")
    page.evaluate("document.querySelector('#login button').click()")
    page.wait_for("!document.querySelector('#main').hidden && document.querySelector('.tile .value').innerText > ''")
    return admin


def text(page: Browser, selector: str) -> str:
    """Return the text of an element."""
    return str(page.evaluate(f"document.querySelector({selector!r}).innerText"))


def test_it_shows_what_happens_without_reloading(page: Browser, server: Server) -> None:
    """Figures, conflicts, transactions and slow commands; keys as text, whatever is in them."""
    with Wire((server.host, server.port)) as one, Wire((server.host, server.port)) as other:
        assert one.ask("SET", HOSTILE, "v") == OK
        for words in (("START",), ("GET", HOSTILE), ("SET", "k", "v")):
            one.ask(*words)
        assert other.ask("SET", HOSTILE, "w") == OK
        one.ask("COMMIT")
        one.ask("CLIENT", "SETNAME", "reader")
        one.ask("START")
        admin = open_page(page, server)
        assert text(page, "#conflicts code") == SHOWN
        assert SHOWN in text(page, "#slow")
        assert "reader" in text(page, "#transactions")
        assert text(page, "#state") == "ready"
        assert "get" in text(page, "#commands")
        page.evaluate("window.before = document")
        other.ask("EXISTS", "k")
        page.wait_for("[...document.querySelectorAll('#commands code')].some((each) => each.innerText === 'exists')")
        assert page.evaluate("window.before === document && !document.querySelector('main img')")
        assert page.evaluate("document.title") == "kvs"
    loaded = page.evaluate("performance.getEntriesByType('resource').map((each) => each.name)")
    assert all(name.startswith(admin.url) for name in loaded)
    assert {name.rpartition("/")[2] for name in loaded} >= {"status.js", "charts.js", "status.css", "icon.svg"}


def test_an_admin_ends_a_transaction(page: Browser, server: Server) -> None:
    """With a button, once it is confirmed; its client is told."""
    with closing(server.connect()) as client:
        client.ok("START", "PUT a 1")
        open_page(page, server)
        page.wait_for("document.querySelector('#transactions button')")
        page.evaluate("window.confirm = () => false; document.querySelector('#transactions button').click()")
        client.ok("PUT a 2")
        page.evaluate("window.confirm = () => true; document.querySelector('#transactions button').click()")
        (told,) = client.rest()
        assert "ended by an operator" in told["mesg"]
        page.wait_for("document.querySelector('#transactions .empty')")
    assert server.wait_for("transaction_aborted")["peer"] == client.name
    page.evaluate("document.querySelector('#logout').click()")
    page.wait_for("!document.querySelector('#login').hidden")
    page.evaluate("document.querySelector('#token').value = 'wrong'")
    page.evaluate("document.querySelector('#login button').click()")
    page.wait_for("document.querySelector('#login-error').innerText")
    assert page.evaluate("document.querySelector('#main').hidden")


def test_it_fits_a_phone_and_is_light_or_dark(page: Browser, server: Server) -> None:
    """Nothing is wider than the screen, and the background is that which the reader prefers."""
    open_page(page, server)
    backgrounds = []
    for width, dark in ((360, False), (360, True), (1280, True)):
        page.resize(width, 800, dark=dark, phone=width < 500)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert backgrounds[1] == backgrounds[2] != backgrounds[0]
    assert page.evaluate("getComputedStyle(document.querySelector('main')).gridTemplateColumns.split(' ').length") == 2


@pytest.fixture
def other_site() -> Iterator[str]:
    """Serve a hostile page; return its address by a name that others may have."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Send the page."""
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(SITE.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield f"http://evil.example:{site.server_port}/"
        site.shutdown()
        thread.join()


def test_other_sites_read_and_change_nothing(page: Browser, server: Server, other_site: str) -> None:
    """Though the browser has logged in; nor by a name of theirs that leads to the port."""
    admin = open_page(page, server)
    requests = {name: value for name, value in admin.metrics(bearer()).items() if name.startswith("kvs_admin")}
    assert "kvs_admin_requests_total 403" not in requests
    page.open(other_site)
    page.wait_for("document.readyState === 'complete' && typeof attack === 'function'")
    told = page.evaluate(f"attack({admin.url!r})")
    assert told == ["refused"] * 4
    metrics = admin.metrics(bearer())
    assert metrics["kvs_admin_requests_total 403"] == 1  # what needs no permission by the server has arrived
    page.open(f"http://rebound.example:{admin.port}/")
    page.wait_for("document.readyState === 'complete'")
    assert "admin_allowed_hosts" in page.evaluate("document.body.innerText")
    assert page.evaluate("fetch('/api/status').then((each) => each.status)") == 421
    assert admin.metrics(bearer())["kvs_admin_requests_total 421"] >= 2
