"""Engines that break their contract: it costs one transaction at most, and nobody but the log is told what happened."""

from collections.abc import Mapping
from typing import Any

import pytest

from kvs.application.session import EngineSession
from kvs.domain.commit import Committed, Conflict
from kvs.domain.errors import InternalError, OutcomeUnknownError, UsageError
from kvs.domain.updates import Replace
from tests.support.failing_engine import Setting, Use
from tests.support.scripted_storage import Behaviour, raising, returning
from tests.support.sessions import run

MEANT_FOR_CLIENTS = "raises an error meant for clients"

RAISES: list[tuple[str, Behaviour]] = [
    ("raises RuntimeError", raising(RuntimeError("secret value"))),
    ("raises KeyError", raising(KeyError("secret value"))),
    (MEANT_FOR_CLIENTS, raising(UsageError("secret value"))),
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
    "update": wrong(None, 5, (b"k",), [b"k", b"k"], (b"k", "k"), (1, None)),
    "clear": [],
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
    "scan": lambda session: run(session.keys(b"", b"", 10)),
    "count": lambda session: run(session.count(b"")),
    "stats": lambda session: session.info(),
}
WRITES: dict[str, Use] = {
    "put": lambda session: session.put(b"k", b"v"),
    "delete": lambda session: session.delete(b"k"),
    "update": lambda session: session.update(b"k", Replace(b"v")),
    "clear": lambda session: session.clear(),
}


def cases(methods: Mapping[str, Use]) -> list[Any]:
    """Return every misbehaviour of each of these methods."""
    return [
        pytest.param(method, use, behaviour, id=f"{method} {name}")
        for method, use in methods.items()
        for name, behaviour in RAISES + WRONG[method]
        if (method, name) != ("update", MEANT_FOR_CLIENTS)  # it might come from the change
    ]


@pytest.mark.parametrize(("method", "use", "behaviour"), cases(READS))
def test_failed_read_outside_a_transaction_is_internal(method: str, use: Use, behaviour: Behaviour) -> None:
    """Nothing was changed, and nothing is known."""
    setting = Setting()
    setting.engine.on[method] = behaviour
    setting.fails(InternalError, use)
    setting.is_usable()


@pytest.mark.parametrize(("method", "use", "behaviour"), cases(WRITES))
def test_failed_write_outside_a_transaction_is_of_unknown_outcome(method: str, use: Use, behaviour: Behaviour) -> None:
    """The engine may have done it before it failed."""
    setting = Setting()
    setting.engine.on[method] = behaviour
    setting.fails(OutcomeUnknownError, use)
    setting.is_usable()


@pytest.mark.parametrize("method", ["update", "clear"])
@pytest.mark.parametrize(
    "behaviour", [raising(RuntimeError("no")), returning(None), returning(True)], ids=["raises", "None", "True"]
)
def test_commit_that_failed_is_not_tried_again_by_an_update(method: str, behaviour: Behaviour) -> None:
    """Nor by a clear: it may have been applied, and would be once more."""
    setting = Setting()
    commits: list[str] = []

    def commit(_: object) -> object:
        commits.append(method)
        return behaviour()

    setting.engine.on["commit"] = commit
    setting.fails(OutcomeUnknownError, WRITES[method])
    assert commits == [method]
    setting.is_usable()


@pytest.mark.parametrize(("method", "use", "behaviour"), cases({"snapshot": lambda session: session.start()}))
def test_failed_start_opens_nothing(method: str, use: Use, behaviour: Behaviour) -> None:
    """Without a snapshot there is no transaction, and a PUT would not be undone."""
    setting = Setting()
    setting.engine.on[method] = behaviour
    setting.fails(InternalError, use)
    assert setting.session.depth == 0
    setting.is_usable()


@pytest.mark.parametrize("behaviour", [raising(RuntimeError("no")), returning(True)], ids=["raises", "True"])
def test_start_on_a_snapshot_that_is_no_good_closes_it(behaviour: Behaviour) -> None:
    """Expired from the first moment, or not able to tell: START fails, and nothing stays open."""
    setting = Setting()
    setting.engine.on["Snapshot.expired"] = behaviour
    setting.fails(InternalError, lambda session: session.start())
    setting.is_usable()


def count_beside_a_write(session: EngineSession) -> int:
    """Count where a pending write makes the count ask for a value."""
    session.put(b"k", b"")
    return run(session.count(b""))


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
def test_failed_read_in_a_transaction_ends_it(method: str, use: Use, behaviour: Behaviour, nested: bool) -> None:
    """What has been seen can no longer be trusted, so all of it is undone and the snapshot closed."""
    setting = Setting()
    setting.session.start()
    setting.session.put(b"p", b"pending")
    if nested:
        setting.session.start()
    setting.engine.on[method] = behaviour
    setting.fails(InternalError, use)
    assert setting.session.counters.aborted == 1
    assert setting.session.get(b"p") is None
    setting.is_usable()


@pytest.mark.parametrize(("method", "use", "behaviour"), cases({"commit": lambda session: session.commit()}))
def test_failed_commit_is_of_unknown_outcome(method: str, use: Use, behaviour: Behaviour) -> None:
    """The transaction has ended, and its writes may have been applied."""
    setting = Setting()
    setting.session.start()
    setting.session.get(b"k")
    setting.session.put(b"k", b"new")
    setting.engine.on[method] = behaviour
    setting.fails(OutcomeUnknownError, use)
    assert (setting.session.counters.committed, setting.session.counters.aborted) == (0, 1)
    setting.is_usable()


@pytest.mark.parametrize("leave", ["commit", "rollback", "close"])
def test_snapshot_that_fails_to_close_is_closed_once_all_the_same(leave: str) -> None:
    """The transaction is over, the client is told of its own outcome, and the log of the failure."""
    setting = Setting()
    setting.session.start()
    setting.session.put(b"k", b"new")
    setting.engine.on["Snapshot.close"] = raising(RuntimeError("cannot close"))
    getattr(setting.session, leave)()
    assert setting.engine.get(b"k") == (b"new" if leave == "commit" else b"old")
    assert "engine_failed" in setting.bench.log.getvalue()
    setting.is_usable()


@pytest.mark.parametrize(
    "behaviour", [raising(RuntimeError("no")), returning(None), returning("yes")], ids=["raises", "None", "text"]
)
def test_expired_never_fails(behaviour: Behaviour) -> None:
    """The server asks between commands, where there is nobody to answer: it gets yes or no."""
    setting = Setting()
    setting.session.start()
    setting.engine.on["Snapshot.expired"] = behaviour
    assert setting.session.expired in (True, False)
    setting.session.close()
    setting.is_usable()


def test_log_has_what_the_engine_raised_and_no_values() -> None:
    """The log has the traceback, without the values of variables."""
    setting = Setting()
    setting.session.start()
    setting.session.put(b"k", b"top secret")
    setting.engine.on["commit"] = raising(RuntimeError("disk on fire"))
    setting.fails(OutcomeUnknownError, lambda session: session.commit())
    assert "disk on fire" in setting.bench.log.getvalue()
    assert "top secret" not in setting.bench.log.getvalue()
