"""What the admin port answers, by path."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Final, TypeAlias, final

from kvs.adapters.inbound.admin.access import UNAUTHENTICATED, Access
from kvs.adapters.inbound.admin.exposition import OPENMETRICS, PROMETHEUS, render, wants_openmetrics
from kvs.adapters.inbound.admin.messages import JSON, RefusedError, Request, Response, WrongTokenError
from kvs.adapters.inbound.admin.status import encode
from kvs.adapters.inbound.net.collector import Collected
from kvs.adapters.inbound.net.health import Health
from kvs.adapters.inbound.protocol.audit import Audit
from kvs.application.figures import Reading
from kvs.log_type import FilteringBoundLogger

PATIENCE_S: Final = 2.0
"""Longest wait for the loop to collect figures; then those collected last are shown."""

TURN_PATIENCE_S: Final = 1.0
"""Longest wait for a turn of a loop that has not turned lately, since all of this process may have been stopped."""

FAMILIES_PER_SLICE: Final = 5
SLICE_PAUSE_S: Final = 0.001
"""After so many families of metrics Python's lock is left to the loop."""

MAX_S: Final = 1e12

WRONG_TOKEN_S: Final = 1.0
"""How long the response to a wrong token is held back."""

ASSETS: Final = {
    "/": ("status.html", "text/html; charset=utf-8"),
    "/status.css": ("status.css", "text/css; charset=utf-8"),
    "/status.js": ("status.js", "text/javascript; charset=utf-8"),
    "/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}

Route: TypeAlias = Callable[[Request], Response]


@final
class Site:
    """Answers requests. By several threads.

    Args:
        health: Tells how the server is, and who collects its figures.
        access: Tells who may do what.
        early_figures: Returns what figures there are while no server runs.
        log: Bound logger.
        audit: The audit log, for changes; None: there is none.
    """

    def __init__(
        self,
        health: Health,
        access: Access,
        early_figures: Callable[[], Mapping[str, object]],
        log: FilteringBoundLogger,
        audit: Audit | None = None,
    ) -> None:
        self._health = health
        self._access = access
        self._early_figures = early_figures
        self._log = log
        self._audit = audit
        self._assets = {path: _read(name, kind) for path, (name, kind) in ASSETS.items()}
        self._lock = threading.Lock()
        self._requests: Counter[int] = Counter()
        self._reads: dict[str, Route] = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/api/status": self._status,
        }
        self._changes: dict[str, Route] = {
            "/api/login": self._log_in,
            "/api/logout": self._log_out,
            "/api/abort": self._abort,
        }

    def respond(self, request: Request) -> Response:
        """Return the response to a request."""
        try:
            response = self._respond(request)
        except WrongTokenError as wrong:
            response = replace(wrong.response(), delay_s=WRONG_TOKEN_S)
        except RefusedError as refused:
            response = refused.response()
        with self._lock:
            self._requests[response.status] += 1
        if response.delay_s:
            self._tell("admin_login_failed", request)
            self._log.warning("admin_login_failed", peer=request.peer)
        return response

    def _respond(self, request: Request) -> Response:
        self._access.check_host(request)
        reads, changes = self._reads.get(request.path), self._changes.get(request.path)
        if request.method in ("GET", "HEAD"):
            if reads is not None:
                return reads(request)
            if request.path in self._assets:
                return self._assets[request.path]
        elif request.method == "POST" and changes is not None:
            return changes(request)
        if reads is None and changes is None and request.path not in self._assets:
            raise RefusedError(404, "There is nothing here.")
        raise RefusedError(405, "Not so.", {"Allow": "POST" if changes is not None else "GET, HEAD"})

    # Probes.

    def _livez(self, _: Request) -> Response:
        if self._health.turned_lately or self._turns():
            return Response(200, b"ok\n")
        return Response(503, b"the loop does not turn\n")

    def _turns(self) -> bool:
        """Return whether the loop turns when it is asked to."""
        collector, turned = self._health.collector, threading.Event()
        if collector is None:
            return True
        collector.turn(turned.set)
        return turned.wait(TURN_PATIENCE_S)

    def _readyz(self, request: Request) -> Response:
        reasons = self._health.not_ready()
        if not reasons:
            return Response(200, b"ok\n")
        told = "".join([f"{reason}\n" for reason in reasons]) if self._access.may_read(request) else "not ready\n"
        return Response(503, told.encode())

    # Figures.

    def _metrics(self, request: Request) -> Response:
        if not self._access.may_scrape(request):
            raise RefusedError(401, "A token is needed.", UNAUTHENTICATED)
        openmetrics = wants_openmetrics(request.headers.get("accept", ""))
        _, figures = self._collect()
        text: list[str] = []
        for at, family in enumerate(render(figures, openmetrics=openmetrics), 1):
            text.append(family)
            if at % FAMILIES_PER_SLICE == 0:
                time.sleep(SLICE_PAUSE_S)
        return Response(200, "".join(text).encode(), OPENMETRICS if openmetrics else PROMETHEUS)

    def _status(self, request: Request) -> Response:
        access = self._access
        if not access.may_read(request):
            raise RefusedError(401, "Log in first.", UNAUTHENTICATED)
        collected, figures = self._collect()
        may_change = access.may_change(request)
        about = {
            "not_ready": self._health.not_ready(),
            "is_admin": may_change,
            "page_token": access.page_token(request) if may_change else "",
        }
        return Response(200, encode(collected, figures, about), JSON)

    def _collect(self) -> tuple[Collected | None, Reading]:
        """Return what the loop collects; if it takes too long, what it has collected last."""
        collector = self._health.collector
        collected: Collected | None = None
        if collector is not None:
            waiter = _Waiter()
            collector.ask(waiter.receive)
            waiter.received.wait(PATIENCE_S)
            collected = waiter.collected or collector.give_up(waiter.receive)
        figures: Reading = {} if collected is None else dict(collected.figures)
        if collected is None:
            figures.update(self._early_figures())
        figures["ready"] = int(not self._health.not_ready())
        with self._lock:
            figures["admin_requests"] = {str(status): count for status, count in sorted(self._requests.items())}
        return collected, figures

    # Changes.

    def _check_audit(self) -> None:
        """Refuse what has to be in the audit log while that cannot be written."""
        if self._audit is not None and self._audit.failing:
            raise RefusedError(503, f"The audit log cannot be written ({self._audit.failing}).")

    def _tell(self, event: str, request: Request, **fields: object) -> None:
        if self._audit is not None:
            self._audit.tell(event, peer=request.peer, **fields)

    def _log_in(self, request: Request) -> Response:
        self._check_audit()
        cookie = self._access.log_in(request)
        self._tell("admin_login", request)
        self._log.info("admin_login", peer=request.peer)
        return Response(200, b"{}", JSON, {"Set-Cookie": cookie})

    def _log_out(self, request: Request) -> Response:
        self._access.check_change(request)
        return Response(200, b"{}", JSON, {"Set-Cookie": self._access.log_out(request)})

    def _abort(self, request: Request) -> Response:
        self._access.check_change(request)
        self._check_audit()
        body = self._access.body(request)
        session, seen_s = body.get("session"), body.get("seen_s")
        if type(session) is not int or not isinstance(seen_s, int | float) or not abs(seen_s) < MAX_S:
            raise RefusedError(400, "The transaction is named by session and seen_s.")
        collector, done = self._health.collector, threading.Event()
        answers: list[bool] = []

        def answer(aborted: bool) -> None:  # noqa: FBT001
            if aborted:  # perhaps when nobody waits any more
                self._tell("transaction_aborted", request, session=session)
            answers.append(aborted)
            done.set()

        if collector is not None:
            collector.abort(session, float(seen_s), answer)
            if not done.wait(PATIENCE_S):
                raise RefusedError(503, "The server has not answered yet; the transaction may still be ended.")
        if not any(answers):
            raise RefusedError(409, "The transaction is over, or a command of it is running.")
        return Response(200, b"{}", JSON)


@final
class _Waiter:
    """Waits for figures."""

    def __init__(self) -> None:
        self.received = threading.Event()
        self.collected: Collected | None = None

    def receive(self, collected: Collected) -> None:
        self.collected = collected
        self.received.set()


def _read(name: str, kind: str) -> Response:
    return Response(200, (files(__package__) / "assets" / name).read_bytes(), kind)
