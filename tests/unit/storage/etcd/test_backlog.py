"""What the journal has behind the checkpoint."""

from threading import Event, Thread

import pytest

from kvs.adapters.storage.etcd.backlog import ENTRY_OVERHEAD_BYTES, Backlog, Span
from kvs.adapters.storage.etcd.layout import EMPTY, Head

pytestmark = pytest.mark.one_build


def no_pause() -> None:
    """Make none."""


def found(span: Span) -> dict[bytes, object]:
    """Return what a span has."""
    return {key: span.changes[key] for key in span.changes}


@pytest.fixture
def backlog() -> Backlog:
    """Return an empty one."""
    return Backlog(EMPTY, 5, 10_000)


def test_what_is_taken_is_as_of_one_entry(backlog: Backlog) -> None:
    """What comes behind it is taken the next time; what is not given back is taken again, as it was."""
    backlog.add([(b"a", b"1"), (b"b", b"2")], Head(1, "x"), 7, 100)
    backlog.add([(b"a", None)], Head(2, "y"), 6, 100)
    span = backlog.take()
    backlog.add([(b"a", b"3")], Head(3, "z"), 8, 100)
    assert backlog.take() is span
    assert (found(span), span.head, span.horizon_ms, span.entries) == ({b"a": None, b"b": b"2"}, Head(2, "y"), 7, 2)
    assert backlog.size == 300 + 3 * ENTRY_OVERHEAD_BYTES
    backlog.give_back(no_pause)
    assert backlog.size == 100 + ENTRY_OVERHEAD_BYTES
    span = backlog.take()
    assert (found(span), span.head, span.cleared) == ({b"a": b"3"}, Head(3, "z"), False)


def test_a_clear_forgets_what_was_before(backlog: Backlog) -> None:
    """But not the entries, which etcd still has; and what was taken stays as it was."""
    backlog.add([(b"a", b"1")], Head(1, "x"), 0, 100)
    taken = backlog.take()
    backlog.add([(b"b", b"1")], Head(2, "y"), 0, 100)
    backlog.add([(b"c", b"1")], Head(3, "z"), 0, 100, clears=True)
    assert (found(taken), taken.cleared) == ({b"a": b"1"}, False)
    backlog.give_back(no_pause)
    span = backlog.take()
    assert (found(span), span.cleared, span.entries) == ({b"c": b"1"}, True, 2)
    assert backlog.size == 200 + 2 * ENTRY_OVERHEAD_BYTES


def test_entries_wait_for_room(backlog: Backlog) -> None:
    """Until a checkpoint has what is there; whoever waits can be told to stop."""
    backlog.wait_for_room(no_pause)
    backlog.add([(b"a", b"1")], Head(1, "x"), 0, 20_000)
    assert backlog.is_pressing
    waits, done = Event(), Event()

    def wait() -> None:
        backlog.wait_for_room(waits.set)
        done.set()

    waiter = Thread(target=wait)
    waiter.start()
    assert waits.wait(30)
    assert not done.is_set()
    backlog.take()
    backlog.give_back(no_pause)
    assert done.wait(30)
    waiter.join()
    backlog.add([(b"a", b"1")], Head(2, "y"), 0, 20_000)

    def stop() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        backlog.wait_for_room(stop)


def test_what_was_there_before_is_older_than_what_comes(backlog: Backlog) -> None:
    """Of its parts the last counts; whoever gives up while it is put together can begin again."""
    backlog.begin([{b"a": b"1", b"b": b"1", b"c": b"1"}, {b"b": b"2", b"c": None}], 3, 100, clears=False)
    backlog.add([(b"a", b"3"), (b"d", b"3")], Head(4, "x"), 0, 100)
    assert backlog.size == 200 + 4 * ENTRY_OVERHEAD_BYTES
    span = backlog.take()

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        span.settle(stop)
    assert backlog.take() is span
    span.settle(no_pause)
    assert found(span) == {b"a": b"3", b"b": b"2", b"c": None, b"d": b"3"}
    assert (span.entries, span.cleared, span.head) == (4, False, Head(4, "x"))
    backlog.give_back(no_pause)
    assert backlog.size == 0


@pytest.mark.parametrize("clears", [False, True])
def test_a_clear_forgets_what_was_there_before(backlog: Backlog, clears: bool) -> None:
    """But not its entries."""
    backlog.begin([{b"a": b"1"}], 3, 100, clears=True)
    backlog.add([(b"b", b"2")], Head(4, "x"), 0, 100, clears=clears)
    span = backlog.take()
    span.settle(no_pause)
    assert found(span) == ({b"b": b"2"} if clears else {b"a": b"1", b"b": b"2"})
    assert (span.entries, span.cleared) == (4, True)
    backlog.give_back(no_pause)
    assert (backlog.size, backlog.take().cleared) == (0, False)
