"""Operations: several calls of a session as one, in a new transaction or in a frame of the open one."""

from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar, cast

from kvs.application.memory_budget import MemoryBudget
from kvs.application.slot import LARGE_BYTES, SessionContext, Slot
from kvs.application.watch import WatchSet, watch_bytes
from kvs.domain.commit import MAX_CONFLICTS_NAMED, CommitRequest, Committed, Conflict, KeyRange, ReadSet
from kvs.domain.errors import LimitError, StorageUnavailableError, TimedOutError, UsageError
from kvs.domain.keyspace import stored_entries, stored_keys
from kvs.override import override
from kvs.ports.autocommit import MAX_RETRIES, contention_error
from kvs.ports.session import Operation, Steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvs.domain.values import Key, Value
    from kvs.ports.session import Session
    from kvs.ports.storage import Snapshot

T = TypeVar("T")

EVERYTHING: Final = KeyRange(b"", None)

MANY_RANGES: Final = 4
"""Ranges that are cleaned one by one for an operation."""

KEYS_PER_UNIT: Final = 4
"""Keys watched per unit of work."""

MANY_SNAPSHOTS: Final = 1000
"""Snapshots of watched keys from which they are closed in shares. Those of a blocking engine are closed by a worker."""


class BehindError(Exception):
    """Raised by an operation that reads a range while records in it may be due that have not been deleted.

    Attributes:
        keys: The range.
    """

    def __init__(self, keys: KeyRange) -> None:
        super().__init__(keys)
        self.keys = keys


class TransactingSession(Slot):
    """Runs operations, and watches keys for them."""

    __slots__ = ("_watched",)

    def __init__(self, session_id: int, context: SessionContext, budget: MemoryBudget) -> None:
        super().__init__(session_id, context, budget)
        self._watched: WatchSet | None = None

    @property
    @override
    def held_bytes(self) -> int:
        return self._stack.retained_bytes + (0 if self._watched is None else self._watched.held_bytes)

    @property
    @override
    def holds_snapshot(self) -> bool:
        return self._snapshot is not None or self._watched is not None

    @override
    def view(self, operation: "Operation[T]") -> "Steps[T]":
        return self._view(operation) if self._snapshot is None else operation(self)

    @override
    def transact(self, operation: "Operation[T]") -> "Steps[T]":
        if self._snapshot is not None:
            return self._run_nested(operation)
        return cast("Steps[T]", self._run_alone(operation, None))  # without watched keys it returns no conflict

    @override
    def execute(self, operation: "Operation[T]") -> "Steps[T | Conflict]":
        self._check_may_execute()
        return cast("Steps[T | Conflict]", self._run_alone(operation, self._watched or WatchSet()))

    @override
    def execute_at_once(self, operation: "Callable[[Session], T | None]") -> "T | Conflict | None":
        watched = self._watched
        reads: tuple[ReadSet, ...] = () if watched is None else tuple(watched.read_sets)
        if self._snapshot is not None:
            return None
        self._judge_anew()
        try:
            self.begin()
            self._internal = True
            result = operation(self)
            if result is None:
                return None
            outcome = self._apply_operation(reads)
        except (TimedOutError, BehindError):
            return None  # a snapshot was evicted, or ranges have to be brought up to date
        except BaseException:
            self.unwatch()
            raise
        finally:
            self.end()
        if isinstance(outcome, Committed):
            self.counters.committed += 1
            self.unwatch()
            return result
        if not _names_watched(outcome, reads):
            return None  # its own reads have changed, as with a blocking engine they may at any time
        self.unwatch()
        return self.conflicted(outcome)

    @override
    def execute_put_all(self, entries: "dict[Key, Value]") -> Committed | Conflict:
        self._check_may_execute()
        watched = self._watched
        reads: tuple[ReadSet, ...] = () if watched is None else tuple(watched.read_sets)
        try:
            outcome = self.apply(CommitRequest(reads, stored_entries(entries)))
        except TimedOutError:  # a watched snapshot was evicted
            return self._conflict(reads)
        finally:
            self.unwatch()
        if isinstance(outcome, Committed):
            self.counters.committed += 1
            return outcome
        return self.conflicted(outcome)

    @override
    def watch(self, keys: "list[Key]") -> None:
        if self._snapshot is not None:
            raise UsageError("WATCH inside a transaction that START opened; it validates all that it reads anyhow.")
        watched = WatchSet() if self._watched is None else self._watched
        new = watched.new(stored_keys(keys))
        self.work.left -= len(keys) // KEYS_PER_UNIT
        if not new:
            return
        added_bytes = watch_bytes(new)
        if watched.held_bytes + added_bytes > self._limits.max_transaction_bytes:
            raise LimitError(
                f"The watched keys would hold {watched.held_bytes + added_bytes} bytes; max_transaction_bytes is "
                f"{self._limits.max_transaction_bytes}."
            )
        if self._expiry.lagging:
            for key in new:
                self._expiry.delete_due(key)
        watched.add(new, self.take_snapshot(), added_bytes)
        self._budget.used_bytes += added_bytes
        self._watched = watched

    @override
    def unwatch(self) -> None:
        watched, self._watched = self._watched, None
        if watched is not None:
            self._budget.used_bytes -= watched.held_bytes
            disposal = self._context.disposal
            if len(watched.read_sets) > MANY_SNAPSHOTS and not self._storage.blocking:
                disposal.add_calls(self.close_snapshot, watched.snapshots)
            else:
                for reads in watched.read_sets:
                    self.close_snapshot(cast("Snapshot", reads.snapshot))
            if watched.held_bytes > LARGE_BYTES:
                disposal.add(watched.parts())

    def _check_may_execute(self) -> None:
        if self._snapshot is not None:
            raise UsageError("EXEC inside a transaction that START opened.")

    def _view(self, operation: "Operation[T]") -> "Steps[T]":
        """Run an operation on a new snapshot."""
        self._judge_anew()
        held_bytes = self.work.held_bytes
        while True:
            self.work.held_bytes = held_bytes  # nothing is left of the attempt before
            self.begin(read_only=True)
            self._internal = True
            try:
                return (yield from operation(self))
            except BehindError as error:
                behind = error.keys
            except TimedOutError:
                raise snapshot_evicted() from None
            finally:
                self.end()
            yield from self._clean_up(behind)

    def _run_nested(self, operation: "Operation[T]") -> "Steps[T]":
        """Run an operation in a frame of the open transaction."""
        before = self._stack
        self.set_stack(self.check_size(before.nest()))
        try:
            result = yield from operation(self)
        except LimitError:
            if self._snapshot is not None:
                self.set_stack(before)  # undo its reads, too
            raise
        except BaseException:
            if self._snapshot is not None:
                self.set_stack(self._stack.rollback())  # its reads stay observed
            raise
        merged, _ = self._stack.commit()
        self.set_stack(merged)
        return result

    def _run_alone(self, operation: "Operation[object]", watched: WatchSet | None) -> Steps[object]:
        """Run an operation as a transaction, and retry it while others commit first.

        Args:
            operation: The operation.
            watched: Keys that must not have changed, and whose EXEC the counters count; None: no watched keys.

        Returns:
            Its result, or a conflict if a watched key has changed.
        """
        reads: tuple[ReadSet, ...] = () if watched is None else tuple(watched.read_sets)
        held_bytes = self.work.held_bytes
        self._judge_anew()
        try:
            if reads and self._has_lost(reads):
                return self._conflict(reads)
            for _ in range(MAX_RETRIES):
                self.work.held_bytes = held_bytes  # nothing is left of the attempt before
                self.begin()
                self._internal = True
                behind: KeyRange | None = None
                try:
                    result = yield from operation(self)
                    outcome = self._apply_operation(reads)
                except BehindError as error:
                    behind = error.keys
                finally:
                    self.end()
                if behind is not None:
                    yield from self._clean_up(behind)
                    continue
                if isinstance(outcome, Committed):
                    if watched is not None:
                        self.counters.committed += 1
                    return result
                if _names_watched(outcome, reads):
                    return self.conflicted(outcome)  # not only the operation's reads have changed
                if self.work.left <= 0:
                    yield
            raise contention_error()
        except TimedOutError:
            if reads and self._has_lost(reads):  # just now, as a blocking engine may at any time
                return self._conflict(reads)
            raise snapshot_evicted() from None
        finally:
            if watched is not None:
                self.unwatch()

    def check_horizon(self, keys: KeyRange) -> None:
        """Check that the snapshot of an operation holds no record in a range that was due when the operation began.

        Raises:
            BehindError: It may; the operation has to be run again when what is due there has been deleted.
        """
        if self._internal and self._behind and not any(clean.covers(keys) for clean in self._clean):
            raise BehindError(keys)

    def catch_up(self, keys: KeyRange) -> Steps[None]:
        """Delete what is due in a range; see :meth:`Expiry.catch_up`."""
        try:
            yield from self._expiry.catch_up(self.work, keys)
        except Exception as error:
            raise self.translate_error(error) from None

    def _judge_anew(self) -> None:
        """Begin the first attempt to run an operation: in no range is it known that nothing is due."""
        self._clean.clear()
        self._clean_ms = 0

    def _clean_up(self, keys: KeyRange) -> Steps[None]:
        """Delete what is due in a range that an operation reads, which has to be run again.

        From then on it judges by the time of the first such range, so that it sees one state. An operation that reads
        many ranges waits for all that is due, as each of them costs an attempt.
        """
        if len(self._clean) >= MANY_RANGES:
            keys = EVERYTHING
        self._clean_ms = self._clean_ms or self._expiry.now_ms
        yield from self.catch_up(keys)
        self._clean.append(keys)

    def _apply_operation(self, reads: tuple[ReadSet, ...]) -> Committed | Conflict:
        """Commit what an operation has written, if its reads and those of watched keys are unchanged."""
        stack = self._stack
        # Without writes only the watched keys matter: a snapshot is consistent by itself.
        changes = stack.writes or stack.cleared
        return self.apply(stack.request(reads) if changes else CommitRequest(reads, stack.writes))

    def _has_lost(self, reads: tuple[ReadSet, ...]) -> bool:
        """Return whether the engine has evicted a snapshot of the watched keys."""
        try:
            for each in reads:
                if cast("Snapshot", each.snapshot).expired:
                    return True
        except Exception as error:
            raise self.translate_error(error) from None
        return False

    def _conflict(self, reads: tuple[ReadSet, ...]) -> Conflict:
        """Return the conflict for watched keys whose snapshot was evicted."""
        keys = dict.fromkeys(key for each in reads for key in each.keys)
        return self.conflicted(Conflict(tuple(islice(keys, MAX_CONFLICTS_NAMED)), ()))


def _names_watched(conflict: Conflict, reads: tuple[ReadSet, ...]) -> bool:
    """Return whether a conflict names a watched key."""
    return any(key in each.keys for each in reads for key in conflict.keys)


def snapshot_evicted() -> StorageUnavailableError:
    """Return the error for the eviction of a snapshot that is invisible to the client."""
    return StorageUnavailableError(
        "The command took long, and the values kept for it outgrew max_history_bytes; nothing was applied. Retry."
    )
