"""An engine that does what a test says where it says something, and else what it should."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from kvs.domain.commit import CommitRequest, Committed, Conflict, ReadSet
from kvs.domain.updates import Update, Updated
from kvs.domain.values import Key, Value
from kvs.override import override
from kvs.ports.storage import Snapshot, Storage
from tests.support.naive_storage import NaiveStorage

Behaviour = Callable[..., Any]
"""Is given the arguments of the call, and returns what that is to return, or :data:`GO_ON`."""

GO_ON: Final = object()
"""Returned by a behaviour: the call goes on as usual."""


def raising(error: Exception) -> Behaviour:
    """Return a behaviour that raises."""

    def behave(*_: object) -> Any:
        raise error

    return behave


def returning(value: object) -> Behaviour:
    """Return a behaviour that returns something."""
    return lambda *_: value


def each(values: Iterable[object]) -> Behaviour:
    """Return a behaviour that returns the next of these, or raises it if it is an error, and then goes on."""
    left = iter(values)

    def behave(*_: object) -> Any:
        value = next(left, GO_ON)
        if isinstance(value, Exception):
            raise value
        return value

    return behave


class Script:
    """What a storage and its snapshots do in place of what they should.

    Attributes:
        on: Behaviours by the name of the method, such as ``commit`` and ``Snapshot.get``.
    """

    def __init__(self, on: Mapping[str, Behaviour]) -> None:
        self.on = dict(on)

    def play(self, name: str, usual: Behaviour, *arguments: object) -> Any:
        """Return what a call comes to."""
        answer = self.on[name](*arguments) if name in self.on else GO_ON
        return usual(*arguments) if answer is GO_ON else answer


class ScriptedSnapshot(Snapshot):
    """A snapshot of such an engine.

    Attributes:
        inner: The real one.
        closed: How often it has been closed.
    """

    def __init__(self, inner: Snapshot, script: Script) -> None:
        self.inner = inner
        self.closed = 0
        self._play = script.play

    @property
    @override
    def expired(self) -> bool:
        expired: bool = self._play("Snapshot.expired", lambda: self.inner.expired)
        return expired

    @override
    def get(self, key: Key) -> Value | None:
        value: Value | None = self._play("Snapshot.get", self.inner.get, key)
        return value

    @override
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        page: list[Key] = self._play("Snapshot.scan", self.inner.scan, prefix, after, limit)
        return page

    @override
    def count(self, prefix: Key) -> int:
        count: int = self._play("Snapshot.count", self.inner.count, prefix)
        return count

    @override
    def close(self) -> None:
        self.closed += 1
        self.inner.close()
        self._play("Snapshot.close", lambda: None)


class ScriptedStorage(NaiveStorage):
    """The engine.

    Args:
        on: What it does in place of what it should; see :class:`Script`. More can be said later.

    Attributes:
        on: The same.
        snapshots: All that were taken.
    """

    def __init__(self, on: Mapping[str, Behaviour] | None = None) -> None:
        super().__init__()
        self._script = Script(on or {})
        self._play = self._script.play
        self.on = self._script.on
        self.snapshots: list[ScriptedSnapshot] = []

    @override
    def get(self, key: Key) -> Value | None:
        value: Value | None = self._play("get", super().get, key)
        return value

    @override
    def put(self, key: Key, value: Value) -> None:
        self._play("put", super().put, key, value)

    @override
    def put_all(self, keys: list[Key], values: list[Value]) -> None:
        self._play("put_all", partial(Storage.put_all, self), keys, values)  # by a commit, as by default

    @override
    def delete(self, key: Key) -> bool:
        present: bool = self._play("delete", super().delete, key)
        return present

    @override
    def update(self, key: Key, update: Update) -> Updated:
        updated: Updated = self._play("update", super().update, key, update)
        return updated

    @override
    def clear(self) -> None:
        self._play("clear", super().clear)

    @override
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        page: list[Key] = self._play("scan", super().scan, prefix, after, limit)
        return page

    @override
    def count(self, prefix: Key) -> int:
        count: int = self._play("count", super().count, prefix)
        return count

    @override
    def snapshot(self) -> Any:
        return self._play("snapshot", self._take)

    @override
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        answer: Committed | Conflict = self._play("commit", self._commit, request)
        return answer

    @override
    def expire(self, now_ms: int, max_steps: int) -> list[Key]:
        keys: list[Key] = self._play("expire", super().expire, now_ms, max_steps)
        return keys

    @override
    def earliest_deadline_ms(self) -> int:
        earliest_ms: int = self._play("earliest_deadline_ms", super().earliest_deadline_ms)
        return earliest_ms

    @property
    @override
    def horizon_ms(self) -> int:
        horizon_ms: int = self._play("horizon_ms", lambda: super(ScriptedStorage, self).horizon_ms)
        return horizon_ms

    @override
    def sync(self) -> None:
        self._play("sync", super().sync)

    @override
    def stats(self) -> Mapping[str, int]:
        figures: Mapping[str, int] = self._play("stats", super().stats)
        return figures

    def _take(self) -> ScriptedSnapshot:
        self.snapshots.append(ScriptedSnapshot(super().snapshot(), self._script))
        return self.snapshots[-1]

    def _commit(self, request: CommitRequest) -> Committed | Conflict:
        inner = []
        for reads in request.reads:
            assert isinstance(reads.snapshot, ScriptedSnapshot)
            inner.append(ReadSet(reads.snapshot.inner, reads.keys, reads.ranges))
        return super().commit(CommitRequest(tuple(inner), request.writes, request.clears))
