"""The reference model: the outcome of every call of a session, computed in the simplest way.

It copies where kvs shares structure: START copies the whole data set, and a nested START the pending writes. Each key
has the number of the commit that last changed it.

The model has no limits and no protocol; other tests cover those.
"""

from dataclasses import dataclass, field, replace

from kvs.domain.errors import NoTransactionError, UsageError
from kvs.domain.values import Key, Value
from kvs.testing.calls import CONFLICT, Call, Outcome, Update

Data = dict[Key, Value]


@dataclass
class Range:
    """The keys with a prefix that come after ``after``, up to and including ``last`` (None: all of them)."""

    prefix: Key
    after: Key
    last: Key | None

    def of(self, data: Data) -> list[Key]:
        """Return the keys of a data set that lie in the range, in order."""
        return sorted(
            key
            for key in data
            if key.startswith(self.prefix) and key > self.after and (self.last is None or key <= self.last)
        )


@dataclass
class Frame:
    """An open frame.

    Attributes:
        writes: The pending writes, including those of the frames below; None is a tombstone.
        cleared: Whether every earlier key is deleted.
    """

    writes: dict[Key, Value | None] = field(default_factory=dict)
    cleared: bool = False

    def copy(self) -> "Frame":
        """Return the frame that START opens inside this one."""
        return replace(self, writes=dict(self.writes))

    def over(self, data: Data) -> Data:
        """Return the data after this frame has been applied to it."""
        merged = {**({} if self.cleared else data), **self.writes}
        return {key: value for key, value in merged.items() if value is not None}


@dataclass
class Transaction:
    """An open transaction: a copy of the data, its frames, and what it has read."""

    snapshot: Data
    started_at: int
    read_only: bool
    frames: list[Frame] = field(default_factory=lambda: [Frame()])
    keys_read: set[Key] = field(default_factory=set)
    ranges_read: list[Range] = field(default_factory=list)

    @property
    def top(self) -> Frame:
        """The innermost frame."""
        return self.frames[-1]

    def view(self) -> Data:
        """Return the data as this transaction sees it."""
        return self.top.over(self.snapshot)


class Model:
    """A server with any number of sessions, named by number; the first call of a number opens its session.

    Attributes:
        data: The committed data.
        changed_at: Number of the commit that last changed a key, for keys that ever changed.
        commits: Number of commits so far.
    """

    def __init__(self) -> None:
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

    def apply(self, frame: Frame) -> None:
        """Commit the writes of a frame."""
        self.commits += 1
        after = frame.over(self.data)
        changed = {key for key in self.data if key not in after} | {key for key in frame.writes if key in after}
        self.data = after
        self.changed_at |= dict.fromkeys(changed, self.commits)

    def conflicts(self, transaction: Transaction) -> bool:
        """Return whether the outermost commit of a transaction would conflict now."""
        if not (transaction.top.writes or transaction.top.cleared):
            return False
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
            return self._model.data.get(key)
        if key in transaction.top.writes:
            return transaction.top.writes[key]  # a pending write: nothing is observed
        if transaction.top.cleared:
            return None
        transaction.keys_read.add(key)
        return transaction.snapshot.get(key)

    def put(self, key: Key, value: Value) -> None:
        self._write({key: value})

    def delete(self, key: Key) -> bool:
        self._check_may_write()
        if self.get(key) is None:
            return False
        self._write({key: None})
        return True

    def update(self, key: Key, update: Update) -> tuple[Value | None, Value | None]:
        self._check_may_write()
        old = self.get(key)
        if update.kind == "remove":
            if old is not None:
                self._write({key: None})
            return old, None
        if update.kind == "put_if_absent" and old is not None:
            return old, old
        new = update.operand
        if update.kind == "append":
            new = (old or b"") + update.operand
        elif update.kind == "add":
            if old is not None and not old.isdigit():
                raise UsageError
            new = b"%d" % (int(old or 0) + int(update.operand))
        self._write({key: new})
        return old, new

    def put_all(self, entries: tuple[tuple[Key, Value], ...]) -> None:
        self._write(dict(entries))

    def keys(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        page = Range(prefix, after, None).of(self._view())[:limit]
        self._observe(Range(prefix, after, page[-1] if len(page) == limit else None))
        return page

    def count(self, prefix: Key) -> int:
        whole = Range(prefix, b"", None)
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
        return [call.on(self) for call in calls]

    def transact(self, calls: tuple[Call, ...]) -> list[Outcome]:
        alone = self.transaction is None
        if alone:
            self._begin(read_only=False)
        assert self.transaction is not None
        frames = list(self.transaction.frames)
        self.transaction.frames.append(self.transaction.top.copy())
        try:
            outcomes = [call.on(self) for call in calls]
            frames[-1] = self.transaction.top
        finally:  # reads outlive a rollback
            self.transaction.frames = frames
            if alone:
                self._end()
        return outcomes

    def watch(self, keys: tuple[Key, ...]) -> None:
        if self.transaction is not None:
            raise UsageError
        new = set(keys) - set(self.watched)
        if new:
            self.watched |= dict.fromkeys(new, self._model.commits)
            self.watches += 1

    def unwatch(self) -> None:
        self.watched = {}
        self.watches = 0

    def execute(self, calls: tuple[Call, ...]) -> Outcome:
        if self.transaction is not None:
            raise UsageError
        lost = any(self._model.changed_at.get(key, 0) > at for key, at in self.watched.items())
        self.unwatch()
        if lost:
            return CONFLICT
        self._begin(read_only=False)
        outcomes = [call.outcome(self) for call in calls]
        self._end()
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
        if self._model.conflicts(transaction):
            self.transaction = None
            return CONFLICT
        self._end()
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
        self.transaction = Transaction(dict(self._model.data), self._model.commits, read_only)

    def _end(self) -> None:
        """Apply the transaction, which has one frame, and end it."""
        frame = self._open().top
        self.transaction = None
        if frame.writes or frame.cleared:
            self._model.apply(frame)

    def _open(self) -> Transaction:
        if self.transaction is None:
            raise NoTransactionError
        return self.transaction
