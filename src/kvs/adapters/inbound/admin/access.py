"""Who may do what on the admin port.

A page of another site can have a browser send requests here, with the browser's cookies, and by a name of its own that
leads here (DNS rebinding). It cannot choose the headers ``Host`` and ``Origin``. So a Host has to be one that no other
site can have, and a change has to come from a page with that Host.
"""

import hashlib
import hmac
import ipaddress
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from threading import Lock
from typing import Any, Final, final

from kvs.adapters.inbound.admin.messages import JSON, RefusedError, Request, WrongTokenError

COOKIE: Final = "kvs_admin"
PAGE_TOKEN: Final = "x-kvs-token"  # noqa: S105  # the name of a header
MAX_LOGINS: Final = 64
LOGIN_S: Final = 12 * 3600.0
UNAUTHENTICATED: Final = {"WWW-Authenticate": "Bearer"}


@final
class Access:
    """Decides by the headers of a request. By any thread.

    Args:
        admin_token: Opens everything; empty: nobody may change anything, and all see everything of an open server.
        metrics_token: Opens ``/metrics`` only; empty: there is none.
        allowed_hosts: Names by which this server may be called.
        is_open: Returns whether a client of the server needs no secret.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        admin_token: bytes,
        metrics_token: bytes,
        allowed_hosts: Collection[str],
        is_open: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)
        self._is_open = is_open
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._lock = Lock()
        self._logins: OrderedDict[str, float] = OrderedDict()  # when each ends
        self.set_tokens(admin_token, metrics_token)

    def set_tokens(self, admin_token: bytes, metrics_token: bytes) -> None:
        """Replace the tokens; who has logged in with another one has to do so again."""
        admin = self._digest(admin_token) if admin_token else b""
        metrics = self._digest(metrics_token) if metrics_token else b""
        with self._lock:
            self._admin, self._metrics = admin, metrics
            self._logins.clear()

    def check_host(self, request: Request) -> None:
        """Check that no other site can have this Host.

        Raises:
            RefusedError: One can.
        """
        host = _without_port(request.host)
        if host != "localhost" and host not in self._allowed_hosts and not _is_address(host):
            raise RefusedError(421, "This Host is not known here; admin_allowed_hosts may name it.")

    @property
    def has_admin(self) -> bool:
        """Whether there is an admin token."""
        return bool(self._admin)

    def may_read(self, request: Request) -> bool:
        """Return whether a client may see everything.

        Raises:
            WrongTokenError: It sends a token that opens nothing.
        """
        if not self._admin:
            return self._is_open()
        return self._has_login(request) or self._has_bearer(request, self._admin)

    def may_scrape(self, request: Request) -> bool:
        """Return whether a client may see metrics; raises what :meth:`may_read` does."""
        if not (self._admin or self._metrics):
            return True
        return self._has_login(request) or self._has_bearer(request, self._admin, self._metrics)

    def may_change(self, request: Request) -> bool:
        """Return whether a client has logged in as an admin."""
        return bool(self._admin) and self._has_login(request)

    def log_in(self, request: Request) -> str:
        """Return the cookie for a client that sends the admin token.

        Raises:
            WrongTokenError: It sends another one.
            RefusedError: It may not log in.
        """
        self.check_origin(request)
        token = self.body(request).get("token")
        given = token.encode("utf-8", "surrogatepass") if isinstance(token, str) else b""
        if not self._admin or not hmac.compare_digest(self._digest(given), self._admin):
            raise WrongTokenError(403, "That is not the admin token.")
        login = secrets.token_urlsafe(32)
        with self._lock:
            while len(self._logins) >= MAX_LOGINS:
                self._logins.popitem(last=False)
            self._logins[login] = self._clock() + LOGIN_S
        secure = "; Secure" if request.is_tls else ""
        return f"{COOKIE}={login}; Path=/; HttpOnly; SameSite=Strict; Max-Age={int(LOGIN_S)}{secure}"

    def log_out(self, request: Request) -> str:
        """Forget a login; return the cookie that replaces its own."""
        with self._lock:
            self._logins.pop(request.cookie(COOKIE), None)
        return f"{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"

    def page_token(self, request: Request) -> str:
        """Return what a page has to send with each change, and no other site can know."""
        return hmac.new(self._key, request.cookie(COOKIE).encode(), hashlib.sha256).hexdigest()

    def check_change(self, request: Request) -> None:
        """Check that an admin's own page sends a change.

        Raises:
            RefusedError: Somebody else does.
        """
        self.check_origin(request)
        if not self.may_change(request):
            raise RefusedError(401, "Log in first.", UNAUTHENTICATED)
        given = request.headers.get(PAGE_TOKEN, "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, self.page_token(request).encode()):
            raise RefusedError(403, "The token of the page is missing. Load the page again.")

    @staticmethod
    def check_origin(request: Request) -> None:
        """Check that a page of this server sends a request, as JSON.

        Raises:
            RefusedError: Another one may.
        """
        scheme = "https" if request.is_tls else "http"
        if request.headers.get("origin", "").lower() != f"{scheme}://{request.host}":
            raise RefusedError(403, "Changes are taken from the page of this server only.")
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise RefusedError(403, "Changes are taken from the page of this server only.")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            raise RefusedError(415, "Changes are JSON.")

    @staticmethod
    def body(request: Request) -> dict[str, Any]:
        """Return the object that a request has.

        Raises:
            RefusedError: It has none.
        """
        try:
            found = json.loads(request.body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise RefusedError(400, "That is no object in JSON.")
        return found

    def _has_login(self, request: Request) -> bool:
        login = request.cookie(COOKIE)
        with self._lock:
            ends_s = self._logins.get(login, 0.0)
            if login in self._logins and ends_s <= self._clock():
                del self._logins[login]
                return False
            return ends_s > 0.0

    def _has_bearer(self, request: Request, *digests: bytes) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        if not token or scheme.lower() != "bearer":
            return False
        given = self._digest(token.encode("latin-1", "replace"))
        if any(hmac.compare_digest(given, digest) for digest in digests):
            return True
        raise WrongTokenError(401, "That is not a token of this.", UNAUTHENTICATED)

    def _digest(self, token: bytes) -> bytes:
        return hmac.new(self._key, token, hashlib.sha256).digest()


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0][1:]
    return host.partition(":")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
