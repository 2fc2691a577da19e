"""Watches and leases, with a real etcd."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kvs.adapters.storage.etcd.client.answers import DELETE, PUT, Event
from kvs.adapters.storage.etcd.client.errors import CompactedError, EtcdError, LeaseNotFoundError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.http2 import STREAM_WINDOW
from kvs.adapters.storage.etcd.client.requests import delete, prefix_end, put
from kvs.adapters.storage.etcd.client.watch import Changes, Watch
from tests.support.waiting import TIMEOUT_S, polling


@contextmanager
def watching(client: EtcdClient, place: bytes, revision: int = 0) -> Iterator[Watch]:
    """Watch a place of keys."""
    watch = client.watch(place, prefix_end(place), revision=revision)
    try:
        yield watch
    finally:
        watch.close()


def next_changes(watch: Watch) -> Changes:
    """Return the next changes, whatever progress is told before."""
    while True:
        changes = watch.next(TIMEOUT_S)
        assert changes is not None
        if changes.events:
            return changes


def waiting_bytes(watch: Watch) -> int:
    """Return how much waits to be taken."""
    with watch._call._changed:
        return sum(owed for _, owed in watch._call._messages)


def brief(events: tuple[Event, ...], place: bytes) -> list[tuple[int, bytes, bytes]]:
    """Return what matters of events."""
    return [(event.kind, event.kv.key.removeprefix(place), event.kv.value) for event in events]


def test_a_watch_tells_changes_of_its_range_and_of_nothing_else(client: EtcdClient, place: bytes) -> None:
    """Those of one transaction together, puts and deletes, with their revision."""
    with watching(client, place) as watch:
        client.txn([], [put(b"elsewhere", b"")])
        revision = client.txn([], [put(place + b"a", b"1"), put(place + b"b", b"2")]).header.revision
        first = next_changes(watch)
        assert first.revision == revision
        assert brief(first.events, place) == [(PUT, b"a", b"1"), (PUT, b"b", b"2")]
        client.txn([], [delete(place, prefix_end(place))])
        second = next_changes(watch)
        assert brief(second.events, place) == [(DELETE, b"a", b""), (DELETE, b"b", b"")]
        assert {event.kv.mod_revision for event in second.events} == {revision + 1}


def test_a_watch_from_a_revision_tells_what_has_been_since(client: EtcdClient, place: bytes) -> None:
    """Including that revision."""
    revisions = [client.txn([], [put(place, b"%d" % number)]).header.revision for number in range(5)]
    with watching(client, place, revisions[2]) as watch:
        seen: list[Event] = []
        while len(seen) < 3:
            seen += next_changes(watch).events
        assert [event.kv.value for event in seen] == [b"2", b"3", b"4"]
        assert [event.kv.mod_revision for event in seen] == revisions[2:]


def test_a_watch_of_what_was_compacted_says_what_is_still_there(client: EtcdClient, place: bytes) -> None:
    """So that its owner reads that anew."""
    first = client.txn([], [put(place, b"1")]).header.revision
    last = client.txn([], [put(place, b"2")]).header.revision
    client.compact(last, physical=True)
    with watching(client, place, first) as watch, pytest.raises(CompactedError) as raised:
        next_changes(watch)
    assert raised.value.revision == last


def test_a_long_history_comes_in_pieces_of_whole_revisions(client: EtcdClient, place: bytes) -> None:
    """And what nobody takes waits in etcd: the window bounds what waits here."""
    large = bytes(450_000)  # a fragment has four of them, so it may end in the middle of a revision
    keys = [place + b"a", place + b"b", place + b"c"]
    revisions = [client.txn([], [put(key, large) for key in keys]).header.revision for _ in range(20)]
    with watching(client, place, revisions[0]) as watch:
        for _ in polling("as much waits as may"):
            if waiting_bytes(watch) + len(watch._call._buffer) > STREAM_WINDOW // 2:
                break
        for _ in range(30):  # while more could come
            client.range(place, prefix_end(place))
            assert waiting_bytes(watch) <= STREAM_WINDOW
        pieces: list[Changes] = []
        while not pieces or pieces[-1].revision < revisions[-1]:
            assert waiting_bytes(watch) <= STREAM_WINDOW
            pieces.append(next_changes(watch))
    assert len(pieces) > 1
    assert [event.kv.mod_revision for piece in pieces for event in piece.events] == sorted(3 * revisions)
    assert all(len(piece.events) % 3 == 0 for piece in pieces)
    client.txn([], [delete(place, prefix_end(place))])


def test_a_watch_shows_that_it_is_alive_when_asked(client: EtcdClient, place: bytes) -> None:
    """By changes that are none."""
    with watching(client, place) as watch:
        assert watch.next(0) is None
        watch.request_progress()
        assert watch.next(TIMEOUT_S) == Changes(client.range(place).header.revision, ())


def test_a_closed_watch_wakes_who_waits_for_it(client: EtcdClient, place: bytes) -> None:
    """With an error."""
    raised: list[EtcdError] = []
    watch = client.watch(place)

    def take() -> None:
        try:
            watch.next(TIMEOUT_S)
        except EtcdError as error:
            raised.append(error)

    thread = threading.Thread(target=take)
    thread.start()
    watch.close()
    thread.join(TIMEOUT_S)
    assert len(raised) == 1


def test_a_lease_that_is_not_kept_alive_takes_its_keys_along(client: EtcdClient, place: bytes) -> None:
    """As a watch sees; one that is kept lives on."""
    kept, left = client.grant(2), client.grant(1)
    with watching(client, place) as watch:
        client.txn([], [put(place + b"kept", b"", kept.id), put(place + b"left", b"", left.id)])
        assert len(next_changes(watch).events) == 2
        for _ in polling("the lease has expired"):
            assert client.keep_alive_once(kept.id).ttl_s == kept.ttl_s
            changes = watch.next(0.1)
            if changes is not None:
                break
        assert changes is not None
        assert brief(changes.events, place) == [(DELETE, b"left", b"")]
    assert [found.key for found in client.range(place, prefix_end(place)).kvs] == [place + b"kept"]
    client.revoke(kept.id)
    assert not client.range(place, prefix_end(place)).kvs


def test_a_lease_that_has_ended_is_known_to_have(client: EtcdClient, place: bytes) -> None:
    """Whoever asks."""
    lease = client.grant(60)
    assert lease.ttl_s == 60
    client.revoke(lease.id)
    for call in (client.keep_alive_once, client.revoke):
        with pytest.raises(LeaseNotFoundError):
            call(lease.id)
    with pytest.raises(LeaseNotFoundError):
        client.txn([], [put(place, b"", lease.id)])
