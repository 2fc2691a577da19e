"""The reserved part of the key space, which no client sees."""

import pytest

from kvs.adapters.inbound.protocol.messages import conflict_message
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.application.operations import find_keys, get_many, random_key
from kvs.domain.commit import Committed, Conflict, KeyRange
from kvs.domain.grants import EVERYTHING
from kvs.domain.keyspace import RESERVED
from kvs.domain.updates import Replace
from kvs.domain.values import Key
from tests.support.sessions import UNLIMITED, Bench, run

KEYS = [b"a", b"\xfe", b"\xff", b"\xff\x00k", b"\xff\xffk"]
OURS = RESERVED + b"\x00k"  # the stored form of no client's key


@pytest.fixture
def bench() -> Bench:
    """Return sessions over an engine with clients' keys and reserved ones."""
    bench = Bench(MemoryStorage(0, UNLIMITED))
    session = bench.open()
    for key in KEYS:
        session.put(key, b"v" + key)
    for number in range(3):
        bench.storage.put(RESERVED + b"%c" % number, b"ours")
    return bench


@pytest.mark.parametrize("inside", [False, True])
class TestReads:
    """What a client reads."""

    @pytest.mark.parametrize("limit", range(1, 7))
    def test_pages_have_clients_keys_only(self, bench: Bench, inside: bool, limit: int) -> None:
        session = bench.open()
        if inside:
            session.start()
            session.put(b"\xff\x01", b"")
        found: list[Key] = []
        while True:
            page = run(session.keys(b"", found[-1] if found else b"", limit))
            found += page
            if len(page) < limit:
                break
        assert found == sorted([*KEYS, *([b"\xff\x01"] if inside else [])])

    def test_counts_are_of_clients_keys(self, bench: Bench, inside: bool) -> None:
        session = bench.open()
        if inside:
            session.start()
            session.delete(b"\xff")
        assert run(session.count(b"")) == len(KEYS) - inside
        assert run(session.count(b"\xff")) == 3 - inside
        assert run(session.count(b"\xff\x00")) == 1

    def test_reserved_values_cannot_be_read_or_changed(self, bench: Bench, inside: bool) -> None:
        session = bench.open()
        if inside:
            session.start()
        assert session.get(OURS) == b"v" + OURS  # the client's key of these bytes
        assert session.get(RESERVED + b"\x01") is None
        assert not session.delete(RESERVED + b"\x01")
        assert run(session.view(lambda one: get_many([b"\xff", b"\xff\x01"], 100, one))) == [b"v\xff", None]
        assert run(session.view(lambda one: find_keys(b"", None, 1000, one))) == KEYS
        assert run(session.view(random_key)) in KEYS
        session.reset()
        assert bench.storage.get(RESERVED + b"\x01") == b"ours"


class TestConflicts:
    """What a commit depends on."""

    def test_change_of_reserved_keys_is_no_conflict_for_who_read_all_keys(self, bench: Bench) -> None:
        session = bench.open()
        session.start()
        run(session.count(b""))
        run(session.keys(b"", b"", 100))
        session.put(b"mine", b"")
        bench.storage.put(RESERVED + b"\x07", b"")
        bench.storage.delete(RESERVED + b"\x00")
        assert isinstance(session.commit(), Committed)

    @pytest.mark.parametrize("key", [b"\x00", b"\xff\x05", b"\xff\xff\xff"])
    def test_new_key_of_a_client_is_a_conflict(self, bench: Bench, key: Key) -> None:
        session, other = bench.open(), bench.open()
        session.start()
        run(session.count(b""))
        session.put(b"mine", b"")
        other.put(key, b"")
        outcome = session.commit()
        assert isinstance(outcome, Conflict)
        assert outcome.ranges == (KeyRange(b"", None),)
        assert conflict_message(outcome, EVERYTHING).startswith("the set of keys changed")

    def test_new_key_is_in_the_range_that_was_read(self, bench: Bench) -> None:
        session, other = bench.open(), bench.open()
        session.start()
        run(session.keys(b"\xff", b"", 100))
        session.put(b"mine", b"")
        other.put(b"\xff\x05", b"")
        outcome = session.commit()
        assert isinstance(outcome, Conflict)
        assert outcome.ranges == (KeyRange(b"\xff", None),)
        assert "the keys under" in conflict_message(outcome, EVERYTHING)

    def test_conflict_names_the_clients_key(self, bench: Bench) -> None:
        session, other = bench.open(), bench.open()
        session.start()
        session.get(b"\xffk")
        session.put(b"mine", b"")
        other.put_all([b"\xffk", b"b"], [b"", b""])
        outcome = session.commit()
        assert isinstance(outcome, Conflict)
        assert outcome.keys == (b"\xffk",)

    def test_watched_key_is_the_clients_key(self, bench: Bench) -> None:
        session, other = bench.open(), bench.open()
        session.watch([b"\xffk"])
        other.update(b"\xffk", Replace(b"other"))
        outcome = session.execute_put_all({b"\xffk": b"mine"})
        assert isinstance(outcome, Conflict)
        assert outcome.keys == (b"\xffk",)
        assert isinstance(session.execute_put_all({b"\xffk": b"mine"}), Committed)
        assert session.get(b"\xffk") == b"mine"
