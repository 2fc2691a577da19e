"""An engine that misbehaves where a test says so and else does what it should, and a session over it."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from kvs.application.session import EngineSession
from kvs.domain.commit import CommitRequest, Committed, Conflict
from kvs.domain.errors import KvsError
from kvs.domain.updates import Update, Updated
from kvs.domain.values import Key, Value
from kvs.override import override
from kvs.ports.storage import Snapshot
from tests.support.naive_storage import NaiveStorage
from tests.support.sessions import Bench

Behaviour = Callable[[], Any]
Use = Callable[[EngineSession], object]


def raising(error: Exception) -> Behaviour:
    """Return a behaviour that raises."""

    def behave() -> Any:
        raise error

    return behave


def returning(value: object) -> Behaviour:
    """Return a behaviour that returns something."""
    return lambda: value


class FaultySnapshot(Snapshot):
    """Does what the test says where it says something, and else what it should."""

    def __init__(self, inner: Snapshot, faults: dict[str, Behaviour]) -> None:
        self.inner = inner
        self.faults = faults
        self.closed = 0

    @property
    @override
    def expired(self) -> bool:
        return self.faults["Snapshot.expired"]() if "Snapshot.expired" in self.faults else self.inner.expired

    @override
    def get(self, key: Key) -> Value | None:
        return self.faults["Snapshot.get"]() if "Snapshot.get" in self.faults else self.inner.get(key)

    @override
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return (
            self.faults["Snapshot.scan"]() if "Snapshot.scan" in self.faults else self.inner.scan(prefix, after, limit)
        )

    @override
    def count(self, prefix: Key) -> int:
        return self.faults["Snapshot.count"]() if "Snapshot.count" in self.faults else self.inner.count(prefix)

    @override
    def close(self) -> None:
        self.closed += 1
        self.inner.close()
        if "Snapshot.close" in self.faults:
            self.faults["Snapshot.close"]()


class FaultyStorage(NaiveStorage):
    """Does what the test says where it says something, and else what it should.

    Attributes:
        faults: What to do instead, by the name of the method.
        snapshots: All that were taken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.faults: dict[str, Behaviour] = {}
        self.snapshots: list[FaultySnapshot] = []

    @override
    def get(self, key: Key) -> Value | None:
        return self.faults["get"]() if "get" in self.faults else super().get(key)

    @override
    def put(self, key: Key, value: Value) -> None:
        if "put" in self.faults:
            self.faults["put"]()
        super().put(key, value)

    @override
    def delete(self, key: Key) -> bool:
        return self.faults["delete"]() if "delete" in self.faults else super().delete(key)

    @override
    def update(self, key: Key, update: Update) -> Updated:
        return self.faults["update"]() if "update" in self.faults else super().update(key, update)

    @override
    def clear(self) -> None:
        if "clear" in self.faults:
            self.faults["clear"]()
        super().clear()

    @override
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return self.faults["scan"]() if "scan" in self.faults else super().scan(prefix, after, limit)

    @override
    def count(self, prefix: Key) -> int:
        return self.faults["count"]() if "count" in self.faults else super().count(prefix)

    @override
    def snapshot(self) -> Any:
        if "snapshot" in self.faults:
            return self.faults["snapshot"]()
        self.snapshots.append(FaultySnapshot(super().snapshot(), self.faults))
        return self.snapshots[-1]

    @override
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        for reads in request.reads:
            snapshot = reads.snapshot
            assert isinstance(snapshot, FaultySnapshot)
            reads.snapshot = snapshot.inner
        return self.faults["commit"]() if "commit" in self.faults else super().commit(request)

    @override
    def stats(self) -> Mapping[str, int]:
        return self.faults["stats"]() if "stats" in self.faults else super().stats()


class Setting:
    """A session over an engine that has a key, and can be told to misbehave."""

    def __init__(self) -> None:
        self.engine = FaultyStorage()
        self.bench = Bench(self.engine)
        self.engine.put(b"k", b"old")
        self.session = self.bench.open()

    def fails(self, expected: type[KvsError], use: Use) -> None:
        """Assert how a command fails, what the client is told, and what is logged."""
        with pytest.raises(expected) as caught:
            use(self.session)
        assert type(caught.value) is expected
        assert "secret value" not in str(caught.value)
        assert caught.value.__cause__ is None
        (event,) = (json.loads(line) for line in self.bench.log.getvalue().splitlines())
        assert event["event"] == "engine_failed"
        assert event["level"] == "error"
        assert event["session"] == self.session.id

    def is_usable(self) -> None:
        """Assert that the session is outside any transaction, owes nothing, and works once the engine does."""
        self.engine.faults.clear()
        assert self.session.depth == 0
        assert not self.session.expired
        assert [snapshot.closed for snapshot in self.engine.snapshots] == [1] * len(self.engine.snapshots)
        assert self.bench.budget.used_bytes == 0
        self.session.start()
        self.session.put(b"k", b"new")
        assert isinstance(self.session.commit(), Committed)
        assert self.session.get(b"k") == b"new"
        self.session.close()
        self.bench.assert_nothing_is_held()
