"""The search for keys that match: a share at a time, and what it finds is what there was at one moment."""

from collections.abc import Callable

import pytest

from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.application.operations import FindKeys, Found
from kvs.application.session import EngineSession
from kvs.domain.commit import Committed, Conflict
from kvs.domain.errors import LimitError, StorageUnavailableError
from kvs.domain.values import Key
from kvs.ports.session import Unfinished
from tests.support.naive_storage import NaiveSnapshot, NaiveStorage
from tests.support.sessions import UNLIMITED, Bench, run, filled

MANY = [b"%05d" % number for number in range(10_000)]
"""More than is looked at in two shares."""


class EndsWith:
    """Matches keys by their end."""

    def __init__(self, end: bytes) -> None:
        self.end = end

    def __call__(self, key: Key) -> bool:
        """Tell whether a key matches."""
        return key.endswith(self.end)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EndsWith) and other.end == self.end

    def __hash__(self) -> int:
        return hash(self.end)


def many(bench: Bench, *, inside: bool = False) -> EngineSession:
    """Return a session over many keys."""
    return filled(bench, dict.fromkeys(MANY, b""), inside=inside)


def find(session: EngineSession, question: Callable[[], FindKeys]) -> tuple[Found, int]:
    """Ask, with a new unit each time, until there is an answer; return it and how often it was not there yet."""
    for unfinished in range(100):
        try:
            return run(session.view(question())), unfinished
        except Unfinished:
            pass
    raise AssertionError("no answer after a hundred shares")


@pytest.mark.parametrize("end", [None, b"7", b"77", b"9999", b"x"])
@pytest.mark.parametrize(("prefix", "after"), [(b"", b""), (b"0", b""), (b"", b"04999x"), (b"1", b"0"), (b"0", b"1")])
@pytest.mark.parametrize("limit", [1, 5, 1000, 5000, 100_000])
def test_what_is_found_is_what_a_plain_search_finds(
    many_keys: EngineSession, end: bytes | None, prefix: Key, after: Key, limit: int
) -> None:
    """The first that match up to the limit, whether there are more, and how many were passed over."""
    candidates = [key for key in MANY if key.startswith(prefix) and key > after]
    matching = [key for key in candidates if end is None or key.endswith(end)]
    matches = None if end is None else EndsWith(end)
    found, _ = find(many_keys, lambda: partial(find_keys, prefix, after, matches, limit, UNLIMITED, None))
    assert found.keys == matching[:limit]
    assert found.more == (len(matching) > limit)
    looked_at = candidates.index(matching[limit - 1]) + 1 if found.more else len(candidates)
    assert found.passed_over == looked_at - len(found.keys)
    assert many_keys.depth == 0


@pytest.fixture(scope="module")
def many_keys() -> EngineSession:
    """Return a session over many keys, which nobody changes."""
    return many(Bench(MemoryStorage(0, UNLIMITED)))


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_a_long_search_makes_way_for_others_who_do_not_show_in_it(inside: bool) -> None:
    """It is done in shares, and what has changed meanwhile is for the next one."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    session = many(bench, inside=inside)

    def question() -> FindKeys:
        return partial(find_keys, b"", b"", EndsWith(b"9", None), UNLIMITED, UNLIMITED)

    with pytest.raises(Unfinished):
        run(session.view(question()))
    for key in (b"00000x9", b"zzz9"):
        bench.storage.put(key, b"")
    for key in MANY[5000:]:
        bench.storage.delete(key)
    found, unfinished = find(session, question)
    assert unfinished == 1
    assert found.keys == MANY[9::10]
    if inside:
        session.rollback()
    bench.assert_nothing_is_held()
    assert find(session, question)[0].keys == sorted([*MANY[9:5000:10], b"00000x9", b"zzz9"])


def test_a_search_in_a_transaction_shows_what_is_pending_and_observes_its_prefix() -> None:
    """Values appear, tombstones hide, and a phantom is a conflict."""
    for phantom in (b"0phantom", b"phantom"):
        bench = Bench(MemoryStorage(0, UNLIMITED))
        session = many(bench, inside=True)
        session.put(b"0new9", b"")
        session.delete(MANY[9])
        found, _ = find(session, lambda: partial(find_keys, b"0", b"", EndsWith(b"9", None), UNLIMITED, UNLIMITED))
        assert found.keys == sorted([*MANY[19::10], b"0new9"])
        bench.storage.put(phantom, b"")
        assert isinstance(session.commit(), Conflict if phantom.startswith(b"0") else Committed)
        bench.assert_nothing_is_held()


@pytest.mark.parametrize("limit", [1, 2, 3, UNLIMITED])
@pytest.mark.parametrize("spare", [1, 0, -1])
def test_keys_are_found_up_to_what_a_reply_may_hold(limit: int, spare: int) -> None:
    """Just below it, at it, and not a byte above; be there more than the limit or not."""
    bench = Bench()
    session = filled(bench, dict.fromkeys([b"aaaa", b"bbbb", b"cccc"], b""), inside=False)
    question = partial(find_keys, b"", b"", None, limit, 4 * min(limit, 3) + spare, None)
    if spare < 0:
        with pytest.raises(LimitError, match="max_reply_bytes"):
            run(session.view(question))
    else:
        assert len(run(session.view(question)).keys) == min(limit, 3)
    bench.assert_nothing_is_held()


def test_a_search_may_be_run_again() -> None:
    """The very same unit, as when a transaction is tried again: it begins afresh."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    session = many(bench)
    question = partial(find_keys, b"", b"", EndsWith(b"99", None), UNLIMITED, UNLIMITED)
    for _ in range(2):
        found, unfinished = find(session, lambda: question)
        assert (found.keys, found.passed_over, unfinished) == (MANY[99::100], 9900, 2)


def test_a_search_that_failed_begins_afresh() -> None:
    """What it had found before came of another moment."""

    class Failing(NaiveStorage):
        failing = False

        def snapshot(self) -> NaiveSnapshot:
            storage = self

            class FailingSnapshot(NaiveSnapshot):
                def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
                    if storage.failing:
                        raise StorageUnavailableError("not now")
                    return super().scan(prefix, after, limit)

            plain = super().snapshot()
            return FailingSnapshot(plain.data, plain.log_length)

    engine = Failing()
    bench = Bench(engine)
    session = many(bench)
    question = partial(find_keys, b"", b"", EndsWith(b"99", None), UNLIMITED, UNLIMITED)
    with pytest.raises(Unfinished):
        run(session.view(question))
    engine.failing = True
    with pytest.raises(StorageUnavailableError):
        run(session.view(question))
    bench.assert_nothing_is_held()
    engine.failing = False
    bench.storage.delete(MANY[99])
    assert find(session, lambda: question)[0].keys == MANY[199::100]


def test_another_unit_while_one_is_under_way_is_a_mistake() -> None:
    """One question must not get the answer of another, and closing leaves nothing behind."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    session = many(bench)
    with pytest.raises(Unfinished):
        run(session.view(partial(find_keys, b"", b"", EndsWith(b"1", None), 5000, 5000)))
    with pytest.raises(RuntimeError):
        run(session.view(partial(find_keys, b"", b"", EndsWith(b"2", None), 5000, 5000)))
    session.close()
    bench.assert_nothing_is_held()


def test_a_search_that_nobody_waits_for_any_more_leaves_nothing_behind() -> None:
    """Its client may go between two shares."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    session = many(bench)
    with pytest.raises(Unfinished):
        run(session.view(partial(find_keys, b"", b"", None, UNLIMITED, UNLIMITED, None)))
    assert bench.storage.open_snapshots == 1
    session.close()
    bench.assert_nothing_is_held()


def test_a_listing_of_many_pending_writes_makes_way_as_well() -> None:
    """A page may take shares of its own, and none of them is done twice."""
    bench = Bench()
    session = filled(bench, {b"stored": b""}, inside=True)
    for key in MANY:
        session.put(key, b"")
    found, unfinished = find(session, lambda: partial(find_keys, b"", b"", EndsWith(b"9", None), UNLIMITED, UNLIMITED))
    assert found.keys == MANY[9::10]
    assert unfinished > 2
    assert run(session.count(b"")) == len(MANY) + 1
