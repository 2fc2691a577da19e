"""Checks the results of third-party engines.

Third-party engines in plain Python are wrapped: a result of the wrong type raises ``TypeError`` here, in both builds,
and is then handled like a failure of the engine. Built-in engines are not wrapped.
"""

from collections.abc import Callable, Mapping
from typing import final

from kvs.domain.commit import CommitRequest, Committed, Conflict, KeyRange, ReadSet
from kvs.domain.updates import Update, Updated
from kvs.domain.values import Key, Record, Value
from kvs.override import override
from kvs.ports.storage import Snapshot, Storage


@final
class CheckedSnapshot(Snapshot):
    """A snapshot of a third-party engine."""

    __slots__ = ("inner",)

    def __init__(self, inner: Snapshot) -> None:
        self.inner = inner

    @property
    @override
    def expired(self) -> bool:
        return _flag(self.inner.expired)

    @override
    def get(self, key: Key) -> Value | None:
        return _value(self.inner.get(key))

    @override
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return _page(self.inner.scan(prefix, after, limit))

    @override
    def count(self, prefix: Key) -> int:
        return _number(self.inner.count(prefix))

    @override
    def close(self) -> None:
        self.inner.close()


@final
class CheckedStorage(Storage):
    """Wraps a third-party engine."""

    def __init__(self, inner: Storage) -> None:
        self._inner = inner
        self._blocking = _flag(inner.blocking)

    @property
    @override
    def blocking(self) -> bool:
        return self._blocking

    @override
    def snapshot(self) -> CheckedSnapshot:
        snapshot = self._inner.snapshot()
        # isinstance may be wrong for another port: compiled, they share a cache.
        if Snapshot not in type(snapshot).__mro__:
            raise _wrong(snapshot, "a kvs.ports.storage.Snapshot")
        return CheckedSnapshot(snapshot)

    @override
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        inner: list[ReadSet] = []
        for reads in request.reads:
            snapshot = reads.snapshot
            if not isinstance(snapshot, CheckedSnapshot):
                raise _wrong(snapshot, "a snapshot of this engine")
            inner.append(ReadSet(snapshot.inner, reads.keys, reads.ranges))
        result: object = self._inner.commit(CommitRequest(tuple(inner), request.writes, request.clears))
        if isinstance(result, Committed):
            _number(result.version)
            return result
        if not isinstance(result, Conflict):
            raise _wrong(result, "Committed or Conflict")
        _page([*result.keys])
        for each in result.ranges:
            if type(each) is not KeyRange:
                raise _wrong(each, "KeyRange")
        return result

    @override
    def stats(self) -> Mapping[str, int]:
        figures: object = self._inner.stats()
        if isinstance(figures, Mapping) and all(type(k) is str and type(v) is int for k, v in figures.items()):
            return dict(figures)
        raise TypeError("the engine's stats are not a mapping of names to whole numbers")

    @override
    def close(self) -> None:
        self._inner.close()

    @override
    def get(self, key: Key) -> Value | None:
        return _value(self._inner.get(key))

    @override
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return _page(self._inner.scan(prefix, after, limit))

    @override
    def count(self, prefix: Key) -> int:
        return _number(self._inner.count(prefix))

    @override
    def put(self, key: Key, value: Value) -> None:
        self._inner.put(key, value)

    @override
    def put_all(self, keys: list[Key], values: list[Value]) -> None:
        self._inner.put_all(keys, values)

    @override
    def delete(self, key: Key) -> bool:
        return _flag(self._inner.delete(key))

    @override
    def update(self, key: Key, update: Update) -> Updated:
        pair: object = self._inner.update(key, update)
        if isinstance(pair, tuple) and len(pair) == 2:
            return _value(pair[0]), _value(pair[1])
        raise _wrong(pair, "two values")

    @override
    def clear(self) -> None:
        self._inner.clear()

    @override
    def expire(self, now_ms: int, max_steps: int) -> list[Key]:
        return _page(self._inner.expire(now_ms, max_steps))

    @override
    def earliest_deadline_ms(self) -> int:
        return _number(self._inner.earliest_deadline_ms())

    @property
    @override
    def horizon_ms(self) -> int:
        return _number(self._inner.horizon_ms)

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
        return _number(self._inner.seal())

    @property
    @override
    def durable_mark(self) -> int:
        return _number(self._inner.durable_mark)

    @property
    @override
    def in_flight_bytes(self) -> int:
        return _number(self._inner.in_flight_bytes)

    @override
    def when_durable(self, wake: Callable[[], None]) -> None:
        self._inner.when_durable(wake)

    @property
    @override
    def has_work(self) -> bool:
        return _flag(self._inner.has_work)

    @override
    def check(self) -> None:
        self._inner.check()

    @override
    def retire(self) -> None:
        self._inner.retire()


def _wrong(result: object, expected: str) -> TypeError:
    return TypeError(f"the engine returned {type(result).__name__}, not {expected}")


def _value(value: object) -> Value | None:
    if value is None or type(value) is bytes:
        return value
    if isinstance(value, Record) and type(value.payload) is bytes and type(value.deadline_ms) is int:
        return value
    raise _wrong(value, "bytes, a kvs.domain.values.Record or None")


def _flag(flag: object) -> bool:
    if isinstance(flag, bool):
        return flag
    raise _wrong(flag, "bool")


def _number(number: object) -> int:
    if isinstance(number, int):
        return number
    raise _wrong(number, "int")


def _page(page: object) -> list[Key]:
    if isinstance(page, list) and all(type(key) is bytes for key in page):
        return page
    raise _wrong(page, "a list of bytes")
