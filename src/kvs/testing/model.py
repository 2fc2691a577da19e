"""The reference model: the outcome of every call of a session, computed in the simplest way.

It copies where kvs shares structure: START copies the whole data set, and a nested START the pending writes. Each key
has the number of the commit that last changed it.

When time passes, whatever is due is deleted by a commit. A lazy model leaves that to the calls, as a server does when
expiry is lagging: a call deletes what is due of the keys and in the range that it is about. A snapshot then has keys
that are due but have not been deleted, as its clock is behind, too.

The model has no limits and no protocol; other tests cover those.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final, TypeVar

from kvs.domain.errors import NoTransactionError, UsageError
from kvs.domain.values import NO_DEADLINE, Key, Value, deadline_of, string_of, with_deadline, with_string
from kvs.testing.calls import CONFLICT, Call, Outcome, Update
from kvs.testing.frames import Data, Frame, Range, Transaction

T = TypeVar("T")

START_MS: Final = 1_000_000
"""The time at which a model begins."""


EVERYTHING: Final = Range(b"", b"", None)

MANY_RANGES: Final = 4
"""Ranges of an operation from which all that is due is deleted for it."""


class BehindError(Exception):
    """An operation reads a range of a snapshot that may hold what was due when it was taken."""

    def __init__(self, listed: Range) -> None:
        super().__init__(listed)
        self.listed = listed


class Model:
    """A server with any number of sessions, named by number; the first call of a number opens its session.

    Args:
        lazy: What is due is deleted by calls only.

    Attributes:
        now_ms: The time.
        data: The committed data.
        changed_at: Number of the commit that last changed a key, for keys that ever changed.
        commits: Number of commits so far.
    """

    def __init__(self, *, lazy: bool = False) -> None:
        self.now_ms = START_MS
        self._lazy = lazy
        self.data: Data = {}
        self.changed_at: dict[Key, int] = {}
        self.commits = 0
        self._sessions: dict[int, ModelSession] = {}

    def session(self, number: int) -> "ModelSession":
        return self._sessions.setdefault(number, ModelSession(self))

    def disconnect(self, number: int) -> None:
        """Abort the transaction of a session, and forget the session."""
        self._sessions.pop(number, None)

    @property
    def snapshots(self) -> int:
        """Number of snapshots that all sessions need: one for each transaction, and one for each WATCH."""
        return sum((one.transaction is not None) + one.watches for one in self._sessions.values())

    def pass_time(self, passed_ms: int) -> None:
        """Let time pass."""
        self.now_ms += passed_ms
        if not self._lazy:
            self.expire(self.data)

    def is_due(self, value: Value | None) -> bool:
        """Return whether a value has expired."""
        return NO_DEADLINE < deadline_of(value) <= self.now_ms

    @property
    def lags(self) -> bool:
        """Whether anything is due that has not been deleted."""
        return any(map(self.is_due, self.data.values()))

    def expire(self, keys: Iterable[Key]) -> None:
        """Delete those of the keys that are due."""
        due = [key for key in keys if self.is_due(self.data.get(key))]
        if due:
            self.apply(Frame(dict.fromkeys(due)))

    def apply(self, frame: Frame) -> None:
        """Commit the writes of a frame; what is due by now is deleted."""
        self.commits += 1
        frame = replace(
            frame, writes={key: None if self.is_due(value) else value for key, value in frame.writes.items()}
        )
        after = frame.over(self.data)
        changed = {key for key in self.data if key not in after} | {key for key in frame.writes if key in after}
        self.data = after
        self.changed_at |= dict.fromkeys(changed, self.commits)

    def conflicts(self, transaction: Transaction) -> bool:
        """Return whether the outermost commit of a transaction would conflict now."""
        return any(self.changed_at.get(key, 0) > transaction.started_at for key in transaction.keys_read) or any(
            listed.of(self.data) != listed.of(transaction.snapshot) for listed in transaction.ranges_read
        )


class ModelSession:
    """A session of the model; see :class:`kvs.testing.calls.SessionDriver` for its calls."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.transaction: Transaction | None = None
        self.watched: dict[Key, int] = {}  # with the number of the last commit when it was first watched
        self.watches = 0

    # One call.

    def get(self, key: Key) -> Value | None:
        transaction = self.transaction
        if transaction is None:
            self._model.expire([key])
            return self._model.data.get(key)
        if key in transaction.top.writes:
            return transaction.top.writes[key]  # a pending write: nothing is observed
        if transaction.top.cleared:
            return None
        transaction.keys_read.add(key)
        value = transaction.snapshot.get(key)
        return None if transaction.internal and self._model.is_due(value) else value

    def put(self, key: Key, value: Value) -> None:
        self._write({key: value})

    def put_for(self, key: Key, string: bytes, lifetime_ms: int) -> None:
        self._write({key: with_deadline(string, self._model.now_ms + lifetime_ms)})

    def deadline(self, key: Key) -> int | None:
        value = self.get(key)
        return None if value is None else deadline_of(value)

    def delete(self, key: Key) -> bool:
        self._check_may_write()
        if self.get(key) is None:
            return False
        self._write({key: None})
        return True

    def update(self, key: Key, update: Update) -> tuple[Value | None, Value | None]:
        self._check_may_write()
        old = self.get(key)
        if update.kind in ("expire", "persist"):
            if old is None or (update.kind == "persist" and not deadline_of(old)):
                return old, old
            deadline_ms = NO_DEADLINE if update.kind == "persist" else self._model.now_ms + int(update.operand)
            expired = update.kind == "expire" and not int(update.operand)
            new = None if expired else with_deadline(old, deadline_ms)
            self._write({key: new})
            return old, new
        if update.kind == "remove":
            if old is not None:
                self._write({key: None})
            return old, None
        if update.kind == "put_if_absent" and old is not None:
            return old, old
        new = update.operand
        if update.kind == "append":
            new = with_string(old, string_of(old or b"") + update.operand)
        elif update.kind == "add":
            string = string_of(b"0" if old is None else old)
            if not string.isdigit():
                raise UsageError
            new = with_string(old, b"%d" % (int(string) + int(update.operand)))
        self._write({key: new})
        return old, new

    def put_all(self, entries: tuple[tuple[Key, Value], ...]) -> None:
        self._write(dict(entries))

    def keys(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        self._catch_up(Range(prefix, after, None), limit)
        page = Range(prefix, after, None).of(self._view())[:limit]
        self._observe(Range(prefix, after, page[-1] if len(page) == limit else None))
        return page

    def count(self, prefix: Key) -> int:
        whole = Range(prefix, b"", None)
        self._catch_up(whole)
        self._observe(whole)
        return len(whole.of(self._view()))

    def clear(self) -> None:
        self._check_may_write()
        transaction = self.transaction
        if transaction is None:
            self._model.apply(Frame(cleared=True))
        else:
            transaction.frames[-1] = Frame(cleared=True)

    # Several calls as one.

    def view(self, calls: tuple[Call, ...]) -> list[Outcome]:
        if self.transaction is not None:
            return [call.on(self) for call in calls]
        outcomes, _ = self._run_alone(lambda: [call.on(self) for call in calls])
        return outcomes

    def transact(self, calls: tuple[Call, ...]) -> list[Outcome]:
        if self.transaction is None:
            outcomes, transaction = self._run_alone(lambda: [call.on(self) for call in calls])
            self._apply(transaction)
            return outcomes
        frames = list(self.transaction.frames)
        self.transaction.frames.append(self.transaction.top.copy())
        try:
            outcomes = [call.on(self) for call in calls]
            frames[-1] = self.transaction.top
        finally:  # reads outlive a rollback
            self.transaction.frames = frames
        return outcomes

    def watch(self, keys: tuple[Key, ...]) -> None:
        if self.transaction is not None:
            raise UsageError
        new = set(keys) - set(self.watched)
        if new:
            self._model.expire(new)
            self.watched |= dict.fromkeys(new, self._model.commits)
            self.watches += 1

    def unwatch(self) -> None:
        self.watched = {}
        self.watches = 0

    def execute(self, calls: tuple[Call, ...]) -> Outcome:
        if self.transaction is not None:
            raise UsageError
        outcomes, transaction = self._run_alone(lambda: [call.outcome(self) for call in calls])
        watched = self.watched
        self.unwatch()
        self._model.expire(watched)
        if any(self._model.changed_at.get(key, 0) > at for key, at in watched.items()):
            self._model.expire(transaction.keys_read if transaction.changes else ())
            return CONFLICT
        self._apply(transaction)
        return outcomes

    # Transactions.

    def start(self, read_only: bool) -> None:
        transaction = self.transaction
        if self.watched or (transaction is not None and read_only and not transaction.read_only):
            raise UsageError
        if transaction is None:
            self._begin(read_only)
        else:
            transaction.frames.append(transaction.top.copy())

    def commit(self) -> Outcome:
        transaction = self._open()
        if len(transaction.frames) > 1:
            top = transaction.frames.pop()
            transaction.frames[-1] = top
            return None
        self.transaction = None
        for listed in () if transaction.read_only else transaction.ranges_read:
            self._model.expire(listed.of(self._model.data))
        if transaction.changes:
            self._model.expire(transaction.keys_read)
            if self._model.conflicts(transaction):
                return CONFLICT
        self._apply(transaction)
        return None

    def rollback(self) -> None:
        transaction = self._open()
        transaction.frames.pop()
        if not transaction.frames:
            self.transaction = None

    def reset(self) -> None:
        self.transaction = None
        self.unwatch()

    def depth(self) -> int:
        return 0 if self.transaction is None else len(self.transaction.frames)

    # Helpers.

    def _view(self) -> Data:
        return self._model.data if self.transaction is None else self.transaction.view()

    def _catch_up(self, listed: Range, limit: int | None = None) -> None:
        """Delete what is due in a range that is read next, or up to so many keys of it that are not due."""
        if self.transaction is None:
            keys = listed.of(self._model.data)
            live = [key for key in keys if not self._model.is_due(self._model.data[key])]
            last = live[limit - 1] if limit is not None and limit <= len(live) else None
            self._model.expire([key for key in keys if last is None or key < last])
        elif self.transaction.behind and not any(clean.covers(listed) for clean in self.transaction.clean):
            raise BehindError(listed)

    def _observe(self, listed: Range) -> None:
        if self.transaction is not None and not self.transaction.top.cleared:
            self.transaction.ranges_read.append(listed)

    def _check_may_write(self) -> None:
        if self.transaction is not None and self.transaction.read_only:
            raise UsageError

    def _write(self, writes: dict[Key, Value | None]) -> None:
        self._check_may_write()
        if self.transaction is None:
            self._model.apply(Frame(writes))
        else:
            self.transaction.top.writes.update(writes)

    def _begin(self, read_only: bool) -> None:
        model = self._model
        self.transaction = Transaction(dict(model.data), model.commits, read_only)

    def _run_alone(self, operation: Callable[[], T]) -> tuple[T, Transaction]:
        """Run an operation in a transaction of its own; return its result, and the transaction."""
        model = self._model
        clean: list[Range] = []
        while True:
            transaction = Transaction(
                dict(model.data), model.commits, read_only=False, internal=True, behind=model.lags, clean=clean
            )
            self.transaction = transaction
            try:
                return operation(), transaction
            except BehindError as error:
                listed = error.listed if len(clean) < MANY_RANGES else EVERYTHING
                model.expire(listed.of(model.data))
                clean.append(listed)
            finally:
                self.transaction = None

    def _apply(self, transaction: Transaction) -> None:
        """Apply the writes of a transaction that has one frame, and has ended."""
        if transaction.changes:
            self._model.expire(transaction.keys_read)
            self._model.apply(transaction.top)

    def _open(self) -> Transaction:
        if self.transaction is None:
            raise NoTransactionError
        return self.transaction
