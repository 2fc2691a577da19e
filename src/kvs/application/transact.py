"""Operations: several calls of a session as one, in a transaction of their own or in a frame of the open one."""

from itertools import islice
from typing import Final, TypeVar, cast

from kvs.application import answers
from kvs.application.memory_budget import MemoryBudget
from kvs.application.slot import SessionContext, Slot
from kvs.application.watch import WatchSet, watch_bytes
from kvs.domain.commit import MAX_CONFLICTS_NAMED, CommitRequest, Committed, Conflict, ReadSet
from kvs.domain.errors import LimitError, StorageUnavailableError, TimedOutError, UsageError
from kvs.override import override
from kvs.ports.autocommit import MAX_RETRIES, contention_error
from kvs.ports.session import Operation, Steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from kvs.domain.values import Key

T = TypeVar("T")

KEYS_PER_UNIT: Final = 4
"""Keys watched per unit of work."""


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
    def watching(self) -> bool:
        return self._watched is not None

    @property
    @override
    def holds_snapshot(self) -> bool:
        return self._snapshot is not None or self._watched is not None

    @override
    def view(self, operation: "Operation[T]") -> "Steps[T]":
        if self._snapshot is not None:
            return (yield from operation(self))
        self.begin(read_only=True)
        self._internal = True
        try:
            return (yield from operation(self))
        except TimedOutError:
            raise snapshot_evicted() from None
        finally:
            self.end()

    @override
    def transact(self, operation: "Operation[T]") -> "Steps[T]":
        if self._snapshot is not None:
            return (yield from self._run_nested(operation))
        try:
            return cast("T", (yield from self._run_with_retry(operation, ())))  # only watched keys make a conflict
        except TimedOutError:
            raise snapshot_evicted() from None

    @override
    def execute(self, operation: "Operation[T]") -> "Steps[T | Conflict]":
        if self._snapshot is not None:
            raise UsageError("EXEC inside a transaction that START opened.")
        watched = self._watched
        try:
            if watched is None:
                outcome = yield from self._run_with_retry(operation, ())
            else:
                outcome = yield from self._run_watched(operation, watched)
        except TimedOutError:
            raise snapshot_evicted() from None
        finally:
            self.unwatch()
        if isinstance(outcome, Conflict):
            self.counters.conflicted += 1
        else:
            self.counters.committed += 1
        return cast("T | Conflict", outcome)

    @override
    def watch(self, keys: "Collection[Key]") -> None:
        if self._snapshot is not None:
            raise UsageError("WATCH inside a transaction that START opened; it validates all that it reads anyhow.")
        watched = WatchSet() if self._watched is None else self._watched
        new = watched.new(keys)
        self.work.left -= len(keys) // KEYS_PER_UNIT
        if not new:
            return
        added_bytes = watch_bytes(new)
        if watched.held_bytes + added_bytes > self._limits.max_transaction_bytes:
            raise LimitError(
                f"What is watched would hold {watched.held_bytes + added_bytes} bytes; max_transaction_bytes is "
                f"{self._limits.max_transaction_bytes}."
            )
        watched.add(new, self.take_snapshot(), added_bytes)
        self._budget.used_bytes += added_bytes
        self._watched = watched

    @override
    def unwatch(self) -> None:
        watched, self._watched = self._watched, None
        if watched is not None:
            self._budget.used_bytes -= watched.held_bytes
            for snapshot in watched.snapshots:
                self.close_snapshot(snapshot)

    def _run_nested(self, operation: "Operation[T]") -> "Steps[T]":
        """Run an operation in a frame of the open transaction, whatever its depth."""
        before = self._stack
        self.set_stack(self.check_size(before.nest()))
        try:
            result = yield from operation(self)
        except LimitError:
            if self._snapshot is not None:
                self.set_stack(before)  # it is refused whole, with what it has read
            raise
        except BaseException:
            if self._snapshot is not None:
                self.set_stack(self._stack.rollback())  # what it has read stays read
            raise
        merged, _ = self._stack.commit()
        self.set_stack(merged)
        return result

    def _run_with_retry(self, operation: "Operation[object]", watched: tuple[ReadSet, ...]) -> Steps[object]:
        """Run an operation as a transaction until no other commits first.

        Returns:
            Its result; or a conflict: a watched key has changed.
        """
        for _ in range(MAX_RETRIES):
            self.begin()
            self._internal = True
            try:
                result = yield from operation(self)
                stack = self._stack  # without writes only what is watched matters: a snapshot is consistent by itself
                changes = stack.writes or stack.cleared
                request = stack.request(watched) if changes else CommitRequest(watched, stack.writes)
                outcome = self.apply(request)
            finally:
                self.end()
            if isinstance(outcome, Committed):
                return result
            if any(key in reads.keys for reads in watched for key in outcome.keys):
                return outcome  # and not only what the operation itself has read
            if self.work.left <= 0:
                yield
        raise contention_error()

    def _run_watched(self, operation: "Operation[object]", watched: WatchSet) -> Steps[object]:
        """Run an operation as a transaction that depends on watched keys."""
        if not self._has_lost(watched):
            try:
                return (yield from self._run_with_retry(operation, watched.read_sets()))
            except TimedOutError:
                if not self._has_lost(watched):
                    raise
                # It was evicted only just now, which an engine on worker threads may do at any time.
        return Conflict(tuple(islice(watched.keys, MAX_CONFLICTS_NAMED)), ())

    def _has_lost(self, watched: WatchSet) -> bool:
        """Return whether the engine had to evict a snapshot of the watched keys."""
        try:
            for snapshot in watched.snapshots:
                if answers.flag(snapshot.expired):
                    return True
        except Exception as error:
            raise self.translate_error(error) from None
        return False


def snapshot_evicted() -> StorageUnavailableError:
    """Return the error for the loss of a snapshot that the client does not know of."""
    return StorageUnavailableError(
        "The command took long, and the values kept for it outgrew max_history_bytes; nothing was applied. Retry."
    )
