"""Engines that break their contract in the middle of several calls that are one: nothing is left open by it."""

from functools import partial

import pytest

from kvs.application.operations import find_keys
from kvs.domain.errors import InternalError, OutcomeUnknownError
from kvs.ports.session import Session, Steps
from tests.support.failing_engine import Setting, Use
from tests.support.scripted_storage import Behaviour, raising, returning
from tests.support.sessions import is_watching, run


def read_and_write(session: Session) -> Steps[None]:
    """Read a key and write another, and list what there is."""
    session.put(b"mine", session.get(b"k") or b"")
    yield from session.keys(b"", b"", 10)
    yield from session.count(b"")


OPERATIONS: dict[str, Use] = {
    "transact": lambda session: run(session.transact(read_and_write)),
    "execute": lambda session: run(session.execute(read_and_write)),
}
FAULTS = {
    "snapshot": InternalError,
    "Snapshot.expired": InternalError,
    "Snapshot.get": InternalError,
    "Snapshot.scan": InternalError,
    "Snapshot.count": InternalError,
    "commit": OutcomeUnknownError,
}


@pytest.mark.parametrize("method", FAULTS)
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("watching", [False, True])
@pytest.mark.parametrize("behaviour", [raising(RuntimeError("no")), returning("no")], ids=["raises", "text"])
def test_operation_that_fails_leaves_nothing_behind(
    method: str, name: str, watching: bool, behaviour: Behaviour
) -> None:
    """Whichever call it was: there is no transaction, nothing is watched, and every snapshot is closed."""
    setting = Setting()
    if watching:
        setting.session.watch([b"k", b"l"])
    setting.engine.on[method] = behaviour
    setting.fails(FAULTS[method], OPERATIONS[name])
    assert setting.engine.get(b"mine") is None
    setting.session.unwatch()
    setting.is_usable()


@pytest.mark.parametrize("method", ["Snapshot.get", "Snapshot.scan", "Snapshot.count"])
def test_operation_that_fails_in_a_transaction_ends_it(method: str) -> None:
    """With the frame it was in and all that was pending."""
    setting = Setting()
    setting.session.start()
    setting.session.put(b"p", b"pending")
    setting.engine.on[method] = raising(RuntimeError("no"))
    setting.fails(InternalError, OPERATIONS["transact"])
    assert setting.session.counters.aborted == 1
    assert setting.engine.get(b"p") is None
    setting.is_usable()


def test_search_that_fails_leaves_nothing_behind() -> None:
    """An operation that only reads has a snapshot of its own."""
    setting = Setting()
    setting.engine.on["Snapshot.scan"] = raising(RuntimeError("no"))
    setting.fails(InternalError, lambda session: run(session.view(partial(find_keys, b"", None, 5))))
    setting.is_usable()


@pytest.mark.parametrize("behaviour", [raising(RuntimeError("no")), returning("no")], ids=["raises", "text"])
@pytest.mark.parametrize("method", ["snapshot", "Snapshot.expired"])
def test_watch_that_fails_leaves_what_was_watched(method: str, behaviour: Behaviour) -> None:
    """Keys that were watched before stay watched, and no others are."""
    setting = Setting()
    setting.session.watch([b"k"])
    setting.engine.on[method] = behaviour
    setting.fails(InternalError, lambda session: session.watch([b"l"]))
    setting.engine.on.clear()
    assert is_watching(setting.session)
    setting.engine.put(b"l", b"changed")
    assert run(setting.session.execute(read_and_write)) is None
    assert setting.engine.get(b"mine") == b"old"
    setting.is_usable()


@pytest.mark.parametrize("leave", ["unwatch", "execute", "close"])
def test_watched_snapshots_that_fail_to_close_are_closed_once_all_the_same(leave: str) -> None:
    """Each of them, whatever came of the others."""
    setting = Setting()
    setting.session.watch([b"k"])
    setting.session.watch([b"l"])
    setting.engine.on["Snapshot.close"] = raising(RuntimeError("cannot close"))
    if leave == "execute":
        run(setting.session.execute(read_and_write))
    else:
        getattr(setting.session, leave)()
    assert not is_watching(setting.session)
    assert "Snapshot.close" in setting.bench.log.getvalue()
    setting.is_usable()
