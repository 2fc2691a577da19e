"""Errors for clients, each with a stable code that programs can rely on.

A conflict is not an error: it is one of the two results of a commit (:class:`kvs.domain.commit.Conflict`).

Unless its description says otherwise, an error leaves the data, the transaction and the connection unchanged.
"""

from typing import ClassVar


class KvsError(Exception):
    """A request failed; the message is a sentence for people."""

    code: ClassVar[str] = "internal"


# The request is wrong; repeating it fails again.


class UsageError(KvsError):
    """Raised for a mistake in the client: wrong arguments, an empty key, or a write in a read-only transaction."""

    code: ClassVar[str] = "usage"


class TooLargeError(KvsError):
    """Raised when a key, a value or a request is longer than its limit."""

    code: ClassVar[str] = "too_large"


class NotANumberError(UsageError):
    """Raised when a value to be incremented is not a 64-bit integer."""


class OutOfRangeError(UsageError):
    """Raised when a sum does not fit into 64 bits."""


class TooLongError(TooLargeError):
    """Raised when an update would make a value longer than its limit."""


class WrongTypeError(KvsError):
    """Raised when a command is for values of another type."""

    code: ClassVar[str] = "wrongtype"


class UnsupportedError(KvsError):
    """Raised when a command needs what the storage engine cannot store, such as a deadline."""

    code: ClassVar[str] = "unsupported"


class NoTransactionError(KvsError):
    """Raised when a command needs an open transaction and none is open."""

    code: ClassVar[str] = "no_transaction"


# The client is not allowed to do this.


class UnauthenticatedError(KvsError):
    """Raised for a request of a client that has not authenticated, and has to."""

    code: ClassVar[str] = "unauthenticated"


class WrongSecretError(UnauthenticatedError):
    """Raised when AUTH fails, whatever is wrong: the user, the secret, or that the user is switched off."""

    def __init__(self) -> None:
        super().__init__("The user or the secret is wrong, or the user is switched off.")


class ForbiddenError(KvsError):
    """Raised for a request that the client's user has no grant for.

    Attributes:
        reason: ``command``, or ``key`` for a key or a range of keys.
        hint: What the user may do instead; names nothing that is not in the user's own grants. Perhaps empty.
    """

    code: ClassVar[str] = "forbidden"

    def __init__(self, reason: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.hint = hint


# The server is at a bound; the same request can succeed later.


class LimitError(KvsError):
    """Raised when a request would exceed a limit. Only the request is refused; an open transaction stays open."""

    code: ClassVar[str] = "limit"


class ClientsFullError(LimitError):
    """Raised when a request would take memory while the clients together hold all that they may.

    Args:
        limit_bytes: What they may hold.
    """

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"The clients together hold max_clients_bytes = {limit_bytes} or more; until that has gone down only what "
            "gives some back or tells of it runs: COMMIT, ROLLBACK, INFO, PING and the like."
        )


class ResultTooLargeError(LimitError):
    """Raised when a result does not fit into one reply.

    Attributes:
        max_bytes: Longest result that fits.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"The result would hold more than {max_bytes} bytes.")
        self.max_bytes = max_bytes


class TimedOutError(KvsError):
    """Raised when the server ends a transaction or a connection that is too old or idle. The connection closes."""

    code: ClassVar[str] = "timeout"


# The engine failed.


class StorageUnavailableError(KvsError):
    """Raised when the engine is unavailable. Nothing was applied, retrying is safe, and a transaction stays open."""

    code: ClassVar[str] = "unavailable"


class OutcomeUnknownError(KvsError):
    """Raised when a commit may or may not have been applied. The transaction has ended."""

    code: ClassVar[str] = "outcome_unknown"


class InternalError(KvsError):
    """Raised when an engine broke its contract. The transaction has ended."""

    code: ClassVar[str] = "internal"
