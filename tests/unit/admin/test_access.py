"""Who may do what on the admin port, by what a browser, a program or another site's page sends."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from kvs.adapters.inbound.admin.access import LOGIN_S, MAX_LOGINS, Access
from kvs.adapters.inbound.admin.messages import RefusedError, Request, WrongTokenError

pytestmark = pytest.mark.one_build

ADMIN, METRICS = b"admin secret", b"metrics secret"
HOST = "127.0.0.1:9400"


class Now:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


def request(
    headers: Mapping[str, str] | None = None, body: object = None, method: str = "GET", *, is_tls: bool = False
) -> Request:
    """Return a request."""
    encoded = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return Request(method, "/", {"host": HOST, **(headers or {})}, encoded, "peer", is_tls)


def change(headers: Mapping[str, str] | None = None, body: object = None, *, is_tls: bool = False) -> Request:
    """Return a request that the page of this server sends."""
    scheme = "https" if is_tls else "http"
    own = {"origin": f"{scheme}://{HOST}", "content-type": "application/json", "sec-fetch-site": "same-origin"}
    return request({**own, **(headers or {})}, body, "POST", is_tls=is_tls)


def log_in(access: Access, token: str = ADMIN.decode(), **options: Any) -> str:
    """Return the cookie that a login gets, as it is sent back."""
    return access.log_in(change(body={"token": token}, **options)).partition(";")[0]


def bearer(token: bytes) -> Request:
    """Return a request of a program with a token."""
    return request({"authorization": f"Bearer {token.decode()}"})


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:9400", "127.0.0.1", "localhost:9400", "LOCALHOST", "[::1]:9400", "[::1]", "10.0.0.7", "kvs.example:1"],
)
def test_addresses_and_names_that_are_allowed_are_hosts(host: str) -> None:
    """Of no other site."""
    Access(ADMIN, b"", ["KVS.example"]).check_host(request({"host": host}))


@pytest.mark.parametrize(
    "host",
    *[["", "evil.example", "evil.example:9400", "127.0.0.1.evil.example", "localhost.evil.example", "[", "1.2.3.4.5"]],
)
def test_other_hosts_are_refused(host: str) -> None:
    """A site whose name leads here could be read otherwise (DNS rebinding)."""
    with pytest.raises(RefusedError) as refused:
        Access(ADMIN, b"", ["kvs.example"]).check_host(request({"host": host}))
    assert refused.value.status == 421


def test_tokens_open_what_they_are_for() -> None:
    """That of metrics nothing else; that of admins everything but changes, which take a login."""
    access = Access(ADMIN, METRICS, ())
    admins, metrics, wrong = (bearer(token) for token in (ADMIN, METRICS, b"wrong"))
    assert access.may_scrape(admins)
    assert access.may_read(admins)
    assert access.may_scrape(metrics)
    for sent, asked in ((metrics, access.may_read), (wrong, access.may_read), (wrong, access.may_scrape)):
        with pytest.raises(WrongTokenError):
            asked(sent)
    assert not any(map(access.may_change, (admins, metrics, wrong)))
    for nothing in ({}, {"authorization": "Bearer"}, {"authorization": f"Basic {ADMIN.decode()}"}):
        assert not access.may_scrape(request(nothing))
        assert not access.may_read(request(nothing))


def test_without_tokens_all_may_read_and_nobody_change() -> None:
    """There is nobody who could log in."""
    access = Access(b"", b"", ())
    assert access.may_scrape(request())
    assert access.may_read(request())
    with pytest.raises(RefusedError):
        log_in(access, "")
    with pytest.raises(RefusedError):
        access.check_change(change())


def test_a_server_whose_clients_need_a_secret_shows_nothing_without_one() -> None:
    """Keys are in the page; metrics have none."""
    secrets_needed = [False]
    access = Access(b"", b"", (), lambda: not secrets_needed[0])
    assert access.may_read(request())
    secrets_needed[0] = True
    assert not access.may_read(request())
    assert access.may_scrape(request())


def test_only_the_metrics_token_closes_only_metrics() -> None:
    """The rest is open, as without any."""
    access = Access(b"", METRICS, ())
    assert not access.may_scrape(request())
    assert access.may_read(request())


def test_a_login_has_a_cookie_that_others_cannot_use() -> None:
    """Scripts do not see it, other sites do not have it sent, and over TLS it is never sent in the clear."""
    access = Access(ADMIN, b"", ())
    plain = access.log_in(change(body={"token": ADMIN.decode()}))
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in plain.split(";")}
    assert "Secure" not in plain
    assert "; Secure" in access.log_in(change(body={"token": ADMIN.decode()}, is_tls=True))


@pytest.mark.parametrize(
    "body", [None, b"{", b"[]", {"token": 1}, {"token": ""}, {"token": "wrong"}, b'{"token": "\\ud800"}', b"[" * 4000]
)
def test_wrong_tokens_are_refused(body: object) -> None:
    """Whatever is in their place."""
    with pytest.raises(RefusedError) as refused:
        Access(ADMIN, b"", ()).log_in(change(body=body))
    assert refused.value.status in (400, 403)


def test_changes_take_a_login_and_the_token_of_the_page() -> None:
    """Each alone is not enough."""
    access = Access(ADMIN, b"", ())
    cookie = {"cookie": f"other=1; {log_in(access)}"}
    token = {"x-kvs-token": access.page_token(request(cookie))}
    access.check_change(change({**cookie, **token}))
    other = {"x-kvs-token": access.page_token(request({"cookie": log_in(access)}))}
    for headers in (cookie, token, {**cookie, **other}, {**cookie, "x-kvs-token": "\xff"}):
        with pytest.raises(RefusedError):
            access.check_change(change(headers))


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": f"https://{HOST}"},
        {"origin": "http://127.0.0.1:9401"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
    ],
    ids=str,
)
def test_changes_of_other_sites_are_refused(headers: Mapping[str, str]) -> None:
    """Though the browser sends the cookie, and even if they knew the token of the page."""
    access = Access(ADMIN, b"", ())
    cookie = {"cookie": log_in(access)}
    with pytest.raises(RefusedError):
        access.check_change(change({**cookie, "x-kvs-token": access.page_token(request(cookie)), **headers}))
    with pytest.raises(RefusedError):
        access.log_in(change(headers, {"token": ADMIN.decode()}))


def test_logins_end() -> None:
    """By time, by logging out, by another token, and when there are too many."""
    now = Now()
    access = Access(ADMIN, b"", (), clock=now)
    first, *others = (request({"cookie": log_in(access)}) for _ in range(MAX_LOGINS))
    assert access.may_change(first)
    log_in(access)
    assert not access.may_change(first)
    assert all(access.may_change(each) for each in others)
    assert "Max-Age=0" in access.log_out(others[0])
    assert not access.may_change(others[0])
    now.s += LOGIN_S
    assert not access.may_change(others[1])
    last = request({"cookie": log_in(access)})
    access.set_tokens(ADMIN + b"2", b"")
    assert not access.may_change(last)
