"""Errors of the wire: requests that no command can be made of."""

from typing import ClassVar

from kvs.domain.errors import ProtocolViolationError, TooLargeError


class FramingLostError(TooLargeError):
    """Raised when a request is so long that the next one cannot be found. The connection closes."""

    code: ClassVar[str] = "too_large"


class HttpError(ProtocolViolationError):
    """Raised when a client speaks HTTP: a browser may have been made to send it. The connection closes."""
