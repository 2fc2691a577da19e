"""Errors of requests as bytes on a wire; those of what they ask for are in :mod:`kvs.domain.errors`."""

from typing import ClassVar

from kvs.domain.errors import KvsError, TooLargeError


class UnknownCommandError(KvsError):
    """Raised when there is no such command."""

    code: ClassVar[str] = "unknown_command"


class EncodingError(KvsError):
    """Raised when text is not UTF-8 where the protocol can carry nothing else."""

    code: ClassVar[str] = "encoding"


class ProtocolViolationError(KvsError):
    """Raised when the peer does not speak our protocol. The connection closes."""

    code: ClassVar[str] = "protocol"


class HttpError(ProtocolViolationError):
    """Raised when a client speaks HTTP: a browser may have been made to send it. The connection closes."""


class FramingLostError(TooLargeError):
    """Raised when a request is so long that the next one cannot be found. The connection closes."""
