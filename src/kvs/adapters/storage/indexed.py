"""An index of deadlines in memory, for engines that store records and have no such index themselves.

It is filled by a scan at the start, and learns of deadlines from the calls that pass. Of a blocking engine several
threads may write a key at once, and nobody knows in which order. So a deadline is noted before the engine gets it, and
removed only by a call that was alone with its key; an index may then have a deadline that is not stored, but never
lacks one that is. Whether a record is due is read from the engine.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from threading import Lock
from typing import Final, final

from kvs.adapters.storage.deadlines import DeadlineIndex
from kvs.domain.commit import CommitRequest, Committed, Conflict, ReadSet
from kvs.domain.errors import InternalError, KvsError, OutcomeUnknownError
from kvs.domain.updates import Expire, Update, Updated
from kvs.domain.values import NEVER_MS, NO_DEADLINE, TOMBSTONE, Key, Value, Write, deadline_of
from kvs.override import override
from kvs.ports.storage import Snapshot, Storage

PAGE_KEYS: Final = 1000
"""Keys scanned at a time."""


def keeps_deadlines(storage: Storage) -> bool:
    """Return whether an engine has an index of its own: it then overrides ``expire``."""
    return any("expire" in vars(kind) for kind in type(storage).__mro__ if kind is not Storage)


@final
class _Writing:
    """The calls under way that write a key.

    Attributes:
        calls: How many there are.
        alone: Whether there has been only one.
        before_ms: The deadline in the index before them.
        first_ms: The earliest deadline that they may store.
    """

    __slots__ = ("alone", "before_ms", "calls", "first_ms")

    def __init__(self, before_ms: int) -> None:
        self.calls = 0
        self.alone = True
        self.before_ms = before_ms
        self.first_ms = NEVER_MS


@final
class _Noting:
    """An update that notes the deadline of what it returns."""

    __slots__ = ("_key", "_storage", "_update")

    def __init__(self, storage: "IndexedStorage", key: Key, update: Update) -> None:
        self._storage = storage
        self._key = key
        self._update = update

    def __call__(self, old: Value | None) -> Write | None:
        new = self._update(old)
        self._storage.note(self._key, deadline_of(new))
        return new


@final
class IndexedStorage(Storage):
    """Wraps an engine.

    Args:
        inner: The engine.
    """

    def __init__(self, inner: Storage) -> None:
        self._inner = inner
        self._blocking = inner.blocking
        self._lock = Lock()  # of all that follows
        self._deadlines: dict[Key, int] = {}
        self._index = DeadlineIndex(self._deadline_of)
        self._writing: dict[Key, _Writing] = {}
        self._clearing: dict[int, set[Key]] = {}  # for each clear under way, the keys written meanwhile
        self._clears = 0
        self._taken: dict[Key, int] = {}  # what is just being deleted, with its deadlines in the index before
        self._deleting_ms = NEVER_MS  # the earliest of these
        self._one_at_a_time = Lock()
        self._fill()

    @property
    @override
    def blocking(self) -> bool:
        return self._blocking

    @override
    def snapshot(self) -> Snapshot:
        return self._inner.snapshot()

    @override
    def get(self, key: Key) -> Value | None:
        return self._inner.get(key)

    @override
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return self._inner.scan(prefix, after, limit)

    @override
    def count(self, prefix: Key) -> int:
        return self._inner.count(prefix)

    @override
    def put(self, key: Key, value: Value) -> None:
        deadline_ms = deadline_of(value)
        if not deadline_ms and key not in self._deadlines:
            self._inner.put(key, value)
            return
        writes = {key: deadline_ms}
        self._begin(writes)
        try:
            self._inner.put(key, value)
        except BaseException as error:
            self._end(writes, error)
            raise
        self._end(writes)

    @override
    def delete(self, key: Key) -> bool:
        if key not in self._deadlines:
            return self._inner.delete(key)
        writes = {key: NO_DEADLINE}
        self._begin(writes)
        try:
            present = self._inner.delete(key)
        except BaseException as error:
            self._end(writes, error)
            raise
        self._end(writes)
        return present

    @override
    def update(self, key: Key, update: Update) -> Updated:
        self._begin({key: NO_DEADLINE})
        try:
            old, new = self._inner.update(key, _Noting(self, key, update))
        except BaseException as error:
            self._end({key: NO_DEADLINE}, error)
            raise
        self._end({key: deadline_of(new)})
        return old, new

    @override
    def clear(self) -> None:
        clear = self._begin_clear()
        try:
            self._inner.clear()
        except BaseException:
            self._end_clear(clear, cleared=False)
            raise
        self._end_clear(clear, cleared=True)

    @override
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        writes: dict[Key, int] = {}
        for key, pending in request.writes.items():
            deadline_ms = deadline_of(pending)
            if deadline_ms or key in self._deadlines:
                writes[key] = deadline_ms
        clear = self._begin_clear() if request.clears else None
        self._begin(writes)
        cleared = False
        try:
            result = self._inner.commit(request)
            cleared = isinstance(result, Committed)
        except BaseException as error:
            self._end(writes, error)
            raise
        finally:
            if clear is not None:
                self._end_clear(clear, cleared=cleared)
        self._end(writes, None if cleared else KvsError())
        return result

    @override
    def expire(self, now_ms: int, max_steps: int) -> list[Key]:
        with self._one_at_a_time:
            taken = self._take(now_ms, max_steps)
            if not taken:
                return []
            try:
                expired, later = self._delete_due(list(taken), now_ms)
            except BaseException:
                self._end(taken, OutcomeUnknownError())
                raise
            finally:
                self._taken = {}
                self._deleting_ms = NEVER_MS
            self._end({key: later.get(key, NO_DEADLINE) for key in taken})
            return expired

    @override
    def due_among(self, keys: list[Key], now_ms: int) -> list[Key]:
        with self._lock:
            deadlines, taken = self._deadlines, self._taken
            return [key for key in keys if key in taken or NO_DEADLINE < deadlines.get(key, NO_DEADLINE) <= now_ms]

    @override
    def earliest_deadline_ms(self) -> int:
        with self._lock:
            return min(self._deleting_ms, self._index.earliest_ms())

    @property
    @override
    def horizon_ms(self) -> int:
        return self._inner.horizon_ms

    @property
    @override
    def clock(self) -> Callable[[], float] | None:
        return self._inner.clock

    @override
    def note_horizon(self, now_ms: int) -> None:
        self._inner.note_horizon(now_ms)

    @override
    def sync(self) -> None:
        self._inner.sync()

    @override
    def seal(self) -> int:
        return self._inner.seal()

    @property
    @override
    def durable_mark(self) -> int:
        return self._inner.durable_mark

    @property
    @override
    def in_flight_bytes(self) -> int:
        return self._inner.in_flight_bytes

    @override
    def when_durable(self, wake: Callable[[], None]) -> None:
        self._inner.when_durable(wake)

    @property
    @override
    def has_work(self) -> bool:
        return self._inner.has_work

    @override
    def check(self) -> None:
        self._inner.check()

    @override
    def retire(self) -> None:
        self._inner.retire()

    @override
    def stats(self) -> Mapping[str, int]:
        return {**self._inner.stats(), "deadlines": self._index.count}

    @override
    def close(self) -> None:
        self._inner.close()

    def note(self, key: Key, deadline_ms: int) -> None:
        """Note a deadline that a call under way may store."""
        if deadline_ms:
            with self._lock:
                self._note(key, deadline_ms)

    # The deletion of what is due.

    def _take(self, now_ms: int, max_steps: int) -> dict[Key, int]:
        """Take keys that may be due out of the index; return them with their deadlines there."""
        with self._lock:
            taken = {key: self._deadlines.pop(key) for key in self._index.take(now_ms, max_steps)}
            self._taken = taken
            self._deleting_ms = min(taken.values(), default=NEVER_MS)
            for key in taken:
                writing = self._writing.get(key)
                if writing is not None and writing.first_ms < NEVER_MS:
                    self._set(key, writing.first_ms)
            self._add_calls(dict.fromkeys(taken, NO_DEADLINE))
            return taken

    def _delete_due(self, keys: list[Key], now_ms: int) -> tuple[list[Key], dict[Key, int]]:
        """Delete those keys whose records are due; return them, and the deadlines of the others."""
        later: dict[Key, int] = {}
        with closing(self._inner.snapshot()) as snapshot:
            due: list[Key] = []
            for key in keys:
                deadline_ms = deadline_of(snapshot.get(key))
                if deadline_ms > now_ms:
                    later[key] = deadline_ms
                elif deadline_ms:
                    due.append(key)
            reads = ReadSet(snapshot, due, ())
            if not due or isinstance(
                self._inner.commit(CommitRequest((reads,), dict.fromkeys(due, TOMBSTONE))), Committed
            ):
                return due, later
        expired: list[Key] = []
        for key in keys:  # one by one, as others write some of them
            old, new = self._inner.update(key, Expire(now_ms))
            if old is not None and new is None:
                expired.append(key)
            elif deadline_of(new):
                later[key] = deadline_of(new)
        return expired, later

    # The index.

    def _fill(self) -> None:
        with closing(self._inner.snapshot()) as snapshot:
            after = b""
            while page := snapshot.scan(b"", after, PAGE_KEYS):
                for key in page:
                    deadline_ms = deadline_of(snapshot.get(key))
                    if deadline_ms:
                        self._deadlines[key] = deadline_ms
                after = page[-1]
        self._index.begin(self._inner.horizon_ms)
        for key, deadline_ms in self._deadlines.items():
            self._index.add(key, deadline_ms)

    def _begin(self, writes: Mapping[Key, int]) -> None:
        """Begin a call that may store these deadlines."""
        with self._lock:
            self._add_calls(writes)

    def _end(self, writes: Mapping[Key, int], error: BaseException | None = None) -> None:
        """End a call.

        Args:
            writes: The deadlines that are stored now, or may be.
            error: It has failed. After most of the errors for clients nothing was stored.
        """
        unknown = error is not None and (
            not isinstance(error, KvsError) or isinstance(error, OutcomeUnknownError | InternalError)
        )
        with self._lock:
            for key, deadline_ms in writes.items():
                writing = self._writing[key]
                writing.calls -= 1
                if not writing.calls:
                    del self._writing[key]
                if writing.alone and not unknown:
                    self._set(key, deadline_ms if error is None else writing.before_ms)
                elif deadline_ms and (unknown or error is None):
                    self._note(key, deadline_ms)

    def _begin_clear(self) -> int:
        with self._lock:
            self._clears += 1
            self._clearing[self._clears] = set(self._writing)
            return self._clears

    def _end_clear(self, clear: int, *, cleared: bool) -> None:
        with self._lock:
            written = self._clearing.pop(clear)
            if cleared:
                before, self._deadlines = self._deadlines, {}
                self._index.clear()
                for key in written:
                    self._set(key, before.get(key, NO_DEADLINE))

    def _add_calls(self, writes: Mapping[Key, int]) -> None:
        for key, deadline_ms in writes.items():
            writing = self._writing.get(key)
            if writing is None:
                writing = self._writing[key] = _Writing(self._deadlines.get(key, NO_DEADLINE))
            else:
                writing.alone = False
            writing.calls += 1
            if deadline_ms:
                self._note(key, deadline_ms)
        for written in self._clearing.values():
            written.update(writes)

    def _note(self, key: Key, deadline_ms: int) -> None:
        """Note a deadline that may be stored."""
        writing = self._writing.get(key)
        if writing is not None:
            writing.first_ms = min(writing.first_ms, deadline_ms)
        if deadline_ms < self._deadlines.get(key, NEVER_MS):
            self._set(key, deadline_ms)

    def _set(self, key: Key, deadline_ms: int) -> None:
        old_ms = self._deadlines.get(key, NO_DEADLINE)
        if deadline_ms == NO_DEADLINE:
            self._deadlines.pop(key, None)
        else:
            self._deadlines[key] = deadline_ms
        self._index.replace(key, old_ms, deadline_ms)

    def _deadline_of(self, key: Key) -> int:
        return self._deadlines.get(key, NO_DEADLINE)
