"""Entries are appended in order, each behind the one before it, and read only so."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from kvs.adapters.storage.etcd import journal as journal_module
from kvs.adapters.storage.etcd import replica as replica_module
from kvs.adapters.storage.etcd.backlog import Backlog
from kvs.adapters.storage.etcd.client.answers import TxnResult
from kvs.adapters.storage.etcd.client.errors import DeadlineExceededError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import delete, exists, put
from kvs.adapters.storage.etcd.clock import ServerTime
from kvs.adapters.storage.etcd.entry import Header, _decode_header
from kvs.adapters.storage.etcd.journal import EtcdJournal
from kvs.adapters.storage.etcd.layout import EMPTY, MAX_VALUE_BYTES, Head, Keys, LayoutError, encoded
from kvs.adapters.storage.etcd.lead import Keeper, Lead
from kvs.domain.values import Key, Value
from kvs.ports.candidate import LeadLostError
from tests.support.etcd_leader import read, skew, topology, wall_ms
from tests.support.journals import append

LEASE_S = 2


class Place:
    """A namespace with a leader, and its journal."""

    def __init__(self, stack: ExitStack, client: EtcdClient, place: bytes) -> None:
        self.client = client
        self.keys = Keys(place)
        lease = client.grant(LEASE_S).id
        term = client.txn([], [put(self.keys.leader, b"{}", lease)]).header.revision
        self.lead = Lead(self.keys, "a", term, lease, LEASE_S)
        server_time = ServerTime(wall_ms(), skew(), time.monotonic)
        self._keeper = Keeper(client, self.keys, self.lead, server_time, topology())
        stack.callback(self._keeper.release)
        self.journal = EtcdJournal(
            client, self.keys, self.lead, self._keeper, EMPTY, Backlog(EMPTY, 0, 1 << 20), 10.0, "lease"
        )

    def append(self, *names: bytes) -> None:
        """Append an entry for each key."""
        for name in names:
            append(self.journal, [(name, b"v")])

    def read(self) -> dict[Key, Value]:
        """Return what a server reads that starts."""
        return read(self.client, self.keys.prefix)

    def go_back(self, head: Head) -> None:
        """Have the namespace as it was before the second entry, as from a backup."""
        self.client.txn([], [put(self.keys.head, encoded(head)), delete(self.keys.entry(2))])


@pytest.fixture
def place(client: EtcdClient, place: bytes) -> Iterator[Place]:
    """Return a place with a leader."""
    with ExitStack() as stack:
        yield Place(stack, client, place)


def test_a_leader_that_is_ahead_of_the_journal_writes_nothing(place: Place) -> None:
    """It goes no further, and what is there is whole."""
    place.append(b"a")
    head = place.journal.head
    place.append(b"b")
    place.go_back(head)
    with pytest.raises(LeadLostError, match="were changed by something else"):
        place.append(b"c")
    assert place.read() == {b"a": b"v"}


def test_a_leader_that_is_ahead_of_the_journal_answers_no_reads(place: Place) -> None:
    """If it asks etcd before it does."""
    place.append(b"a")
    head = place.journal.head
    place.append(b"b")
    append(place.journal, [])
    place.go_back(head)
    with pytest.raises(LeadLostError, match="were changed by something else"):
        append(place.journal, [])


def test_without_the_compare_of_the_head_there_is_a_gap(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """So this is what it is for."""
    place.append(b"a")
    head = place.journal.head
    place.append(b"b")
    place.go_back(head)
    for compare in ("value_is", "absent"):
        monkeypatch.setattr(journal_module, compare, lambda *_: exists(place.keys.leader))
    place.append(b"c")
    with pytest.raises(LayoutError, match="does not follow entry 1"):
        place.read()


def test_a_gap_is_not_read(place: Place) -> None:
    """An entry that is missing is an error, wherever it is."""
    place.append(b"a", b"b", b"c")
    assert place.read() == {b"a": b"v", b"b": b"v", b"c": b"v"}
    (last,) = place.client.range(place.keys.entry(3)).kvs
    place.client.txn([], [delete(place.keys.entry(3))])
    with pytest.raises(LayoutError, match="ends with entry 2, and its head is 3"):
        place.read()
    place.client.txn([], [put(last.key, last.value), delete(place.keys.entry(2))])
    with pytest.raises(LayoutError, match="does not follow entry 1"):
        place.read()


def test_without_the_chain_a_gap_is_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """So this is what it is for: an acknowledged commit is not there."""

    def decode(entry: bytes, _head: Head, _where: str) -> Header:
        return _decode_header(entry)

    place.append(b"a", b"b", b"c")
    place.client.txn([], [delete(place.keys.entry(2))])
    monkeypatch.setattr(replica_module, "decode_entry", decode)
    assert place.read() == {b"a": b"v", b"c": b"v"}


@pytest.mark.parametrize("what", ["deleted", "taken"])
def test_a_leader_whose_key_is_another_writes_nothing(place: Place, what: str) -> None:
    """By an operator, or as its lease has ended, whoever has ended it."""
    place.append(b"a")
    place.client.txn([], [delete(place.keys.leader)])
    if what == "taken":
        place.client.txn([], [put(place.keys.leader, b"{}")])
    with pytest.raises(LeadLostError, match="another server has taken it, or its lease has ended"):
        place.append(b"b")
    assert place.read() == {b"a": b"v"}
    assert not place.lead.may_read


def test_a_large_batch_has_its_time_for_each_part(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here each takes nearly as long as a commit may, and the second sending is answered."""
    now_s = time.monotonic()
    real = place.client.txn
    calls = 0

    def txn(*args: Any, **options: Any) -> TxnResult:
        nonlocal now_s, calls
        calls += 1
        if calls % 2:
            now_s += 9
            raise DeadlineExceededError("planted")
        return real(*args, **options)

    monkeypatch.setattr(place.client, "txn", txn)
    monkeypatch.setattr(journal_module, "time", SimpleNamespace(monotonic=lambda: now_s, sleep=lambda _: None))
    value = bytes(3 * MAX_VALUE_BYTES)
    append(place.journal, [(b"large", value)])
    assert calls > 6
    monkeypatch.undo()
    assert place.read() == {b"large": value}


def test_commits_go_by_another_way_than_large_reads(place: Place) -> None:
    """An answer of many megabytes is in nobody's way."""
    place.append(b"a")
    before = place.client._calls._http2._next
    place.append(b"b", b"c")
    assert place.client._calls._http2._next == before
