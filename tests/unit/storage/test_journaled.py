"""The engine with a journal behind it: what the journal is told makes up the data."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from queue import SimpleQueue
from random import Random
from threading import Event, Semaphore, get_ident

import pytest

from kvs.adapters.storage.inline_appends import (
    FIRST_RETRY_S,
    LAST_RETRY_S,
    LONGEST_BORNE_S,
    LONGEST_THREAD_S,
    MAX_BYTES,
    MAX_ROWS,
    USUAL_S,
    InlineAppends,
)
from kvs.adapters.storage.journal_writer import Batch, Journal, JournalWriter, Row
from kvs.adapters.storage.journaled import JournaledStorage
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.domain.commit import CommitRequest, Conflict, ReadSet
from kvs.domain.errors import LimitError, UsageError
from kvs.domain.updates import Append, PutIfAbsent, Remove, Replace
from kvs.domain.values import TOMBSTONE, Key, Value
from tests.support.seeds import seeds
from tests.support.sessions import UNLIMITED
from tests.support.waiting import TIMEOUT_S


class Rows(Batch):
    """A batch that is not encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.ticks: list[tuple[list[Row], bool, int]] = []

    def add(self, rows: list[Row], *, clears: bool, horizon_ms: int) -> None:
        self.clears = self.clears or clears
        self.rows += len(rows)
        self.held_bytes += 1
        self.ticks.append((rows, clears, horizon_ms))


class Notes(Journal):
    """A journal that is a dict. A test may hold its calls up, or have them fail."""

    def __init__(self) -> None:
        self.data: dict[Key, Value] = {}
        self.rows = 0
        self.clears = 0
        self.horizon_ms = 0
        self.calls: list[int] = []  # the number of ticks in each
        self.open = Event()
        self.open.set()
        self.entered = Semaphore(0)
        self.failure: Exception | None = None
        self.asks = False  # before anything is told
        self.at_once = False  # if the loop would append
        self.threads: list[int] = []  # that appended

    def needs_confirmation(self) -> bool:
        return self.asks

    def begin(self) -> Batch:
        return Rows()

    def append(self, batch: Batch) -> None:
        assert isinstance(batch, Rows)
        self.calls.append(len(batch.ticks))
        self.threads.append(get_ident())
        self.entered.release()
        self.open.wait()
        if self.failure is not None:
            raise self.failure
        for tick in batch.ticks:
            self._apply(*tick)

    def append_at_once(self, batch: Batch) -> bool:
        if self.at_once:
            self.append(batch)
        return self.at_once

    def _apply(self, rows: list[Row], clears: bool, horizon_ms: int) -> None:  # as it was noted
        self.horizon_ms = horizon_ms
        if clears:
            self.clears += 1
            self.data.clear()
        self.rows += len(rows)
        for key, value in rows:
            if value is None:
                self.data.pop(key, None)
            else:
                self.data[key] = value

    def check(self) -> None:
        pass

    def stats(self) -> Mapping[str, int]:
        return {}


@pytest.fixture
def notes() -> Notes:
    """Return the journal."""
    return Notes()


@pytest.fixture
def storage(notes: Notes) -> Iterator[JournaledStorage]:
    """Return the engine on it."""
    with closing(JournaledStorage(MemoryStorage(0, UNLIMITED), notes)) as storage:
        yield storage
        notes.open.set()


@pytest.mark.draws
@pytest.mark.parametrize("seed", seeds(3))
def test_the_journal_has_what_there_is_after_every_sync(seed: int, storage: JournaledStorage, notes: Notes) -> None:
    """Whatever way it was written."""
    random = Random(seed)
    for step in range(2000):
        key, value = b"%d" % random.randrange(30), b"%d" % step
        chance = random.randrange(9)
        if chance == 0:
            storage.commit(CommitRequest((), {key: value, b"5": TOMBSTONE, b"6": value}))
        elif chance == 1:
            storage.delete(key)
        elif chance < 6:
            changes = (Replace(value), Append(value, 100_000), PutIfAbsent(b""), Remove())
            storage.update(key, changes[chance - 2])
        elif chance == 6 and random.random() < 0.1:
            storage.clear()
        else:
            storage.put(key, value)
        if random.random() < 0.3:
            storage.sync()
            assert notes.data == {key: storage.get(key) for key in storage.scan(b"", b"", 100)}
    assert notes.rows > 1000


def test_puts_are_refused_when_the_journal_has_no_room(storage: JournaledStorage, notes: Notes) -> None:
    """In each way, before anything is applied; deletes are not, nor what changes nothing."""
    for key in (b"a", b"b", b"c"):
        storage.put(key, b"1")
    storage.sync()
    storage.refuse_puts("no room")
    with pytest.raises(LimitError, match="no room"):
        storage.put(b"a", b"2")
    with pytest.raises(LimitError, match="no room"):
        storage.put_all([b"a", b"d"], [b"2", b"2"])
    with pytest.raises(LimitError, match="no room"):
        storage.update(b"a", Append(b"2", UNLIMITED))
    with pytest.raises(LimitError, match="no room"):
        storage.commit(CommitRequest((), {b"a": TOMBSTONE, b"d": b"2"}))
    assert storage.update(b"a", PutIfAbsent(b"2")) == (b"1", b"1")
    assert storage.update(b"a", Remove()) == (b"1", None)
    storage.commit(CommitRequest((), {b"b": TOMBSTONE}))
    storage.sync()
    assert notes.data == {b"c": b"1"}
    storage.clear()
    storage.refuse_puts("")
    storage.put(b"e", b"1")
    storage.sync()
    assert notes.data == {b"e": b"1"}


def test_what_changes_nothing_is_not_told(storage: JournaledStorage, notes: Notes) -> None:
    """A sync then has nothing to wait for."""
    storage.put(b"k", b"v")
    storage.sync()
    snapshot = storage.snapshot()
    storage.update(b"k", PutIfAbsent(b"w"))
    storage.update(b"n", Remove())
    storage.update(b"n", lambda _: TOMBSTONE)
    storage.delete(b"n")
    with pytest.raises(UsageError):
        storage.update(b"k", raises)
    storage.put(b"k", b"w")
    answer = storage.commit(CommitRequest((ReadSet(snapshot, [b"k"], []),), {b"n": b""}))
    assert isinstance(answer, Conflict)
    storage.sync()
    assert (notes.rows, notes.data) == (2, {b"k": b"w"})
    snapshot.close()
    for _ in range(2):
        storage.clear()
        storage.sync()
    assert (notes.rows, notes.clears, notes.data) == (2, 1, {})


class TestSeal:
    """What goes on while the journal waits for the disk."""

    def test_what_is_sealed_meanwhile_goes_together(self, storage: JournaledStorage, notes: Notes) -> None:
        """One wait for all of it; and each batch has its mark."""
        notes.open.clear()
        marks = []
        for number in range(5):
            storage.put(b"k%d" % number, b"v")
            marks.append(storage.seal())
            if number == 0:
                notes.entered.acquire()
        assert (marks, storage.durable_mark, storage.in_flight_bytes) == ([1, 2, 3, 4, 5], 0, 5)
        assert storage.get(b"k4") == b"v"  # visible, and not durable
        notes.open.set()
        storage.sync()
        assert (notes.calls, storage.durable_mark, storage.in_flight_bytes) == ([1, 4], 5, 0)
        assert len(notes.data) == 5
        told = storage.distributions()
        assert (told["batch_rows"].total, sum(told["batch_rows"].buckets)) == (5, 2)
        assert told["batch_rows"].buckets[1] == told["batch_rows"].buckets[4] == 1
        assert sum(told["append_ns"].buckets) == 2
        assert told["append_ns"].total > 0

    def test_who_writes_nothing_waits_for_who_did(self, storage: JournaledStorage, notes: Notes) -> None:
        """The mark of the last batch with writes, in flight or not; no batch is made."""
        assert storage.seal() == 0
        storage.put(b"k", b"v")
        assert [storage.seal(), storage.seal()] == [1, 1]
        storage.sync()
        assert (storage.seal(), storage.durable_mark, notes.calls) == (1, 1, [1])

    def test_a_tick_that_only_reads_may_need_a_batch(self, storage: JournaledStorage, notes: Notes) -> None:
        """If others may have written: an empty one, for which nobody waits but its own tick."""
        notes.asks = True
        woken: SimpleQueue[int] = SimpleQueue()
        storage.when_durable(lambda: woken.put(storage.durable_mark))
        for expected in (1, 2):
            assert storage.seal() == expected
            assert woken.get(timeout=TIMEOUT_S) == expected
        storage.put(b"k", b"v")
        assert storage.seal() == 3
        storage.sync()
        assert notes.data == {b"k": b"v"}

    def test_the_server_is_woken_for_each_call(self, storage: JournaledStorage) -> None:
        """When the mark has grown."""
        woken: SimpleQueue[int] = SimpleQueue()
        storage.when_durable(lambda: woken.put(storage.durable_mark))
        for number in range(3):
            storage.put(b"k", b"%d" % number)
            mark = storage.seal()
            assert woken.get() == mark

    def test_a_failure_ends_it(self, storage: JournaledStorage, notes: Notes) -> None:
        """Of all later batches, too: nothing is durable any more, and whoever asks is told why."""
        woken: SimpleQueue[int] = SimpleQueue()
        storage.when_durable(lambda: woken.put(storage.durable_mark))
        notes.failure = OSError("no disk")
        storage.put(b"k", b"v")
        storage.seal()
        assert woken.get() == 0
        for _ in range(2):
            with pytest.raises(OSError, match="no disk"):
                storage.check()
            storage.put(b"l", b"v")
            with pytest.raises(OSError, match="no disk"):
                storage.sync()
        assert (notes.calls, notes.data) == ([1], {})

    def test_a_batch_waits_for_those_who_were_told_of_the_last(self, notes: Notes) -> None:
        """Until as many rows have gathered as had come before; the time for which it would wait is not reached here."""
        row: Row = (b"k", b"v")
        notes.open.clear()
        writer = JournalWriter(notes, gathering_share=1e9)
        writer.seal([row] * 3, clears=False, horizon_ms=0)
        notes.entered.acquire()
        writer.seal([row] * 2, clears=False, horizon_ms=0)
        notes.open.set()
        with writer.progress:
            writer.progress.wait_for(lambda: writer.durable_mark == 1)
        for _ in range(3):
            writer.seal([row], clears=False, horizon_ms=0)
        writer.wait()
        assert notes.calls == [1, 4]
        writer.stop()

    def test_one_client_waits_for_nobody(self, notes: Notes) -> None:
        """Each of its commits is a batch at once."""
        writer = JournalWriter(notes, gathering_share=1e9)
        for _ in range(5):
            writer.seal([(b"k", b"v")], clears=False, horizon_ms=0)
            writer.wait()
        assert notes.calls == [1] * 5
        writer.stop()

    def test_a_close_finishes_what_was_sealed(self, notes: Notes) -> None:
        """A client that has not waited for its reply may still count on it."""
        storage = JournaledStorage(MemoryStorage(0, UNLIMITED), notes)
        notes.open.clear()
        for number in range(3):
            storage.put(b"k%d" % number, b"v")
            storage.seal()
        notes.entered.acquire()
        notes.open.set()
        storage.close()
        assert len(notes.data) == 3


class TestInline:
    """A journal on a quick disk: the loop appends by itself."""

    def test_it_is_durable_at_once(self, storage: JournaledStorage, notes: Notes) -> None:
        """Nobody is woken, and there is nothing to wait for."""
        storage.when_durable(lambda: pytest.fail("was woken"))
        notes.at_once = True
        for number in range(1, 4):
            storage.put(b"k", b"%d" % number)
            assert storage.seal() == storage.durable_mark == number
            assert notes.data == {b"k": b"%d" % number}
        assert notes.threads == [get_ident()] * 3
        assert storage.in_flight_bytes == 0
        assert {name: sum(counts.buckets) for name, counts in storage.distributions().items()} == {
            "append_ns": 3,
            "batch_rows": 3,
        }

    def test_nothing_overtakes_what_is_in_flight(self, storage: JournaledStorage, notes: Notes) -> None:
        """What is sealed meanwhile goes to the thread, too; then it is the loop's turn again."""
        notes.open.clear()
        storage.put(b"k", b"1")
        storage.seal()
        notes.entered.acquire()
        notes.at_once = True
        storage.put(b"k", b"2")
        assert (storage.seal(), storage.durable_mark) == (2, 0)
        notes.open.set()
        storage.sync()
        storage._writer._inline_appends.thread_s = 0.0  # the disk is not slow: the test has held it up
        storage.put(b"k", b"3")
        assert storage.seal() == storage.durable_mark == 3
        assert notes.data == {b"k": b"3"}
        assert [thread == get_ident() for thread in notes.threads] == [False, False, True]

    @pytest.mark.parametrize("clears", [False, True])
    def test_what_gathers_for_the_thread_is_the_loops_too(self, notes: Notes, clears: bool) -> None:
        """Else the thread would have work for as long as clients wait for it; but a clear takes long."""
        writer = JournalWriter(notes, gathering_share=1e9)
        notes.open.clear()
        writer.seal([(b"a", b"1")], clears=False, horizon_ms=0)
        notes.entered.acquire()
        writer.seal([(b"b", b"2")], clears=clears, horizon_ms=0)
        notes.open.set()
        with writer.progress:
            assert writer.progress.wait_for(lambda: writer.durable_mark == 1, TIMEOUT_S)
        notes.at_once = True
        writer._inline_appends.thread_s = 0.0  # the disk is not slow: the test has held it up
        writer.seal([(b"c", b"3")], clears=False, horizon_ms=0)
        writer.wait()
        writer.stop()
        assert writer.durable_mark == writer.sealed_mark == 3
        assert writer.in_flight_bytes == 0
        assert notes.calls == [1, 2]
        assert [thread == get_ident() for thread in notes.threads] == [False, not clears]
        assert notes.data == {**({} if clears else {b"a": b"1"}), b"b": b"2", b"c": b"3"}

    def test_a_failure_ends_it(self, storage: JournaledStorage, notes: Notes) -> None:
        """As one of the thread."""
        notes.at_once = True
        notes.failure = OSError("no disk")
        storage.put(b"k", b"v")
        with pytest.raises(OSError, match="no disk"):
            storage.seal()
        for _ in range(2):
            with pytest.raises(OSError, match="no disk"):
                storage.check()
            storage.put(b"l", b"v")
            with pytest.raises(OSError, match="no disk"):
                storage.sync()
        assert (notes.calls, notes.data, storage.durable_mark) == ([1], {}, 0)

    def test_a_large_batch_and_a_clear_are_left_to_the_thread(self, storage: JournaledStorage, notes: Notes) -> None:
        """They take long on any disk."""
        notes.at_once = True
        for number in range(MAX_ROWS + 1):
            storage.put(b"%d" % number, b"v")
        storage.sync()
        storage.clear()
        storage.sync()
        assert len(notes.threads) == 2
        assert get_ident() not in notes.threads


class TestInlineAppends:
    """When the loop appends."""

    def test_one_slow_call_does_not_decide(self) -> None:
        """Several in a row do, until the disk is tried again."""
        inline = InlineAppends()
        for now_s in range(20):
            assert inline.allow(1, 100, now_s)
            inline.note(LONGEST_BORNE_S if now_s == 10 else USUAL_S / 3, now_s)
        while inline.allow(1, 100, 100):
            inline.note(USUAL_S * 3, 100)
        assert not inline.allow(1, 100, 100 + FIRST_RETRY_S / 2)
        assert inline.allow(1, 100, 100 + FIRST_RETRY_S)

    def test_what_half_of_the_calls_take_decides(self) -> None:
        """A few that take much longer do not, however long they take."""
        for slow, stays in ((5, True), (11, False)):
            inline = InlineAppends()
            allowed = []
            for number in range(400):
                allowed.append(inline.allow(1, 100, 0))
                inline.note(USUAL_S * 10 if number % 20 >= 20 - slow else USUAL_S * 0.7, 0)
            assert all(allowed) == stays

    def test_a_slow_disk_is_tried_ever_more_rarely(self) -> None:
        """Three calls decide in each trial; and a disk that has become quick is soon trusted again."""
        inline = InlineAppends()
        now_s, waits = 0.0, []
        for _ in range(12):
            began_s = now_s
            while not inline.allow(1, 100, now_s):
                now_s += FIRST_RETRY_S / 2
            waits.append(now_s - began_s)
            for _ in range(3):
                assert inline.allow(1, 100, now_s)
                inline.note(USUAL_S * 1.1, now_s)
            assert not inline.allow(1, 100, now_s)
        wanted = [0.0, *(min(FIRST_RETRY_S * 2**trial, LAST_RETRY_S) for trial in range(11))]
        assert waits == pytest.approx(wanted, abs=FIRST_RETRY_S)
        for _ in range(10):
            inline.note(USUAL_S / 2, now_s + LAST_RETRY_S)
        now_s += LAST_RETRY_S
        while inline.allow(1, 100, now_s):
            inline.note(USUAL_S * 4, now_s)
        assert inline.allow(1, 100, now_s + FIRST_RETRY_S)

    def test_a_call_that_has_held_up_everybody_decides(self) -> None:
        """A disk that stalls now and then is tried no more often than one that is slow."""
        inline = InlineAppends()
        for _ in range(50):
            inline.note(USUAL_S / 3, 0)
        inline.note(LONGEST_BORNE_S * 1.1, 0)
        assert not inline.allow(1, 100, LAST_RETRY_S * 0.9)
        assert inline.allow(1, 100, LAST_RETRY_S)

    def test_the_thread_finds_out_for_the_loop(self) -> None:
        """Whether the disk is still slow, so that no trial holds up the loop."""
        inline = InlineAppends()
        inline.thread_s = LONGEST_THREAD_S * 1.1
        assert not inline.allow(1, 100, 1000)
        inline.thread_s = LONGEST_THREAD_S
        assert inline.allow(1, 100, 1000)

    def test_sizes(self) -> None:
        """Nothing, many rows and large rows are not for the loop."""
        inline = InlineAppends()
        assert inline.allow(MAX_ROWS, MAX_BYTES, 0)
        assert not any((inline.allow(0, 0, 0), inline.allow(MAX_ROWS + 1, 0, 0), inline.allow(1, MAX_BYTES + 1, 0)))


def raises(_: Value | None) -> Value:
    """Refuse to change anything; a change."""
    raise UsageError("no")
