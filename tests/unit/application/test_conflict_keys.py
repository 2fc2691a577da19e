"""Which keys conflicts are about: exact while they are few, and bounded when they are many."""

import random
from collections import Counter

from kvs.application.conflict_keys import COUNTERS, LONGEST_BYTES, ConflictKey, ConflictKeys
from kvs.domain.commit import Conflict, prefix_range
from tests.support.seeds import SEED
from tests.support.sessions import Bench


def test_few_keys_are_counted_exactly() -> None:
    """Keys and ranges apart, the most frequent first."""
    counted = ConflictKeys()
    for _ in range(3):
        counted.note(Conflict((b"a", b"b"), ()))
    counted.note(Conflict((b"b",), (prefix_range(b"a"),)))
    assert counted.most(10) == [
        ConflictKey(b"b", False, 4, 0),
        ConflictKey(b"a", False, 3, 0),
        ConflictKey(b"a", True, 1, 0),
    ]
    assert counted.most(1) == counted.most(10)[:1]


def test_whatever_is_frequent_is_there_among_very_many() -> None:
    """With a count that is right within its excess; memory does not grow."""
    counted, truth = ConflictKeys(), Counter[bytes]()
    draw = random.Random(SEED)
    for _ in range(20_000):
        key = b"hot%d" % draw.randrange(5) if draw.random() < 0.3 else b"cold%d" % draw.randrange(10**9)
        truth[key] += 1
        counted.note(Conflict((key,), ()))
    found = counted.most(1000)
    assert len(found) == COUNTERS
    assert sum(each.conflicts for each in found) == 20_000  # whoever takes a counter over takes its count
    assert {each.key for each in found[:5]} == {b"hot%d" % number for number in range(5)}
    for each in found:
        assert each.conflicts - each.excess <= truth[each.key] <= each.conflicts


def test_long_keys_are_kept_by_their_beginning() -> None:
    """Of each, so much."""
    counted = ConflictKeys()
    counted.note(Conflict((b"k" * 8000,), ()))
    assert counted.most(1)[0].key == b"k" * LONGEST_BYTES


def test_every_kind_of_conflict_is_counted_by_the_keys_of_the_client() -> None:
    """COMMIT, EXEC at once, EXEC in steps, and EXEC of strings; a key that begins with FF is the client's."""
    bench = Bench()
    session = bench.open()
    key = b"\xffk"

    def change() -> None:
        other = bench.open()
        other.put(key, b"")
        other.close()

    session.start()
    session.get(key)
    session.put(b"x", b"")
    change()
    session.commit()
    for execute in (
        lambda: session.execute_put_all({b"x": b""}),
        lambda: session.execute_at_once(lambda inside: inside.put(b"x", b"") or b"done"),
    ):
        session.watch([key])
        change()
        execute()
    session.close()
    assert bench.sessions.conflict_keys.most(10) == [ConflictKey(key, False, 3, 0)]
    assert bench.sessions.info()["conflicts"] == 3
