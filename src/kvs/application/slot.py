"""One open transaction: its stack, its snapshot, and the memory it is charged for.

Here a transaction begins, grows and ends, also when the engine fails. Every exit goes through :meth:`Slot.end`, which
closes the snapshot exactly once.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from kvs.application.changes import SERVER, ChangeFeed
from kvs.application.conflict_keys import ConflictKeys
from kvs.application.disposal import Disposal
from kvs.application.expiry import Expiry
from kvs.application.memory_budget import MemoryBudget
from kvs.application.only_bytes import unsupported
from kvs.application.set_times import SetTimes
from kvs.domain.commit import COMMITTED, CommitRequest, Committed, Conflict, KeyRange
from kvs.domain.errors import (
    InternalError,
    KvsError,
    LimitError,
    OutcomeUnknownError,
    StorageUnavailableError,
    TimedOutError,
)
from kvs.domain.keyspace import clients_conflict, clients_key, stored_key, with_whole_ranges
from kvs.domain.transaction import IDLE, TransactionStack
from kvs.domain.values import NEVER_MS, NO_DEADLINE, TOMBSTONE, Key, Record, Value, Write, deadline_of
from kvs.log_type import FilteringBoundLogger
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
        records: Whether the engine stores records.
        limits: Limits of one session.
        clock: Monotonic seconds.
        log: For engines that break their contract.
        server_info: Returns figures about the server, without those of the engine.
        on_close: Called with a session that has ended.
        disposal: Frees large transactions.
        expiry: The server's time, and what is due.
        changes: What commits change.
        conflict_keys: Counts what conflicts are about.
    """

    storage: Storage
    records: bool
    limits: SessionLimits
    clock: Callable[[], float]
    log: FilteringBoundLogger
    server_info: Callable[[], dict[str, object]]
    on_close: Callable[[Session], None]
    disposal: Disposal
    expiry: Expiry
    changes: ChangeFeed
    conflict_keys: ConflictKeys


class Slot(Session):
    """The transaction of a session, if any.

    Args:
        session_id: Number of the session.
        context: What all sessions share.
        budget: Memory budget that the transaction is charged to.
    """

    __slots__ = (
        "_behind",
        "_budget",
        "_changes",
        "_clean",
        "_clean_ms",
        "_context",
        "_expiry",
        "_first_deadline_ms",
        "_index",
        "_internal",
        "_limits",
        "_records",
        "_set_times",
        "_snapshot",
        "_snapshot_change",
        "_snapshot_ms",
        "_stack",
        "_storage",
    )

    def __init__(self, session_id: int, context: SessionContext, budget: MemoryBudget) -> None:
        super().__init__(session_id)
        self._context = context
        self._limits = context.limits
        self._records = context.records
        self._budget = budget
        self._expiry = context.expiry
        self._changes = context.changes
        self._storage: Storage = context.storage
        self._stack: TransactionStack = IDLE
        self._snapshot: Snapshot | None = None
        self._snapshot_ms = 0  # its clock
        self._snapshot_change = 0  # number of the last change that it is known to hold
        self._first_deadline_ms = NEVER_MS  # of the records that it is about to write
        self._set_times: SetTimes | None = None  # of the deadlines that the client's transaction has set, if any
        self._index: WriteIndex | None = None  # of the pending writes, since they were last listed
        self._behind = False  # the snapshot may hold records that were due when it was taken
        self._internal = False  # the transaction was begun for one command, invisibly to the client
        self._clean: list[KeyRange] = []  # ranges in which nothing was due for that command ...
        self._clean_ms = 0  # ... by this time, by which it judges from then on; 0: by the time of each tick

    @property
    @override
    def depth(self) -> int:
        return self._stack.depth

    @override
    def check_may_write(self) -> None:
        if self._snapshot is not None:
            self._stack.check_may_write()

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

    @property
    @override
    def now_ms(self) -> int:
        return self._expiry.now_ms

    @property
    @override
    def read_ms(self) -> int:
        if self._snapshot is None:
            return self._expiry.now_ms
        return (self._clean_ms or self._expiry.now_ms) if self._internal else self._snapshot_ms

    @override
    def counts_from_ms(self, deadline_ms: int) -> int:
        return self.read_ms if self._set_times is None else max(self.read_ms, self._set_times.of(deadline_ms))

    @override
    def is_pending(self, key: bytes) -> bool:
        return self._stack.pending(stored_key(key)) is not None

    @override
    def shows_newest(self, key: bytes) -> bool:
        if self._snapshot is None:
            return True
        newest = self._snapshot_change == self._changes.number and not self._stack.cleared
        return newest and self._stack.pending(stored_key(key)) is None

    @property
    @override
    def clears_all(self) -> bool:
        return self._stack.cleared

    @override
    def written_keys(self) -> Iterator[Key]:
        for key in self._stack.writes:
            yield clients_key(key)

    def begin(self, *, read_only: bool = False) -> None:
        """Open the outermost frame on a new snapshot."""
        self._snapshot_ms = self._expiry.horizon_ms  # first, because workers of a blocking engine move it
        self._behind = self._expiry.lagging
        self._first_deadline_ms = NEVER_MS
        self._set_times = None
        self._snapshot_change = self._changes.number
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
        self._first_deadline_ms = NEVER_MS
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

    def conflicted(self, conflict: Conflict) -> Conflict:
        """Count a conflict, and return it with the keys as the client knows them."""
        shown = clients_conflict(conflict)
        self.counters.conflicted += 1
        self._context.conflict_keys.note(shown)
        return shown

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

    def check_records(self) -> None:
        """Check that the engine stores records.

        Raises:
            UnsupportedError: It does not.
        """
        if not self._records:
            raise unsupported()

    def admit(self, record: Record, old: Value | None = None) -> None:
        """Check a record that :meth:`apply` will store, and note its deadline, and when it was set.

        Args:
            record: The record.
            old: What it replaces, if it may have that one's deadline.

        Raises:
            UnsupportedError: The engine does not store records.
        """
        self.check_records()
        deadline_ms = record.deadline_ms
        if deadline_ms != NO_DEADLINE:
            self._first_deadline_ms = min(self._first_deadline_ms, deadline_ms)
            if self._snapshot is not None and not self._internal and deadline_ms != deadline_of(old):
                self._set_times = self._set_times or SetTimes()
                self._set_times.note(deadline_ms, self._expiry.now_ms)

    def admit_all(self, values: list[Value]) -> None:
        """Do the same for all records among these values."""
        for value in values:
            if isinstance(value, Record):
                self.admit(value)

    def is_gone(self, record: Record) -> bool:
        """Return whether a record of the snapshot has expired by the time by which the session reads."""
        return NO_DEADLINE < record.deadline_ms <= self.read_ms

    def apply(self, request: CommitRequest) -> Committed | Conflict:
        """Commit a request; records that are due by now are deletes."""
        try:
            if self._first_deadline_ms != NEVER_MS and self._first_deadline_ms <= self._expiry.now_ms:
                request = CommitRequest(request.reads, self.without_due(request.writes), request.clears)
            if not (request.writes or request.reads or request.clears):
                return COMMITTED
            self.work.left -= len(request.writes)
            for reads in request.reads:
                self.work.left -= len(reads.keys) // CHECKED_KEYS_PER_UNIT
                if self._expiry.lagging:
                    for key in reads.keys:
                        self._expiry.delete_due(key)
            outcome = self._storage.commit(request)
            if isinstance(outcome, Conflict):
                return with_whole_ranges(outcome, request.reads)
            if self._changes.wanted:
                self._changes.add_commit(request, self.id)
                self.work.left -= len(request.writes)
        except Exception as error:
            raise self.translate_error(error, writing=True) from None
        return outcome

    def note_change(self, key: Key) -> None:
        """Tell who wants to know that a stored key has been changed."""
        self._changes.add((key,), self.id)
        self.work.left -= 1

    def without_due(self, writes: Mapping[Key, Write]) -> Mapping[Key, Write]:
        """Return the same writes, with deletes in place of records that are due by now."""
        now_ms = self._expiry.now_ms
        return {
            key: TOMBSTONE if NO_DEADLINE < deadline_of(pending) <= now_ms else pending
            for key, pending in writes.items()
        }

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
            self.counters.engine_aborts += 1
        if writing and self._changes.wanted and not isinstance(error, TimedOutError):
            self._changes.add(None, SERVER)  # which of them nobody knows
        if isinstance(error, TimedOutError | OutcomeUnknownError):
            return error
        self._context.log.error("engine_failed", session=self.id, exc_info=error)
        if writing:
            return OutcomeUnknownError(
                "The storage engine failed; the writes may have been applied. Read before you retry."
            )
        return InternalError("The storage engine failed; an open transaction was ended.")
