"""Errors in the framing and encoding of requests; errors of their execution are in :mod:`kvs.domain.errors`."""

from typing import ClassVar

from kvs.domain.errors import KvsError, TooLargeError


class UnknownCommandError(KvsError):
    """Raised for an unknown command."""

    code: ClassVar[str] = "unknown_command"


class UnauditedError(KvsError):
    """Raised when a command that must be in the audit log cannot be written there. Nothing was run."""

    code: ClassVar[str] = "unavailable"


class EncodingError(KvsError):
    """Raised when text is not UTF-8 although the protocol requires it."""

    code: ClassVar[str] = "encoding"


class ProtocolViolationError(KvsError):
    """Raised when the peer does not speak our protocol. The connection closes."""

    code: ClassVar[str] = "protocol"


class HttpError(ProtocolViolationError):
    """Raised when a client speaks HTTP, possibly a browser under attack. The connection closes."""


class FramingLostError(TooLargeError):
    """Raised when a request is so long that the next one cannot be found. The connection closes."""
