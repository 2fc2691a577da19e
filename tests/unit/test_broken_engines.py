"""Engines that break their contract: it costs one transaction at most, and nobody but the log is told what happened."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from kvs.application.session import EngineSession
from kvs.domain.errors import InternalError, KvsError, OutcomeUnknownError, UsageError
from kvs.domain.transaction import CommitRequest, Committed, Conflict
from kvs.domain.values import Key, Value
from kvs.ports.storage import Snapshot
from tests.naive_storage import NaiveStorage
from tests.unit.sessions import Bench, asked

Behaviour = Callable[[], Any]


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
    def expired(self) -> bool:
        """See :class:`kvs.ports.storage.Snapshot`."""
        return self.faults["Snapshot.expired"]() if "Snapshot.expired" in self.faults else self.inner.expired

    def get(self, key: Key) -> Value | None:
        """See :class:`kvs.ports.storage.Snapshot`."""
        return self.faults["Snapshot.get"]() if "Snapshot.get" in self.faults else self.inner.get(key)

    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """See :class:`kvs.ports.storage.Snapshot`."""
        return (
            self.faults["Snapshot.scan"]() if "Snapshot.scan" in self.faults else self.inner.scan(prefix, after, limit)
        )

    def count(self, prefix: Key) -> int:
        """See :class:`kvs.ports.storage.Snapshot`."""
        return self.faults["Snapshot.count"]() if "Snapshot.count" in self.faults else self.inner.count(prefix)

    def close(self) -> None:
        """See :class:`kvs.ports.storage.Snapshot`."""
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

    def get(self, key: Key) -> Value | None:
        """See :class:`kvs.ports.storage.Storage`."""
        return self.faults["get"]() if "get" in self.faults else super().get(key)

    def put(self, key: Key, value: Value) -> None:
        """See :class:`kvs.ports.storage.Storage`."""
        if "put" in self.faults:
            self.faults["put"]()
        super().put(key, value)

    def delete(self, key: Key) -> bool:
        """See :class:`kvs.ports.storage.Storage`."""
        return self.faults["delete"]() if "delete" in self.faults else super().delete(key)

    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """See :class:`kvs.ports.storage.Storage`."""
        return self.faults["scan"]() if "scan" in self.faults else super().scan(prefix, after, limit)

    def count(self, prefix: Key) -> int:
        """See :class:`kvs.ports.storage.Storage`."""
        return self.faults["count"]() if "count" in self.faults else super().count(prefix)

    def snapshot(self) -> Any:
        """See :class:`kvs.ports.storage.Storage`."""
        if "snapshot" in self.faults:
            return self.faults["snapshot"]()
        self.snapshots.append(FaultySnapshot(super().snapshot(), self.faults))
        return self.snapshots[-1]

    def commit(self, request: CommitRequest) -> Committed | Conflict:
        """See :class:`kvs.ports.storage.Storage`."""
        for validation in request.validations:
            snapshot = validation.snapshot
            assert isinstance(snapshot, FaultySnapshot)
            validation.snapshot = snapshot.inner
        return self.faults["commit"]() if "commit" in self.faults else super().commit(request)

    def stats(self) -> Mapping[str, int]:
        """See :class:`kvs.ports.storage.Storage`."""
        return self.faults["stats"]() if "stats" in self.faults else super().stats()


Use = Callable[[EngineSession], object]

RAISES: list[tuple[str, Behaviour]] = [
    ("raises RuntimeError", raising(RuntimeError("secret value"))),
    ("raises KeyError", raising(KeyError("secret value"))),
    ("raises an error meant for clients", raising(UsageError("secret value"))),
    ("raises InternalError", raising(InternalError("secret value"))),
    ("raises MemoryError", raising(MemoryError())),
]


def wrong(*values: object) -> list[tuple[str, Behaviour]]:
    """Return behaviours that return what is not allowed."""
    return [(f"returns {value!r}", returning(value)) for value in values]


WRONG: dict[str, list[tuple[str, Behaviour]]] = {
    "get": wrong("text", 5, bytearray(b"v"), [], False),
    "put": [],
    "delete": wrong(None, 1, "yes", b"v"),
    "scan": wrong(None, (b"k",), [b"k", "k"], [None], {b"k"}, b"keys"),
    "count": wrong(None, "1", 2.5, [1]),
    "snapshot": wrong(None, 5, "snapshot", {}),
    "commit": [
        *wrong(None, True, b"committed", Committed),
        # The compiled build refuses already to make these, inside the engine.
        ("returns a conflict of no keys", lambda: Conflict(5, None)),  # type: ignore[arg-type]
        ("returns a conflict of text", lambda: Conflict(("k",), ())),  # type: ignore[arg-type]
    ],
    "stats": wrong(None, 5, {"keys": b"1"}, {"keys": float("nan")}, {b"keys": 1}, {"keys": None}),
}

READS: dict[str, Use] = {
    "get": lambda session: session.get(b"k"),
    "scan": lambda session: asked(session.keys, b"", b"", 10),
    "count": lambda session: asked(session.count, b""),
    "stats": lambda session: session.info(),
}
WRITES: dict[str, Use] = {
    "put": lambda session: session.put(b"k", b"v"),
    "delete": lambda session: session.delete(b"k"),
}


def cases(methods: Mapping[str, Use]) -> list[Any]:
    """Return every misbehaviour of each of these methods."""
    return [
        pytest.param(method, use, behaviour, id=f"{method} {name}")
        for method, use in methods.items()
        for name, behaviour in RAISES + WRONG[method]
    ]


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


@pytest.mark.parametrize(("method", "use", "behaviour"), cases(READS))
def test_outside_a_transaction_a_failed_read_is_internal(method: str, use: Use, behaviour: Behaviour) -> None:
    """Nothing was changed, and nothing is known."""
    setting = Setting()
    setting.engine.faults[method] = behaviour
    setting.fails(InternalError, use)
    setting.is_usable()


@pytest.mark.parametrize(("method", "use", "behaviour"), cases(WRITES))
def test_outside_a_transaction_a_failed_write_is_of_unknown_outcome(
    method: str, use: Use, behaviour: Behaviour
) -> None:
    """The engine may have done it before it failed."""
    setting = Setting()
    setting.engine.faults[method] = behaviour
    setting.fails(OutcomeUnknownError, use)
    setting.is_usable()


@pytest.mark.parametrize(("method", "use", "behaviour"), cases({"snapshot": lambda session: session.start()}))
def test_a_failed_start_opens_nothing(method: str, use: Use, behaviour: Behaviour) -> None:
    """Without a snapshot there is no transaction, and a PUT would not be undone."""
    setting = Setting()
    setting.engine.faults[method] = behaviour
    setting.fails(InternalError, use)
    assert setting.session.depth == 0
    setting.is_usable()


@pytest.mark.parametrize("behaviour", [raising(RuntimeError("no")), returning(True)], ids=["raises", "True"])
def test_a_start_on_a_snapshot_that_is_no_good_closes_it(behaviour: Behaviour) -> None:
    """Expired from the first moment, or not able to tell: START fails, and nothing stays open."""
    setting = Setting()
    setting.engine.faults["Snapshot.expired"] = behaviour
    setting.fails(InternalError, lambda session: session.start())
    setting.is_usable()


def count_beside_a_write(session: EngineSession) -> int:
    """Count where a pending write makes the count ask for a value."""
    session.put(b"k", b"")
    return asked(session.count, b"")


IN_TRANSACTION: dict[str, list[tuple[str, Use]]] = {
    "get": [
        ("GET", READS["get"]),
        ("DEL", WRITES["delete"]),
        ("COUNT", count_beside_a_write),
    ],
    "scan": [("KEYS", READS["scan"])],
    "count": [("COUNT", READS["count"])],
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("method", "use", "behaviour"),
    [
        pytest.param(f"Snapshot.{method}", use, behaviour, id=f"{verb}: Snapshot.{method} {name}")
        for method, uses in IN_TRANSACTION.items()
        for verb, use in uses
        for name, behaviour in RAISES + WRONG[method]
    ],
)
def test_inside_a_transaction_a_failed_read_ends_it(method: str, use: Use, behaviour: Behaviour, nested: bool) -> None:
    """What has been seen can no longer be trusted, so all of it is undone and the snapshot closed."""
    setting = Setting()
    setting.session.start()
    setting.session.put(b"p", b"pending")
    if nested:
        setting.session.start()
    setting.engine.faults[method] = behaviour
    setting.fails(InternalError, use)
    assert setting.session.totals.aborted == 1
    assert setting.session.get(b"p") is None
    setting.is_usable()


@pytest.mark.parametrize(("method", "use", "behaviour"), cases({"commit": lambda session: session.commit()}))
def test_a_failed_commit_is_of_unknown_outcome(method: str, use: Use, behaviour: Behaviour) -> None:
    """The transaction has ended, and its writes may have been applied."""
    setting = Setting()
    setting.session.start()
    setting.session.get(b"k")
    setting.session.put(b"k", b"new")
    setting.engine.faults[method] = behaviour
    setting.fails(OutcomeUnknownError, use)
    assert (setting.session.totals.committed, setting.session.totals.aborted) == (0, 1)
    setting.is_usable()


@pytest.mark.parametrize("leave", ["commit", "rollback", "close"])
def test_a_snapshot_that_fails_to_close_is_closed_once_all_the_same(leave: str) -> None:
    """The transaction is over, the client is told of its own outcome, and the log of the failure."""
    setting = Setting()
    setting.session.start()
    setting.session.put(b"k", b"new")
    setting.engine.faults["Snapshot.close"] = raising(RuntimeError("cannot close"))
    getattr(setting.session, leave)()
    assert setting.engine.get(b"k") == (b"new" if leave == "commit" else b"old")
    assert "engine_failed" in setting.bench.log.getvalue()
    setting.is_usable()


@pytest.mark.parametrize(
    "behaviour", [raising(RuntimeError("no")), returning(None), returning("yes")], ids=["raises", "None", "text"]
)
def test_asking_whether_a_snapshot_has_expired_never_fails(behaviour: Behaviour) -> None:
    """The server asks between commands, where there is nobody to answer: it gets yes or no."""
    setting = Setting()
    setting.session.start()
    setting.engine.faults["Snapshot.expired"] = behaviour
    assert setting.session.expired in (True, False)
    setting.session.close()
    setting.is_usable()


def test_what_the_engine_raised_is_in_the_log_and_values_are_not() -> None:
    """The log has the traceback, without the values of variables."""
    setting = Setting()
    setting.session.start()
    setting.session.put(b"k", b"top secret")
    setting.engine.faults["commit"] = raising(RuntimeError("disk on fire"))
    setting.fails(OutcomeUnknownError, lambda session: session.commit())
    assert "disk on fire" in setting.bench.log.getvalue()
    assert "top secret" not in setting.bench.log.getvalue()
