"""Requests and responses of the admin port."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"


@dataclass(frozen=True)
class Request:
    """A request, whole.

    Attributes:
        method: Such as ``GET``.
        path: Without the query.
        headers: By name in small letters; of one that comes again, the first.
        body: What follows.
        peer: The address that it has come from.
        is_tls: Whether it was encrypted.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    peer: str
    is_tls: bool

    @property
    def host(self) -> str:
        """What the client calls this server, in small letters."""
        return self.headers.get("host", "").lower()

    def cookie(self, name: str) -> str:
        """Return a cookie; empty if there is none."""
        for part in self.headers.get("cookie", "").split(";"):
            found, _, value = part.strip().partition("=")
            if found == name:
                return value
        return ""


@dataclass(frozen=True)
class Response:
    """A response.

    Attributes:
        status: Such as 200.
        body: What follows.
        kind: Its type.
        headers: Further ones.
        delay_s: How long it is held back.
    """

    status: int
    body: bytes = b""
    kind: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


class RefusedError(Exception):
    """Raised where a request is refused.

    Args:
        status: Of the response.
        reason: What it says.
        headers: Further ones of the response.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status: Final = status
        self.headers: Final = dict(headers or {})

    def response(self) -> Response:
        """Return the response."""
        return Response(self.status, f"{self}\n".encode(), headers=self.headers)


class WrongTokenError(RefusedError):
    """Raised for a token that opens nothing."""
