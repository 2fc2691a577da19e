"""One tree of errors, each with the stable code that a client program can rely on.

A conflict is not here: it is one of the two answers to a commit (see :class:`kvs.domain.commit.Conflict`).

Unless its description says otherwise, an error leaves the data, the transaction and the connection as they were.
"""

from typing import ClassVar


class KvsError(Exception):
    """A request could not be done; the message is a sentence for people."""

    code: ClassVar[str] = "internal"


# What was asked is wrong; asking the same again gives the same answer.


class UsageError(KvsError):
    """Raised when a command has too few or too many words, or an empty key, or breaks its client's own promise.

    The promise is that of START READONLY, not to write. Nobody else can make a client break it, so there is nothing to
    decide by a code of its own: it is a mistake in the client, like the others here.
    """

    code: ClassVar[str] = "usage"


class TooLargeError(KvsError):
    """Raised when a key, a value or a request is longer than its limit."""

    code: ClassVar[str] = "too_large"


class NotANumberError(UsageError):
    """Raised when a value that is to be added to is not a whole number of 64 bits."""


class OutOfRangeError(UsageError):
    """Raised when a sum has more than 64 bits."""


class TooLongError(TooLargeError):
    """Raised when an update would make a value longer than its limit."""


class NoTransactionError(KvsError):
    """Raised when a command needs an open transaction and there is none."""

    code: ClassVar[str] = "no_transaction"


# The server is at a bound; the same request can succeed later.


class LimitError(KvsError):
    """Raised when a request would exceed a limit. It alone is refused; an open transaction stays open."""

    code: ClassVar[str] = "limit"


class ResultTooLargeError(LimitError):
    """Raised when what is read does not fit into one reply.

    Attributes:
        max_bytes: What does.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"The result would hold more than {max_bytes} bytes.")
        self.max_bytes = max_bytes


class TimedOutError(KvsError):
    """Raised when the server ends a transaction or a connection for its age or idleness. The connection closes."""

    code: ClassVar[str] = "timeout"


# The engine could not do it.


class StorageUnavailableError(KvsError):
    """Raised when the engine cannot serve now. Nothing was applied and retrying is safe; a transaction stays open."""

    code: ClassVar[str] = "unavailable"


class OutcomeUnknownError(KvsError):
    """Raised when a commit may or may not have been applied. The transaction has ended."""

    code: ClassVar[str] = "outcome_unknown"


class InternalError(KvsError):
    """Raised when an engine broke its contract. The transaction has ended."""

    code: ClassVar[str] = "internal"
