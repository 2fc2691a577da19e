"""The search for keys that match: a share at a time, and what it finds is what there was at one moment."""

from functools import partial

import pytest

from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.application.operations import Matcher, find_keys
from kvs.application.session import EngineSession
from kvs.domain.commit import Committed, Conflict
from kvs.domain.errors import ResultTooLargeError, StorageUnavailableError
from kvs.domain.values import Key
from kvs.override import override
from kvs.ports.session import Operation, Session, Steps
from tests.support.scripted_storage import ScriptedStorage, raising
from tests.support.sessions import UNLIMITED, Bench, filled, run, shares, suspend

MANY = [b"%05d" % number for number in range(10_000)]
"""More than is looked at in two shares of a thousand units."""


class EndsWith(Matcher):
    """Matches keys by their end.

    Args:
        end: Their end.
        units: What a key costs; if it is more than what is matched in one go, in steps of half of it.
        session: Is charged for steps.
    """

    def __init__(self, end: bytes, units: int = 1, session: Session | None = None) -> None:
        self.end = end
        self.units = units
        self.session = session

    @override
    def cost(self, size: int) -> int:
        return self.units

    @override
    def match(self, key: Key) -> bool:
        return key.endswith(self.end)

    @override
    def steps(self, key: Key) -> Steps[bool]:
        for _ in range(2):
            assert self.session is not None
            self.session.work.left = 0
            yield
        return key.endswith(self.end)


def finding(prefix: Key = b"", matcher: Matcher | None = None, max_bytes: int = UNLIMITED) -> "Operation[list[Key]]":
    """Return a search as an operation."""
    return partial(find_keys, prefix, matcher, max_bytes)


def many(bench: Bench, *, inside: bool = False) -> EngineSession:
    """Return a session over many keys."""
    return filled(bench, dict.fromkeys(MANY, b""), inside=inside)


@pytest.fixture(scope="module")
def many_keys() -> EngineSession:
    """Return a session over many keys, which nobody changes."""
    return many(Bench(MemoryStorage(0, UNLIMITED)))


@pytest.mark.parametrize("end", [None, b"7", b"77", b"9999", b"x"])
@pytest.mark.parametrize("prefix", [b"", b"0", b"1", b"0499"])
def test_find_keys_finds_what_a_plain_search_finds(many_keys: EngineSession, end: bytes | None, prefix: Key) -> None:
    """All that match."""
    matcher = None if end is None else EndsWith(end)
    _, found = shares(many_keys.view(finding(prefix, matcher)), many_keys.work)
    assert found == [key for key in MANY if key.startswith(prefix) and key.endswith(end or b"")]
    assert many_keys.depth == 0


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_find_keys_makes_way_for_others_who_do_not_show_in_it(inside: bool) -> None:
    """It is done in shares, and what has changed meanwhile is for the next one."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    session = many(bench, inside=inside)
    search = finding(matcher=EndsWith(b"9"))

    def change() -> None:
        for key in (b"00000x9", b"zzz9"):
            bench.storage.put(key, b"")
        for key in MANY[5000:]:
            bench.storage.delete(key)

    yields, found = shares(session.view(search), session.work, 1000, change)
    assert yields >= 5
    assert found == MANY[9::10]
    if inside:
        session.rollback()
    bench.assert_nothing_is_held()
    assert run(session.view(search)) == sorted([*MANY[9:5000:10], b"00000x9", b"zzz9"])


@pytest.mark.parametrize("units", [10, 100, 1000])
def test_find_keys_does_no_more_in_a_share_than_its_matcher_costs(units: int) -> None:
    """A share ends at the first key after which it is used up, however dear a key is."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    session = filled(bench, dict.fromkeys(MANY[:100], b""), inside=False)
    steps = session.view(finding(matcher=EndsWith(b"7", units)))
    spent: list[int] = []
    session.work.left = 1000
    shares(steps, session.work, 1000, lambda: spent.append(1000 - session.work.left))
    assert len(spent) >= units * 100 // 1000 - 1
    assert all(1000 <= each < 1000 + units + 100 for each in spent)


def test_find_keys_makes_way_within_a_key_that_is_dear_to_match() -> None:
    """Such a key is matched in steps."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    session = filled(bench, dict.fromkeys(MANY[:20], b""), inside=False)
    yields, found = shares(session.view(finding(matcher=EndsWith(b"7", 5000, session))), session.work, 1 << 20)
    assert found == [MANY[7], MANY[17]]
    assert yields >= 2 * 20


def test_find_keys_in_a_transaction_shows_what_is_pending_and_observes_its_prefix() -> None:
    """Values appear, tombstones hide, and a phantom is a conflict."""
    for phantom in (b"0phantom", b"phantom"):
        bench = Bench(MemoryStorage(0, UNLIMITED))
        session = many(bench, inside=True)
        session.put(b"0new9", b"")
        session.delete(MANY[9])
        _, found = shares(session.view(finding(b"0", matcher=EndsWith(b"9"))), session.work)
        assert found == sorted([*MANY[19::10], b"0new9"])
        bench.storage.put(phantom, b"")
        assert isinstance(session.commit(), Conflict if phantom.startswith(b"0") else Committed)
        bench.assert_nothing_is_held()


@pytest.mark.parametrize("spare", [1, 0, -1])
def test_find_keys_finds_up_to_what_a_reply_may_hold(spare: int) -> None:
    """Just below it, at it, and not a byte above."""
    bench = Bench()
    keys = [b"aaaa", b"bbbb", b"cccc"]
    session = filled(bench, dict.fromkeys(keys, b""), inside=False)
    search = finding(max_bytes=12 + spare)
    if spare < 0:
        with pytest.raises(ResultTooLargeError):
            run(session.view(search))
    else:
        assert run(session.view(search)) == keys
    bench.assert_nothing_is_held()


def test_find_keys_may_be_run_again() -> None:
    """The very same operation, as when a transaction is tried again: it begins afresh."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    session = many(bench)
    search = finding(matcher=EndsWith(b"99"))
    for _ in range(2):
        yields, found = shares(session.view(search), session.work)
        assert found == MANY[99::100]
        assert yields > 2


def test_find_keys_that_failed_begins_afresh() -> None:
    """What it had found before came of another moment."""
    engine = ScriptedStorage()
    bench = Bench(engine)
    session = many(bench)
    search = finding(matcher=EndsWith(b"99"))
    steps = suspend(session.view(search), session.work)
    engine.on["Snapshot.scan"] = raising(StorageUnavailableError("not now"))
    with pytest.raises(StorageUnavailableError):
        run(steps)
    bench.assert_nothing_is_held()
    engine.on.clear()
    bench.storage.delete(MANY[99])
    assert run(session.view(search)) == MANY[199::100]


def test_find_keys_that_is_closed_leaves_nothing_behind() -> None:
    """Its client may go between two shares."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    session = many(bench)
    steps = suspend(session.view(finding()), session.work, 100)
    assert bench.storage.open_snapshots == 1
    steps.close()
    assert session.depth == 0
    bench.assert_nothing_is_held()


def test_find_keys_among_many_pending_writes_makes_way_as_well() -> None:
    """They are put in order in shares, once for all pages."""
    bench = Bench()
    session = filled(bench, {b"stored": b""}, inside=True)
    for key in MANY:
        session.put(key, b"")
    yields, found = shares(session.view(finding(matcher=EndsWith(b"9"))), session.work)
    assert found == MANY[9::10]
    assert yields > 10
    assert run(session.count(b"")) == len(MANY) + 1
