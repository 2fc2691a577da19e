"""One client's session: a mutable slot over the pure stack, between the inbound port and an engine.

The session asks the stack first, then the snapshot, then records what it has seen. A request that a limit refuses has
computed the next stack and not stored it, so it leaves nothing behind. Every way out of a transaction goes through
:meth:`EngineSession._end`, which closes the snapshot exactly once.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, TypeVar, cast, final

from kvs.application import answers
from kvs.application.listing import NO_KEYS, Count, Page
from kvs.application.memory_budget import ClientsBudget
from kvs.application.operations import AtOnce
from kvs.application.watch import Watches, baseline_bytes
from kvs.domain.commit import (
    COMMITTED,
    MAX_CONFLICTS_NAMED,
    CommitRequest,
    Committed,
    Conflict,
    ReadSet,
    page_range,
    prefix_range,
)
from kvs.domain.errors import (
    InternalError,
    KvsError,
    LimitError,
    OutcomeUnknownError,
    StorageUnavailableError,
    TimedOutError,
    TooLargeError,
    UsageError,
)
from kvs.domain.transaction import IDLE, TransactionStack
from kvs.domain.updates import Update, Updated
from kvs.domain.values import TOMBSTONE, Key, Value
from kvs.ports.autocommit import MAX_RETRIES, contention_error
from kvs.ports.session import Session, Totals, Unfinished
from kvs.ports.storage import Snapshot, Storage

if TYPE_CHECKING:
    from kvs.application.registry import EngineSessions

T = TypeVar("T")


@final
class EngineSession(Session):
    """A session over any engine. Called by one thread at a time."""

    __slots__ = (
        "_budget",
        "_execution",
        "_job",
        "_limits",
        "_sessions",
        "_snapshot",
        "_stack",
        "_storage",
        "_unit",
        "_watches",
    )

    def __init__(self, session_id: int, sessions: "EngineSessions", budget: ClientsBudget) -> None:
        super().__init__(session_id, Totals())
        self._sessions = sessions
        self._limits = sessions.limits
        self._budget = budget
        self._storage: Storage = sessions.storage
        self._stack: TransactionStack = IDLE
        self._snapshot: Snapshot | None = None
        self._job: Page | Count | None = None  # a listing that is not done, to be asked for again
        self._unit: _UnderWay | None = None  # likewise
        self._execution: _Execution | None = None  # likewise; a unit may be under way in it
        self._watches: Watches | None = None

    @property
    def depth(self) -> int:
        """See :class:`kvs.ports.session.Session`."""
        return self._stack.depth

    @property
    def expired(self) -> bool:
        """See :class:`kvs.ports.session.Session`."""
        if self._snapshot is None or self._execution is not None or (self._unit is not None and self._unit.alone):
            return False  # there is no transaction that the client knows of
        try:
            return answers.flag(self._snapshot.expired)
        except Exception as error:
            self._sessions.log.error("engine_failed", session=self.id, call="Snapshot.expired", exc_info=error)
            return True

    @property
    def held_bytes(self) -> int:
        """See :class:`kvs.ports.session.Session`."""
        return self.retained_bytes + (0 if self._watches is None else self._watches.held_bytes)

    @property
    def retained_bytes(self) -> int:
        """What the open transaction holds in memory."""
        return self._stack.retained_bytes

    @property
    def unanswered(self) -> bool:
        """See :class:`kvs.ports.session.Session`."""
        return self._job is not None or self._unit is not None or self._execution is not None

    @property
    def watching(self) -> bool:
        """See :class:`kvs.ports.session.Session`."""
        return self._watches is not None

    def has_pending(self, key: Key) -> bool:
        """Return whether the open transaction writes or deletes a key: to read it then takes no call of the engine."""
        return self._stack.pending(key) is not None

    def get(self, key: Key) -> Value | None:
        """See :class:`kvs.ports.session.Session`."""
        snapshot = self._snapshot
        try:
            if snapshot is None:
                value = self._storage.get(key)
                return value if type(value) is bytes else answers.value(value)
            pending = self._stack.pending(key)
            if pending is not None or self._stack.cleared:
                return pending if isinstance(pending, bytes) else None
            observed = self._grown(self._stack.observe(key))
            value = answers.value(snapshot.get(key))
        except Exception as error:
            raise self._failed(error) from None
        self._replace(observed)
        return value

    def put(self, key: Key, value: Value) -> None:
        """See :class:`kvs.ports.session.Session`."""
        if self._snapshot is not None:
            self._replace(self._grown(self._stack.put(key, value)))
            return
        try:
            self._storage.put(key, value)
        except Exception as error:
            raise self._failed(error, writing=True) from None

    def delete(self, key: Key) -> bool:
        """See :class:`kvs.ports.session.Session`."""
        if self._snapshot is None:
            try:
                return answers.flag(self._storage.delete(key))
            except Exception as error:
                raise self._failed(error, writing=True) from None
        stack = self._stack
        stack.check_may_write()
        pending = stack.pending(key)
        if pending is TOMBSTONE or (pending is None and stack.cleared):
            return False
        if pending is None:
            stack = stack.observe(key)
            try:
                present = answers.value(self._snapshot.get(key)) is not None
            except Exception as error:
                raise self._failed(error) from None
            if not present:
                self._replace(self._grown(stack))
                return False
        self._replace(self._grown(stack.delete(key)))
        return True

    def keys(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """See :class:`kvs.ports.session.Session`."""
        snapshot = self._snapshot
        try:
            if snapshot is None:
                return answers.page(self._storage.scan(prefix, after, limit))
            if self._stack.cleared:
                snapshot = NO_KEYS
            job, self._job = self._job, None
            writes = self._stack.writes
            if not (isinstance(job, Page) and job.answers(writes, prefix, after, limit)):
                job = Page(snapshot, writes, prefix, after, limit)
            if not job.advance():
                self._job = job
            page = job.result
            low, high = page_range(prefix, after, page, limit)
            observed = self._stack if self._job is not None else self._grown(self._stack.observe_range(low, high))
        except Exception as error:
            raise self._failed(error) from None
        if self._job is not None:
            raise Unfinished
        self._replace(observed)
        return page

    def count(self, prefix: Key) -> int:
        """See :class:`kvs.ports.session.Session`."""
        snapshot = self._snapshot
        try:
            if snapshot is None:
                return answers.number(self._storage.count(prefix))
            low, high = prefix_range(prefix)
            observed = self._grown(self._stack.observe_range(low, high))
            if self._stack.cleared:
                snapshot = NO_KEYS
            job, self._job = self._job, None
            writes = self._stack.writes
            if not (isinstance(job, Count) and job.answers(writes, prefix)):
                job = Count(snapshot, writes, prefix)
            if not job.advance():
                self._job = job
            count = job.result
        except Exception as error:
            raise self._failed(error) from None
        if self._job is not None:
            raise Unfinished
        self._replace(observed)
        return count

    def update(self, key: Key, change: Update) -> Updated:
        """See :class:`kvs.ports.session.Session`."""
        if self._snapshot is None:
            try:
                return answers.updated(self._storage.update(key, change))
            except (UsageError, TooLargeError):
                raise  # from the change
            except Exception as error:
                raise self._failed(error, writing=True) from None
        before = self._stack
        before.check_may_write()
        old = self.get(key)
        pending = change(old)
        if pending is None or (pending is TOMBSTONE and old is None):
            return old, old
        stack = self._stack
        stack = stack.put(key, pending) if isinstance(pending, bytes) else stack.delete(key)
        try:
            self._replace(self._grown(stack))
        except LimitError:
            self._replace(before)  # it is refused whole, with what it has read
            raise
        return old, pending if isinstance(pending, bytes) else None

    def put_all(self, entries: Mapping[Key, Value]) -> None:
        """See :class:`kvs.ports.session.Session`."""
        if self._snapshot is None:
            if isinstance(self._commit(CommitRequest((), entries)), Conflict):
                raise self._failed(TypeError("a conflict was answered to what depends on nothing"), writing=True)
            return
        stack = self._stack
        for key, value in entries.items():
            stack = self._grown(stack.put(key, value))
        self._replace(stack)

    def clear(self) -> None:
        """See :class:`kvs.ports.session.Session`. O(1) in a transaction."""
        if self._snapshot is not None:
            self._replace(self._stack.clear())
            return
        try:
            self._storage.clear()
        except Exception as error:
            raise self._failed(error, writing=True) from None

    def atomically(self, unit: Callable[[Session], T], *, read_only: bool = False) -> T:
        """See :class:`kvs.ports.session.Session`."""
        if not read_only:
            if self._snapshot is not None:
                return self._in_frame(unit)
            try:
                return cast("T", self._alone(_Execution(unit), ()))  # a conflict only comes of baselines
            except TimedOutError:
                raise _given_up() from None
        under_way, self._unit = self._unit, None
        if under_way is None and self._snapshot is None and isinstance(unit, AtOnce):
            answer = unit.at_once(self)
            if answer is not None:
                return cast("T", answer)
        if under_way is None:
            under_way = _UnderWay(unit, alone=self._snapshot is None)
            if under_way.alone:
                self._begin(read_only=True)
        elif under_way.unit != unit:
            raise RuntimeError("another unit was asked for while one was under way")
        unfinished = False
        try:
            return cast("T", under_way.unit(self))
        except Unfinished:
            unfinished = True
            self._unit = under_way
            raise
        except TimedOutError:
            if under_way.alone:
                raise _given_up() from None
            raise
        finally:
            if under_way.alone and not unfinished:
                self._end()

    def watch(self, keys: Collection[Key]) -> None:
        """See :class:`kvs.ports.session.Session`. O(keys)."""
        if self._snapshot is not None:
            raise UsageError("WATCH inside a transaction that START opened; it validates all that it reads anyhow.")
        watches = Watches() if self._watches is None else self._watches
        new = watches.new(keys)
        if not new:
            return
        added_bytes = baseline_bytes(new)
        if watches.held_bytes + added_bytes > self._limits.max_transaction_bytes:
            raise LimitError(
                f"What is watched would hold {watches.held_bytes + added_bytes} bytes; max_transaction_bytes is "
                f"{self._limits.max_transaction_bytes}."
            )
        watches.add(new, self._take_snapshot(), added_bytes)
        self._budget.used_bytes += added_bytes
        self._watches = watches

    def unwatch(self) -> None:
        """See :class:`kvs.ports.session.Session`. O(number of WATCHes)."""
        watches, self._watches = self._watches, None
        if watches is not None:
            self._budget.used_bytes -= watches.held_bytes
            for snapshot in watches.snapshots:
                self._close(snapshot)

    def execute(self, unit: Callable[[Session], T]) -> T | Conflict:
        """See :class:`kvs.ports.session.Session`."""
        execution, self._execution = self._execution, None
        if execution is None:
            if self._snapshot is not None:
                raise UsageError("EXEC inside a transaction that START opened.")
            execution = _Execution(unit)
        elif execution.unit != unit:
            raise RuntimeError("another unit was asked for while one was under way")
        watches = self._watches
        unfinished = False
        try:
            answer = self._alone(execution, ()) if watches is None else self._depending(execution, watches)
        except Unfinished:
            unfinished = True
            self._execution = execution
            raise
        except TimedOutError:
            raise _given_up() from None
        finally:
            if not unfinished:
                self.unwatch()
        if isinstance(answer, Conflict):
            self.totals.conflicted += 1
            return answer
        self.totals.committed += 1
        return cast("T", answer)

    def start(self, *, read_only: bool = False) -> None:
        """See :class:`kvs.ports.session.Session`. O(1)."""
        if self._watches is not None:
            raise UsageError("START while keys are watched; UNWATCH first: a transaction validates all that it reads.")
        if self._snapshot is not None:
            if self._stack.depth >= self._limits.max_transaction_depth:
                raise LimitError(
                    f"The transaction is {self._stack.depth} levels deep and max_transaction_depth is "
                    f"{self._limits.max_transaction_depth}."
                )
            self._replace(self._grown(self._stack.nest(read_only=read_only)))
        else:
            self._begin(read_only=read_only)

    def commit(self) -> Committed | Conflict:
        """See :class:`kvs.ports.session.Session`."""
        stack, request = self._stack.commit()
        if request is None:
            self._replace(stack)
            return COMMITTED
        answer = (
            self._commit(request) if request.writes or request.clears else COMMITTED
        )  # a snapshot is consistent by itself
        self._end()
        if isinstance(answer, Committed):
            self.totals.committed += 1
        else:
            self.totals.conflicted += 1
        return answer

    def rollback(self) -> None:
        """See :class:`kvs.ports.session.Session`. O(1)."""
        stack = self._stack.rollback()
        if stack is IDLE:
            self._end()
        else:
            self._replace(stack)

    def reset(self) -> None:
        """See :class:`kvs.ports.session.Session`."""
        self.unwatch()
        self._end()

    def info(self) -> dict[str, dict[str, object]]:
        """See :class:`kvs.ports.session.Session`. O(number of sessions)."""
        return self.info_with(self.engine_figures())

    def engine_figures(self) -> dict[str, int]:
        """Return the part of :meth:`info` that the engine knows."""
        try:
            return answers.figures(self._storage.stats())
        except Exception as error:
            raise self._failed(error) from None

    def info_with(self, figures: dict[str, int]) -> dict[str, dict[str, object]]:
        """Return what :meth:`info` does, without a call of the engine. O(number of sessions)."""
        about: dict[str, object] = {"id": self.id, "depth": self.depth}
        if self._snapshot is not None:
            about["pending_writes"] = len(self._stack.writes)
            about["transaction_bytes"] = self.retained_bytes
            about["snapshot_age_s"] = round(self._sessions.clock() - self.started_at_s, 3)
        return {"session": about, "server": {**self._sessions.info(), **figures}}

    def close(self) -> None:
        """See :class:`kvs.ports.session.Session`."""
        self.abort()
        self._sessions.closed(self)

    def abort(self) -> None:
        """End the open transaction, if there is one."""
        self.unwatch()
        if self._snapshot is not None:
            self._abort()

    # Several calls as one.

    def _in_frame(self, unit: Callable[[Session], T]) -> T:
        """Run a unit in a frame of the open transaction. How deep that is concerns nobody."""
        before = self._stack
        self._replace(self._grown(before.nest()))
        try:
            answer = unit(self)
        except LimitError:
            if self._snapshot is not None:
                self._replace(before)  # it is refused whole, with what it has read
            raise
        except BaseException:
            if self._snapshot is not None:
                self._replace(self._stack.rollback())  # what it has read stays read
            raise
        merged, _ = self._stack.commit()
        self._replace(merged)
        return answer

    def _alone(self, execution: "_Execution", baselines: tuple[ReadSet, ...]) -> object:
        """Run a unit as a transaction, again and again until nobody came before; or go on with it.

        Returns:
            What came out of it, or a conflict: one of the baselines does not hold.
        """
        while execution.attempts < MAX_RETRIES:
            if self._snapshot is None:
                self._begin()
            unfinished = False
            try:
                result = execution.unit(self)
                stack = self._stack  # by itself, its snapshot is consistent: without writes only the baselines matter
                writes = bool(stack.writes) or stack.cleared
                request = stack.request(baselines) if writes else CommitRequest(baselines, stack.writes)
                answer = self._commit(request)
            except Unfinished:
                unfinished = True
                raise
            finally:
                if not unfinished:
                    self._end()
            execution.attempts += 1
            if isinstance(answer, Committed):
                return result
            if any(key in baseline.keys for baseline in baselines for key in answer.keys):
                return answer  # and not one that only what the unit itself has read is to blame for
        raise contention_error()

    def _depending(self, execution: "_Execution", watches: Watches) -> object:
        """Run a unit as a transaction that depends on baselines."""
        if not self._has_lost(watches):
            try:
                return self._alone(execution, watches.validations())
            except TimedOutError:
                if not self._has_lost(watches):
                    raise
                # It was lost only just now, which an engine on worker threads may do at any time.
        self._end()  # the unit may be under way
        return Conflict(tuple(islice(watches.keys, MAX_CONFLICTS_NAMED)), ())

    def _has_lost(self, watches: Watches) -> bool:
        """Return whether the engine had to give up a baseline."""
        try:
            for snapshot in watches.snapshots:
                if answers.flag(snapshot.expired):
                    return True
        except Exception as error:
            raise self._failed(error) from None
        return False

    # The ways a transaction changes.

    def _begin(self, *, read_only: bool = False) -> None:
        snapshot = self._take_snapshot()
        self._snapshot = snapshot
        self.started_at_s = self._sessions.clock()
        try:
            self._replace(self._grown(IDLE.start(snapshot, read_only=read_only)))
        except LimitError:
            self._end()
            raise

    def _take_snapshot(self) -> Snapshot:
        snapshot: Snapshot | None = None
        try:
            snapshot = self._storage.snapshot()
            if answers.flag(snapshot.expired):
                raise TypeError("the engine returned a snapshot that has expired")
        except Exception as error:
            if snapshot is not None:
                with suppress(Exception):  # it is the failure before this one that is told
                    snapshot.close()
            raise self._failed(error) from None
        return snapshot

    def _grown(self, stack: TransactionStack) -> TransactionStack:
        """Return the next stack, unless it holds more than it may."""
        if stack.retained_bytes > self._limits.max_transaction_bytes:
            raise LimitError(
                f"The transaction would hold {stack.retained_bytes} bytes; max_transaction_bytes is "
                f"{self._limits.max_transaction_bytes}."
            )
        return stack

    def _replace(self, stack: TransactionStack) -> None:
        self._budget.used_bytes += stack.retained_bytes - self._stack.retained_bytes
        self._stack = stack

    def _end(self) -> None:
        """Leave the transaction, whatever became of it."""
        snapshot = self._snapshot
        self._snapshot = None
        self._job = None
        self._unit = None
        self._execution = None
        self._replace(IDLE)
        if snapshot is not None:
            self._close(snapshot)

    def _close(self, snapshot: Snapshot) -> None:
        try:
            snapshot.close()
        except Exception as error:
            self._sessions.log.error("engine_failed", session=self.id, call="Snapshot.close", exc_info=error)

    def _abort(self) -> None:
        self._end()
        self.totals.aborted += 1

    def _commit(self, request: CommitRequest) -> Committed | Conflict:
        try:
            if not (request.writes or request.reads or request.clears):
                return COMMITTED
            answer = self._storage.commit(request)
            if isinstance(answer, Conflict):
                answers.page([*answer.keys, *(each.low for each in answer.ranges)])
            elif not isinstance(answer, Committed):
                raise TypeError(f"the engine returned {type(answer).__name__}, not Committed or Conflict")
        except Exception as error:
            raise self._failed(error, writing=True) from None
        return answer

    def _failed(self, error: Exception, *, writing: bool = False) -> KvsError:
        """Return what to answer when an engine raised, and end the transaction where that is the rule.

        Args:
            error: What was raised.
            writing: Whether the call may have changed the data.
        """
        if isinstance(error, LimitError | StorageUnavailableError):
            return error
        if self._snapshot is not None:
            self._abort()
        if isinstance(error, TimedOutError | OutcomeUnknownError):
            return error
        self._sessions.log.error("engine_failed", session=self.id, exc_info=error)
        if writing:
            return OutcomeUnknownError(
                "The storage engine failed; the writes may have been applied. Read before you retry."
            )
        return InternalError("The storage engine failed; an open transaction was ended.")


def _given_up() -> StorageUnavailableError:
    """Return what is raised when the snapshot is lost of a transaction that the client knows nothing of."""
    return StorageUnavailableError(
        "The command took long, and the values kept for it outgrew max_history_bytes; nothing was applied. Retry."
    )


@final
class _Execution:
    """A unit that is run as a transaction of its own, and how often others came before."""

    __slots__ = ("attempts", "unit")

    def __init__(self, unit: Callable[[Session], object]) -> None:
        self.unit = unit
        self.attempts = 0


@final
class _UnderWay:
    """A unit that has not come to its end; ``alone`` if a transaction was begun for it."""

    __slots__ = ("alone", "unit")

    def __init__(self, unit: Callable[[Session], object], *, alone: bool) -> None:
        self.unit = unit
        self.alone = alone
