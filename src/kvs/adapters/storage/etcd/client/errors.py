"""What can go wrong with a call, told apart by the one thing that matters: may it have been applied?

Definite are only those failures of which etcd's source shows that nothing was applied. Everything else, whatever its
code and text, is unknown.
"""

from typing import Final, final


class EtcdError(Exception):
    """Raised, or handed to a completion, when a call has no result."""


class RefusedError(EtcdError):
    """Definite: nothing was applied."""


@final
class NotSentError(RefusedError):
    """No byte of it left, as no endpoint was reached in time, or the other end says that it has not looked at it."""


@final
class NoLeaderError(RefusedError):
    """The member knows no raft leader, and refused the call before proposing anything."""


@final
class TooBusyError(RefusedError):
    """Too many calls wait, here or there."""


@final
class RequestTooLargeError(RefusedError):
    """The request exceeds etcd's limit."""


@final
class InvalidRequestError(RefusedError):
    """etcd understood the request, and will never accept it."""


@final
class AccessDeniedError(RefusedError):
    """The user, the password or the certificate is not accepted, or the user may not do this."""


@final
class TokenRefusedError(RefusedError):
    """The token has expired, or users have changed since it was given; another is needed."""


@final
class LeaseNotFoundError(RefusedError):
    """The lease has expired, or was revoked, or never was."""


@final
class CompactedError(RefusedError):
    """The revision is no longer there.

    Attributes:
        revision: The first one that still is, if etcd told; else 0.
    """

    def __init__(self, message: str, revision: int = 0) -> None:
        super().__init__(message)
        self.revision: Final = revision


@final
class FutureRevisionError(RefusedError):
    """The revision has not been reached."""


@final
class CorruptClusterError(RefusedError):
    """etcd has found its members to differ, and serves nothing."""


class UnknownOutcomeError(EtcdError):
    """The call may have been applied, may be applied later, or never."""


@final
class DeadlineExceededError(UnknownOutcomeError):
    """No answer came in time."""


@final
class ConnectionLostError(UnknownOutcomeError):
    """The connection ended before the answer."""


@final
class UnavailableError(UnknownOutcomeError):
    """etcd gave up waiting for a majority, or is stopping."""


@final
class NoSpaceError(UnknownOutcomeError):
    """The quota is reached.

    Unknown all the same: the one request that crosses the quota is applied *and* answered with this; only once the
    alarm is up are others refused. Source: etcd's ``quotaApplierV3``, from 3.4 to 3.6.
    """


@final
class ClusterChangedError(UnknownOutcomeError):
    """Another cluster has answered: that one was restored from a backup, or the address is now another's."""


@final
class ProtocolBrokenError(UnknownOutcomeError):
    """The answer is not understood."""


# Codes of gRPC.
OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
DEADLINE_EXCEEDED: Final = 4
NOT_FOUND: Final = 5
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
FAILED_PRECONDITION: Final = 9
OUT_OF_RANGE: Final = 11
UNIMPLEMENTED: Final = 12
UNAVAILABLE: Final = 14
DATA_LOSS: Final = 15
UNAUTHENTICATED: Final = 16

_BY_TEXT: Final[tuple[tuple[int, str, type[EtcdError]], ...]] = (
    (RESOURCE_EXHAUSTED, "database space exceeded", NoSpaceError),
    (RESOURCE_EXHAUSTED, "too many requests", TooBusyError),
    (RESOURCE_EXHAUSTED, "message larger than max", RequestTooLargeError),  # gRPC's own limit, before etcd sees it
    (INVALID_ARGUMENT, "request is too large", RequestTooLargeError),
    (INVALID_ARGUMENT, "revision of auth store is old", TokenRefusedError),
    (UNKNOWN, "revision in header is old", TokenRefusedError),  # 3.4 has no code for it
    (UNAUTHENTICATED, "invalid auth token", TokenRefusedError),
    (INVALID_ARGUMENT, "authentication failed", AccessDeniedError),
    (INVALID_ARGUMENT, "user name is empty", AccessDeniedError),  # no token, where one is needed
    (FAILED_PRECONDITION, "authentication is not enabled", AccessDeniedError),
    (OUT_OF_RANGE, "has been compacted", CompactedError),
    (OUT_OF_RANGE, "is a future revision", FutureRevisionError),
    (NOT_FOUND, "lease not found", LeaseNotFoundError),
    (UNAVAILABLE, "etcdserver: no leader", NoLeaderError),
)
"""A code, a part of the text, and what they mean. The texts are in etcd's ``rpctypes/error.go``."""

_BY_CODE: Final[dict[int, type[EtcdError]]] = {
    INVALID_ARGUMENT: InvalidRequestError,  # each is found by looking at the request, before it is applied
    FAILED_PRECONDITION: InvalidRequestError,
    UNIMPLEMENTED: InvalidRequestError,
    NOT_FOUND: InvalidRequestError,
    PERMISSION_DENIED: AccessDeniedError,
    DATA_LOSS: CorruptClusterError,
    DEADLINE_EXCEEDED: DeadlineExceededError,
}


def error_of(code: int, text: str) -> EtcdError:
    """Return the error that a status of gRPC means."""
    for code_of_text, part, error in _BY_TEXT:
        if code == code_of_text and part in text:
            return error(text)
    return _BY_CODE.get(code, UnavailableError)(text or f"gRPC status {code}")
