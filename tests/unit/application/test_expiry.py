"""The server's time, and what sessions see of records that are due before they have been deleted."""

import pytest

from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.application.expiry import LEAST_STEPS, RETRY_S, STEPS_PER_TICK, Expiry
from kvs.application.operations import count_present, delete_all, get_many, rename, update_all_if
from kvs.application.session import EngineSession
from kvs.application.transact import MANY_RANGES
from kvs.domain.commit import Committed, Conflict
from kvs.domain.errors import StorageUnavailableError, UsageError
from kvs.domain.updates import Add, Replace, is_absent
from kvs.domain.values import NEVER_MS, Key, Record
from kvs.ports.session import Session, Steps
from tests.support.naive_storage import NaiveStorage
from tests.support.scripted_storage import ScriptedStorage
from tests.support.sessions import UNLIMITED, Bench, run, shares, suspend

MANY = 5 * STEPS_PER_TICK
"""More records than are deleted in a tick, though each is moved in the index first."""


class Late:
    """Sessions over an engine in which many records are due, and few of them deleted."""

    def __init__(self) -> None:
        self.bench = Bench(MemoryStorage(0, UNLIMITED))
        self.now_ms = self.bench.expiry.now_ms
        for number in range(MANY):
            self.bench.storage.put(b"due%06d" % number, Record(b"1", self.now_ms + 10))
        self.bench.storage.put(b"later", Record(b"1", self.now_ms + 1000))
        self.bench.storage.put(b"plain", b"1")
        self.before = self.bench.open()
        self.before.start()
        self.let_pass(0.010)
        assert self.bench.expiry.lagging
        left = self.bench.storage.scan(b"due", b"", 1 << 20)
        self.key = left[0]
        """A key that is due and is still there."""
        assert len(left) > MANY // 2

    def let_pass(self, seconds: float) -> None:
        """Let time pass, and begin a tick."""
        self.bench.expiry.end_tick()
        self.bench.clock.now_s += seconds
        self.bench.expiry.begin_tick()

    def open(self) -> EngineSession:
        """Open a session."""
        return self.bench.open()

    def is_stored(self, key: Key) -> bool:
        """Return whether a key is in the engine."""
        return self.bench.storage.get(key) is not None


@pytest.fixture
def late() -> Late:
    """Return sessions over an engine in which records are due."""
    return Late()


def busy_ticks(late_s: float) -> int:
    """Return how many ticks with requests delete all that is due, when the first of them comes so late."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    due_ms = bench.expiry.now_ms + 10
    for number in range(MANY):
        bench.storage.put(b"due%06d" % number, Record(b"1", due_ms))
    bench.expiry.end_tick()
    bench.clock.now_s += 0.010 + late_s
    bench.expiry.begin_tick(1)
    ticks = 1
    while bench.expiry.lagging:
        bench.expiry.end_tick()
        bench.expiry.begin_tick(1)
        ticks += 1
    return ticks


def test_the_longer_it_lags_the_more_it_deletes_beside_requests() -> None:
    """So its delay is bounded, whatever clients do."""
    ticks = [busy_ticks(late_s) for late_s in (0, 2, 4, 6, 3600)]
    assert ticks[0] > ticks[1] > ticks[2] > ticks[3] >= ticks[4] > 1


class Asked(NaiveStorage):
    """Has records that are always due, and notes how many it is asked to delete."""

    def __init__(self) -> None:
        super().__init__()
        self.due_ms = NEVER_MS
        self.steps: list[int] = []

    def earliest_deadline_ms(self) -> int:
        """See :class:`kvs.ports.storage.Storage`."""
        return self.due_ms

    def expire(self, now_ms: int, max_steps: int) -> list[Key]:  # noqa: ARG002
        """See :class:`kvs.ports.storage.Storage`."""
        self.steps.append(max_steps)
        return []


def asked_after(*units: int | None) -> list[int]:
    """Return how many are to be deleted by ticks after so much work for requests, the first when they fall due."""
    bench = Bench(asked := Asked())
    asked.due_ms = bench.expiry.now_ms
    bench.expiry.end_tick()
    for work in units:
        bench.expiry.begin_tick(work)
    assert bench.expiry.has_work
    return asked.steps


def test_the_more_work_requests_take_the_more_is_deleted_beside_them() -> None:
    """So it takes a part of the time, be there few requests in a tick or many."""
    one, some, twice, limit, idle = asked_after(1, 20, 40, 1_000_000_000, None)
    assert 1 < one < some < twice < limit == idle == STEPS_PER_TICK
    assert twice == 2 * some


def test_while_requests_may_be_on_their_way_only_what_has_just_fallen_due_is_deleted() -> None:
    """A request of the next moment does not wait for the rest."""
    assert asked_after(0, 0, 0, 1) == [LEAST_STEPS, LEAST_STEPS]


def with_full_history(max_history_bytes: int) -> tuple[Bench, EngineSession]:
    """Return 2000 records that are due, of which as many are deleted as history has room for, and a reader of all."""
    bench = Bench(MemoryStorage(0, max_history_bytes))
    for number in range(2000):
        bench.storage.put(b"%04d" % number, Record(b"v", bench.expiry.now_ms + 10))
    reader = bench.open()
    reader.start(read_only=True)
    bench.expiry.end_tick()
    bench.clock.now_s += 1
    bench.expiry.begin_tick()
    while bench.expiry.has_work:
        bench.expiry.begin_tick()
    return bench, reader


class TestOutsideATransaction:
    """A command judges by the server's time."""

    def test_due_key_is_absent_and_is_deleted(self, late: Late) -> None:
        assert late.open().get(late.key) is None
        assert not late.is_stored(late.key)
        assert late.bench.expiry.deleted > 0

    def test_due_key_cannot_be_deleted(self, late: Late) -> None:
        assert late.open().delete(late.key) is False
        assert not late.is_stored(late.key)

    def test_update_finds_nothing(self, late: Late) -> None:
        assert late.open().update(late.key, Add(1)) == (None, b"1")

    def test_put_of_what_is_due_is_a_delete(self, late: Late) -> None:
        session = late.open()
        session.put(b"plain", Record(b"", late.bench.expiry.now_ms))
        session.put_all([b"later", b"new", b"plain"], [Record(b"", late.bench.expiry.now_ms), b"1", b"2"])
        assert [late.is_stored(key) for key in (b"later", b"new", b"plain")] == [False, True, True]

    def test_put_is_a_new_value(self, late: Late) -> None:
        session = late.open()
        session.put(late.key, b"new")
        late.let_pass(1)
        assert session.get(late.key) == b"new"

    def test_count_and_keys_are_of_what_is_left(self, late: Late) -> None:
        session = late.open()
        waited, number = shares(session.count(b""), session.work, 10)
        assert number == 2
        assert waited > 0
        assert run(session.keys(b"", b"", 10)) == [b"later", b"plain"]

    def test_page_waits_too(self, late: Late) -> None:
        assert run(late.open().keys(b"due", b"", 10)) == []

    def test_operations_see_no_due_key(self, late: Late) -> None:
        session = late.open()
        keys = [late.key, b"plain"]

        def get(one: Session) -> Steps[list[bytes | None]]:
            return get_many(keys, 100, one)

        assert run(session.transact(get)) == [None, b"1"]
        assert late.bench.expiry.lagging  # only ranges wait
        assert run(session.transact(lambda one: count_present(keys, one))) == 1
        assert run(session.transact(lambda one: delete_all(keys, one))) == 1
        assert run(session.transact(lambda one: update_all_if(is_absent, {late.key: Replace(b"new")}, one))) is True
        assert session.get(late.key) == b"new"

    def test_due_key_cannot_be_renamed(self, late: Late) -> None:
        session = late.open()
        with pytest.raises(UsageError, match="no such key"):
            run(session.transact(lambda one: rename(late.key, b"new", True, one)))

    def test_view_is_of_what_is_left(self, late: Late) -> None:
        session = late.open()
        assert run(session.view(lambda one: get_many([late.key, b"later"], 100, one))) == [None, b"1"]


class TestInATransaction:
    """A transaction judges by its snapshot's clock."""

    def test_record_of_the_snapshot_stays(self, late: Late) -> None:
        session = late.before
        assert session.get(late.key) == Record(b"1", late.now_ms + 10)
        assert session.read_ms == late.now_ms
        assert session.now_ms == late.now_ms + 10
        assert run(session.count(b"due")) == MANY
        assert session.commit() is not None

    def test_new_snapshot_has_no_record_that_is_due_by_its_clock(self, late: Late) -> None:
        session = late.open()
        session.start()
        assert late.now_ms <= session.read_ms < late.now_ms + 10
        value = session.get(late.key)
        assert isinstance(value, Record)
        assert value.deadline_ms > session.read_ms

    @pytest.mark.parametrize("lagging", [True, False])
    def test_key_that_was_read_and_expired_is_a_conflict(self, late: Late, lagging: bool) -> None:
        session = late.before
        session.get(late.key)
        session.put(b"mine", b"")
        self.catch_up(late, lagging)
        outcome = session.commit()
        assert isinstance(outcome, Conflict)
        assert outcome.keys == (late.key,)

    @pytest.mark.parametrize("lagging", [True, False])
    def test_range_in_which_a_key_expired_is_a_conflict(self, late: Late, lagging: bool) -> None:
        session = late.before
        run(session.count(b"due"))
        session.put(b"mine", b"")
        self.catch_up(late, lagging)
        preparing = session.prepare_commit()
        assert (preparing is not None) == lagging
        if preparing is not None:
            assert shares(preparing, session.work, 10)[0] > 0
        assert isinstance(session.commit(), Conflict)

    def test_what_only_reads_does_not_conflict(self, late: Late) -> None:
        session = late.before
        session.get(late.key)
        run(session.count(b"due"))
        assert isinstance(session.commit(), Committed)

    def test_keys_that_are_not_due_do_not_conflict(self, late: Late) -> None:
        session = late.before
        session.get(b"later")
        session.put(b"mine", b"")
        assert session.prepare_commit() is None
        assert isinstance(session.commit(), Committed)

    def test_inner_commit_waits_for_nothing(self, late: Late) -> None:
        session = late.before
        run(session.count(b""))
        session.start()
        assert session.prepare_commit() is None

    @staticmethod
    def catch_up(late: Late, lagging: bool) -> None:
        """Let everything be deleted that is due."""
        while not lagging and late.bench.expiry.lagging:
            late.bench.expiry.begin_tick()


class TestRanges:
    """What reads a range waits for the deletions there, and not for those elsewhere."""

    @staticmethod
    def left(late: Late) -> int:
        """Return how much is due and has not been deleted."""
        return late.bench.storage.count(b"due")

    @pytest.mark.parametrize("way", ["alone", "view", "transact"])
    def test_nobody_waits_where_nothing_is_due(self, late: Late, way: str) -> None:
        session, before = late.open(), self.left(late)

        def look(one: Session) -> Steps[tuple[int, list[Key], list[Key]]]:
            number = yield from one.count(b"plain")
            page = yield from one.keys(b"", b"e", 1)
            return number, page, (yield from one.keys(b"later", b"", 10))

        looking = look(session) if way == "alone" else session.view(look) if way == "view" else session.transact(look)
        assert run(looking) == (1, [b"later"], [b"later"])
        assert self.left(late) == before
        assert late.bench.expiry.lagging

    def test_page_waits_for_what_is_before_its_last_key(self, late: Late) -> None:
        for number in (3, 7):
            late.bench.storage.put(b"due%06d" % (MANY - number), b"1")
        session, before = late.open(), self.left(late)
        after = b"due%06d" % (MANY - 10)
        assert run(session.keys(b"due", after, 2)) == [b"due%06d" % (MANY - number) for number in (7, 3)]
        assert before > self.left(late) > before - 8
        assert late.bench.storage.get(b"due%06d" % (MANY - 2)) is not None

    def test_long_page_makes_way_for_others(self, late: Late) -> None:
        session = late.open()
        waited, page = shares(session.keys(b"due", b"", MANY), session.work, 10)
        assert page == []
        assert waited > 1

    def test_commit_waits_for_the_ranges_that_it_has_read(self, late: Late) -> None:
        session, before = late.before, self.left(late)
        run(session.count(b"plain"))
        run(session.keys(b"l", b"", 1))
        session.put(b"mine", b"")
        preparing = session.prepare_commit()
        assert preparing is not None
        run(preparing)
        assert isinstance(session.commit(), Committed)
        assert self.left(late) == before

    def test_commit_that_has_read_a_range_with_a_due_key_is_a_conflict(self, late: Late) -> None:
        session, before = late.before, self.left(late)
        run(session.count(late.key))
        session.put(b"mine", b"")
        preparing = session.prepare_commit()
        assert preparing is not None
        run(preparing)
        assert isinstance(session.commit(), Conflict)
        assert self.left(late) == before - 1

    def test_operation_that_reads_many_ranges_waits_for_all(self, late: Late) -> None:
        def look(one: Session) -> Steps[int]:
            number = 0
            for first in range(10):
                number += yield from one.count(b"due%05d" % first)
            return number

        attempts = late.bench.storage.taken
        assert run(late.open().view(look)) == 0
        assert late.bench.storage.taken - attempts <= MANY_RANGES + 2
        assert self.left(late) == 0

    def test_operation_judges_by_one_time(self, late: Late) -> None:
        """That at which it began to delete, though a key falls due before that is done."""
        late.bench.storage.put(b"due!", Record(b"1", late.now_ms + 1000))
        session = late.open()

        def look(one: Session) -> Steps[tuple[int, bool]]:
            number = yield from one.count(b"due")
            return number, one.get(b"due!") is not None

        looking = suspend(session.view(look), session.work, 10)
        late.bench.expiry._steps_per_tick = 0
        late.let_pass(1)
        assert run(looking) == (1, True)
        assert session.get(b"due!") is None

    def test_full_history_does_not_stop_them(self) -> None:
        """They delete what they have to, as a DEL would."""
        bench, _ = with_full_history(50_000)
        number = run(bench.open().count(b"1"))
        assert number == 0
        assert bench.storage.count(b"1") == 0


class TestWatch:
    """A watched key expires like any other."""

    def test_expiry_is_a_conflict(self, late: Late) -> None:
        session = late.open()
        session.watch([b"later"])
        late.let_pass(1)
        assert isinstance(session.execute_put_all({b"mine": b""}), Conflict)

    def test_expiry_that_lags_is_a_conflict(self) -> None:
        bench = Bench(MemoryStorage(0, UNLIMITED))
        session = bench.open()
        for number in range(MANY):
            bench.storage.put(b"%06d" % number, Record(b"", bench.expiry.now_ms + 1))
        keys = bench.storage.scan(b"", b"", MANY)
        session.watch(keys)
        bench.expiry.end_tick()
        bench.clock.now_s += 1
        bench.expiry.begin_tick()
        assert bench.expiry.lagging
        assert isinstance(session.execute_put_all({b"mine": b""}), Conflict)

    def test_key_that_was_due_already_is_watched_as_absent(self, late: Late) -> None:
        session = late.open()
        session.watch([late.key])
        run(late.open().count(b""))
        assert isinstance(session.execute_put_all({b"mine": b""}), Committed)


class TestClock:
    """The server's time."""

    def test_stands_still_during_a_tick(self) -> None:
        bench = Bench(MemoryStorage(0, UNLIMITED))
        before = bench.expiry.now_ms
        bench.clock.now_s += 5
        assert bench.expiry.now_ms == before
        bench.expiry.begin_tick()
        assert bench.expiry.now_ms == before + 5000

    def test_is_the_wall_clock_at_the_start_and_never_jumps(self) -> None:
        bench = Bench(MemoryStorage(0, UNLIMITED))
        wall_s, monotonic_s = [1_000_000.5], [50.0]
        expiry = Expiry(bench.storage, lambda: wall_s[0], lambda: monotonic_s[0], bench.sessions._context.log)
        assert expiry.now_ms == 1_000_000_500
        wall_s[0], monotonic_s[0] = 5.0, 51.0
        expiry.begin_tick()
        assert expiry.now_ms == 1_000_001_500

    def test_begins_at_the_stored_horizon_if_that_is_later(self) -> None:
        class Stored(ScriptedStorage):
            @property
            def horizon_ms(self) -> int:
                return 7_000

        bench = Bench()
        assert Expiry(Stored(), lambda: 5.0, lambda: 1.0, bench.sessions._context.log).now_ms == 7_000
        assert Expiry(Stored(), lambda: 9.0, lambda: 1.0, bench.sessions._context.log).now_ms == 9_000

    def test_nothing_is_due_for_as_long_as_it_says(self) -> None:
        bench = Bench(MemoryStorage(0, UNLIMITED))
        session = bench.open()
        session.put(b"k", Record(b"v", bench.expiry.now_ms + 90))
        passed_ms = ticks = 0
        while bench.storage.get(b"k") is not None:
            bench.expiry.end_tick()
            delay_ms = round(bench.expiry.delay_s() * 1000)
            assert delay_ms <= 91 - passed_ms  # a clock in seconds may be just before a millisecond
            passed_ms += delay_ms
            ticks += 1
            bench.clock.now_s += delay_ms / 1000
            bench.expiry.begin_tick()
        assert passed_ms in (90, 91)
        assert ticks < 10
        bench.expiry.end_tick()
        assert bench.expiry.delay_s() > 1e9


class TestFullHistory:
    """What is due waits for open snapshots rather than end them."""

    def test_snapshot_stays_and_others_see_nothing_of_what_is_due(self) -> None:
        bench, reader = with_full_history(100_000)
        other = bench.open()
        assert bench.expiry.lagging
        assert 0 < bench.expiry.deleted < 2000
        assert bench.expiry.delay_s() == RETRY_S
        assert bench.expiry.horizon_ms < bench.expiry.now_ms
        left = bench.storage.scan(b"", b"", 2000)
        assert [other.get(key) for key in left[:10]] == [None] * 10
        assert not reader.expired
        assert run(reader.count(b"")) == 2000
        assert all(reader.get(b"%04d" % number) is not None for number in range(2000))
        reader.commit()
        bench.storage.sync()
        while bench.expiry.lagging:
            bench.expiry.begin_tick()
            bench.storage.sync()
        assert bench.storage.count(b"") == 0
        assert bench.log.getvalue() == ""


class TestFailingEngine:
    """An engine that does not delete what is due."""

    @staticmethod
    def failing(error: Exception) -> tuple[Bench, EngineSession]:
        """Return a session over an engine with a due record, in which deletes fail."""
        storage = ScriptedStorage()
        bench = Bench(storage)
        storage.put(b"k", Record(b"v", bench.expiry.now_ms + 1))

        def fail(*_: object) -> object:
            raise error

        storage.on |= {
            "expire": fail,
            "delete": fail,
            "update": fail,
            "earliest_deadline_ms": lambda *_: bench.expiry.now_ms,
        }
        bench.expiry.end_tick()
        bench.clock.now_s += 1
        bench.expiry.begin_tick()
        return bench, bench.open()

    def test_due_key_is_absent_all_the_same(self) -> None:
        bench, session = self.failing(StorageUnavailableError("not now"))
        assert session.get(b"k") is None
        assert session.delete(b"k") is False
        assert bench.storage.get(b"k") is not None

    def test_ranges_cannot_be_read(self) -> None:
        _, session = self.failing(StorageUnavailableError("not now"))
        with pytest.raises(StorageUnavailableError):
            run(session.count(b""))

    def test_failure_is_logged_once(self) -> None:
        bench, _ = self.failing(OSError("disk"))
        for _ in range(3):
            bench.expiry.begin_tick()
        assert bench.log.getvalue().count("engine_failed") == 1
        assert bench.expiry.lagging
