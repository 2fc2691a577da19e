"""One open transaction: its stack, its snapshot, and the memory it is charged for.

Here a transaction begins, grows and ends, also when the engine fails. Every exit goes through :meth:`Slot.end`, which
closes the snapshot exactly once.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from structlog.typing import FilteringBoundLogger

from kvs.application.disposal import Disposal
from kvs.application.memory_budget import MemoryBudget
from kvs.domain.commit import COMMITTED, CommitRequest, Committed, Conflict
from kvs.domain.errors import (
    InternalError,
    KvsError,
    LimitError,
    OutcomeUnknownError,
    StorageUnavailableError,
    TimedOutError,
)
from kvs.domain.transaction import IDLE, TransactionStack
from kvs.override import override
from kvs.ports.session import Session
from kvs.ports.storage import Snapshot, Storage

if TYPE_CHECKING:
    from kvs.application.listing import WriteIndex


CHECKED_KEYS_PER_UNIT: Final = 4
"""Keys of a read set that are validated per unit of work; a write costs a unit."""

LARGE_BYTES: Final = 1 << 16
"""Size from which what a session drops is freed in parts."""


@final
@dataclass
class SessionLimits:
    """Limits of one session; see the settings of the same names."""

    max_transaction_bytes: int
    max_transaction_depth: int


@final
@dataclass
class SessionContext:
    """The collaborators that all sessions of a server share.

    Attributes:
        storage: The engine.
        limits: Limits of one session.
        clock: Monotonic seconds.
        log: For engines that break their contract.
        server_info: Returns figures about the server, without those of the engine.
        on_close: Called with a session that has ended.
        disposal: Frees large transactions.
    """

    storage: Storage
    limits: SessionLimits
    clock: Callable[[], float]
    log: FilteringBoundLogger
    server_info: Callable[[], dict[str, object]]
    on_close: Callable[[Session], None]
    disposal: Disposal


class Slot(Session):
    """The transaction of a session, if any.

    Args:
        session_id: Number of the session.
        context: What all sessions share.
        budget: Memory budget that the transaction is charged to.
    """

    __slots__ = ("_budget", "_context", "_index", "_internal", "_limits", "_snapshot", "_stack", "_storage")

    def __init__(self, session_id: int, context: SessionContext, budget: MemoryBudget) -> None:
        super().__init__(session_id)
        self._context = context
        self._limits = context.limits
        self._budget = budget
        self._storage: Storage = context.storage
        self._stack: TransactionStack = IDLE
        self._snapshot: Snapshot | None = None
        self._index: WriteIndex | None = None  # of the pending writes, since they were last listed
        self._internal = False  # the transaction was begun for one command, invisibly to the client

    @property
    @override
    def depth(self) -> int:
        return self._stack.depth

    @property
    @override
    def expired(self) -> bool:
        if self._snapshot is None or self._internal:
            return False
        try:
            return self._snapshot.expired
        except Exception as error:
            self._context.log.error("engine_failed", session=self.id, call="Snapshot.expired", exc_info=error)
            return True

    @override
    def is_pending(self, key: bytes) -> bool:
        return self._stack.pending(key) is not None

    def begin(self, *, read_only: bool = False) -> None:
        """Open the outermost frame on a new snapshot."""
        snapshot = self.take_snapshot()
        self._snapshot = snapshot
        self.started_at_s = self._context.clock()
        try:
            self.set_stack(self.check_size(IDLE.start(snapshot, read_only=read_only)))
        except LimitError:
            self.end()
            raise

    def end(self) -> None:
        """End the transaction, however it ended."""
        snapshot = self._snapshot
        self._snapshot = None
        self.drop_index()
        self._internal = False
        self.set_stack(IDLE)
        if snapshot is not None:
            self.close_snapshot(snapshot)

    def drop_index(self) -> None:
        """Drop the index of the pending writes. To be freed before these, so that no key is freed with its list."""
        index, self._index = self._index, None
        if index is not None:
            self._context.disposal.add(index.parts())

    def abort_transaction(self) -> None:
        """Abort the open transaction by decision of the server."""
        self.end()
        self.counters.aborted += 1

    def take_snapshot(self) -> Snapshot:
        """Return a new snapshot of the engine's data."""
        snapshot: Snapshot | None = None
        try:
            snapshot = self._storage.snapshot()
            if snapshot.expired:
                raise TypeError("the engine returned a snapshot that has expired")
        except Exception as error:
            if snapshot is not None:
                with suppress(Exception):  # the failure before this one is reported
                    snapshot.close()
            raise self.translate_error(error) from None
        return snapshot

    def close_snapshot(self, snapshot: Snapshot) -> None:
        """Close a snapshot; a failure is logged."""
        try:
            snapshot.close()
        except Exception as error:
            self._context.log.error("engine_failed", session=self.id, call="Snapshot.close", exc_info=error)

    def check_size(self, stack: TransactionStack) -> TransactionStack:
        """Return the stack unchanged.

        Raises:
            LimitError: It holds more than ``max_transaction_bytes``.
        """
        if stack.retained_bytes > self._limits.max_transaction_bytes:
            raise LimitError(
                f"The transaction would hold {stack.retained_bytes} bytes; max_transaction_bytes is "
                f"{self._limits.max_transaction_bytes}."
            )
        return stack

    def set_stack(self, stack: TransactionStack) -> None:
        """Make a stack the current one: this is the state transition."""
        growth = stack.retained_bytes - self._stack.retained_bytes
        self._budget.used_bytes += growth
        if growth < -LARGE_BYTES:
            self._context.disposal.add(self._stack.parts())
        self._stack = stack

    def apply(self, request: CommitRequest) -> Committed | Conflict:
        """Commit a request."""
        try:
            if not (request.writes or request.reads or request.clears):
                return COMMITTED
            self.work.left -= len(request.writes)
            for reads in request.reads:
                self.work.left -= len(reads.keys) // CHECKED_KEYS_PER_UNIT
            outcome = self._storage.commit(request)
        except Exception as error:
            raise self.translate_error(error, writing=True) from None
        return outcome

    def translate_error(self, error: Exception, *, writing: bool = False) -> KvsError:
        """Return the client's error for one that the engine raised; unless it only refused, abort the transaction.

        Args:
            error: The engine's error.
            writing: Whether the call may have changed the data.
        """
        if isinstance(error, LimitError | StorageUnavailableError):
            return error
        if self._snapshot is not None:
            self.abort_transaction()
        if isinstance(error, TimedOutError | OutcomeUnknownError):
            return error
        self._context.log.error("engine_failed", session=self.id, exc_info=error)
        if writing:
            return OutcomeUnknownError(
                "The storage engine failed; the writes may have been applied. Read before you retry."
            )
        return InternalError("The storage engine failed; an open transaction was ended.")
