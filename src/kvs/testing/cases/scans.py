"""``scan`` and ``count``: keys in byte order, with a cursor that needs no state in the engine."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvs.domain.values import Key
from kvs.ports.storage import Storage
from kvs.testing.cases.base import EDGE_CASE_KEYS, StorageCases, put_all


class ScanCases(StorageCases):
    """What ``scan`` and ``count`` return."""

    def test_scans_are_in_byte_order(self, storage: Storage) -> None:
        """``scan``: in byte order, not in the order of writes or of an alphabet."""
        put_all(storage, *reversed(EDGE_CASE_KEYS))
        assert storage.scan(b"", b"", 100) == sorted(EDGE_CASE_KEYS)

    @pytest.mark.parametrize("limit", [1, 2, 3, 4])
    def test_a_scan_is_cut_at_its_limit(self, storage: Storage, limit: int) -> None:
        """``scan``: the first ``limit`` keys; tried with limits below, at and above the number of keys."""
        put_all(storage, b"a", b"b", b"c")
        assert storage.scan(b"", b"", limit) == [b"a", b"b", b"c"][:limit]

    def test_a_scan_starts_after_a_key_that_need_not_exist(self, storage: Storage) -> None:
        """``scan``: the last key of one call is the cursor of the next, even if it has been deleted meanwhile."""
        put_all(storage, b"a", b"b", b"c", b"d")
        assert storage.scan(b"", b"", 2) == [b"a", b"b"]
        storage.delete(b"b")
        assert storage.scan(b"", b"b", 2) == [b"c", b"d"]
        assert storage.scan(b"", b"d", 2) == []
        assert storage.scan(b"", b"bb", 10) == [b"c", b"d"]

    def test_pages_are_all_the_keys_and_each_once(self, storage: Storage) -> None:
        """``scan``: the last key of one call is the ``after`` of the next, to the end of the prefix."""
        keys = [b"p%03d" % number for number in range(100)]
        put_all(storage, b"o", *keys, b"q")
        pages: list[Key] = []
        for _ in range(100 // 7 + 2):  # one more than needed: an empty page is the end
            pages += storage.scan(b"p", pages[-1] if pages else b"", 7)
        assert pages == keys

    def test_a_prefix_of_ff_has_no_end(self, storage: Storage) -> None:
        """``scan``: no key comes after those with a prefix of 0xff bytes."""
        put_all(storage, b"\xfe", b"\xfe\xff", b"\xff", b"\xff\0", b"\xff\xff", b"\xff\xff\xff")
        assert storage.scan(b"\xff", b"", 10) == [b"\xff", b"\xff\0", b"\xff\xff", b"\xff\xff\xff"]
        assert storage.scan(b"\xff\xff", b"\xff\xff", 10) == [b"\xff\xff\xff"]
        assert storage.count(b"\xfe\xff") == 1
        assert storage.count(b"\xff") == 4

    # Several engines run this one test, which Hypothesis checks by default. All examples share an engine; each empties
    # it first. There is no deadline, because this suite does not judge how fast an engine is.
    @given(
        keys=st.sets(st.one_of(st.binary(min_size=1, max_size=3), st.sampled_from(EDGE_CASE_KEYS)), max_size=30),
        gone=st.sets(st.binary(min_size=1, max_size=1), max_size=5),
        prefix=st.one_of(st.binary(max_size=2), st.sampled_from([b"\xff", b"\xff\xff", b"a\xff"])),
        after=st.binary(max_size=3),
        limit=st.integers(1, 40),
    )
    @settings(
        deadline=None, suppress_health_check=[HealthCheck.differing_executors, HealthCheck.function_scoped_fixture]
    )
    def test_scans_and_counts_agree_with_a_sorted_list(
        self, storage: Storage, keys: set[Key], gone: set[Key], prefix: Key, after: Key, limit: int
    ) -> None:
        """``scan`` and ``count``: of the engine and of a snapshot, whatever the bytes."""
        for key in storage.scan(b"", b"", 1 << 20):
            storage.delete(key)
        put_all(storage, *keys)
        snapshot = storage.snapshot()
        for key in gone:
            assert storage.delete(key) == (key in keys)
        for view, there in ((storage, keys - gone), (snapshot, keys)):
            under = sorted(key for key in there if key.startswith(prefix))
            assert view.count(prefix) == len(under)
            assert view.scan(prefix, after, limit) == [key for key in under if key > after][:limit]
            assert view.count(b"") == len(there)
        snapshot.close()
