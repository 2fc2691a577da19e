"""Transactions, ranges and compaction, with a real etcd."""

from queue import SimpleQueue

import pytest

from kvs.adapters.storage.etcd.client.answers import TxnResult
from kvs.adapters.storage.etcd.client.errors import (
    CompactedError,
    EtcdError,
    FutureRevisionError,
    InvalidRequestError,
    NotSentError,
    RequestTooLargeError,
)
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import (
    MAX_REQUEST_BYTES,
    MAX_TXN_OPERATIONS,
    absent,
    create_revision_is,
    delete,
    exists,
    get,
    mod_revision_is,
    prefix_end,
    put,
    value_is,
)


def test_a_txn_does_one_branch_or_the_other(client: EtcdClient, place: bytes) -> None:
    """And tells what its reads found, in order."""
    key = place + b"a"
    first = client.txn([absent(key)], [put(key, b"one"), get(key)], [get(key)])
    assert first.succeeded
    assert first.ranges[0] is None
    assert first.ranges[1] is not None
    assert [found.value for found in first.ranges[1].kvs] == [b"one"]
    second = client.txn([absent(key)], [put(key, b"two")], [get(key)])
    assert not second.succeeded
    assert second.ranges[0] is not None
    assert second.ranges[0].kvs[0].create_revision == first.header.revision
    assert client.range(key).kvs[0].value == b"one"


def test_each_compare_holds_of_what_is_there_and_of_nothing_else(client: EtcdClient, place: bytes) -> None:
    """Revisions, value, existence."""
    key, other = place + b"a", place + b"b"
    created = client.txn([], [put(key, b"one")]).header.revision
    changed = client.txn([], [put(key, b"two")]).header.revision
    for compare in (
        create_revision_is(key, created),
        mod_revision_is(key, changed),
        value_is(key, b"two"),
        exists(key),
        absent(other),
    ):
        assert client.txn([compare], []).succeeded
    for compare in (
        create_revision_is(key, changed),
        mod_revision_is(key, created),
        value_is(key, b"one"),
        absent(key),
        exists(other),
        value_is(other, b""),
    ):
        assert not client.txn([compare], []).succeeded


def test_deletes_take_a_key_or_a_range(client: EtcdClient, place: bytes) -> None:
    """Up to the end, exclusive."""
    client.txn([], [put(place + b"%d" % number, b"") for number in range(5)])
    client.txn([], [delete(place + b"0"), delete(place + b"2", place + b"4")])
    assert [found.key for found in client.range(place, prefix_end(place)).kvs] == [place + b"1", place + b"4"]


def test_pages_of_one_revision_do_not_see_later_changes(client: EtcdClient, place: bytes) -> None:
    """Keys alone."""
    keys = [place + b"%d" % number for number in range(5)]
    revision = client.txn([], [put(key, b"x") for key in keys]).header.revision
    client.txn([], [delete(place, prefix_end(place))])
    seen: list[bytes] = []
    start = place
    while True:
        page = client.range(start, prefix_end(place), limit=2, revision=revision, keys_only=True)
        assert all(found.value == b"" for found in page.kvs)
        seen += [found.key for found in page.kvs]
        if not page.more:
            break
        start = seen[-1] + b"\0"
    assert seen == keys


def test_what_was_compacted_is_an_error_of_its_own(client: EtcdClient, place: bytes) -> None:
    """As is what has not come to pass."""
    first = client.txn([], [put(place, b"one")]).header.revision
    last = client.txn([], [put(place, b"two")]).header.revision
    client.compact(last, physical=True)
    with pytest.raises(CompactedError):
        client.range(place, revision=first)
    with pytest.raises(CompactedError):
        client.compact(first)
    with pytest.raises(FutureRevisionError):
        client.range(place, revision=last + 1000)


def test_a_request_up_to_the_limit_is_accepted_and_larger_ones_are_refused_as_too_large(
    client: EtcdClient, place: bytes
) -> None:
    """By etcd's limit, and by that of its gRPC, which is half a mebibyte higher."""
    assert client.txn([], [put(place, bytes(MAX_REQUEST_BYTES - 1000))]).succeeded
    for size in (MAX_REQUEST_BYTES, 2 * MAX_REQUEST_BYTES):
        with pytest.raises(RequestTooLargeError):
            client.txn([], [put(place + b"large", bytes(size))])
    assert not client.range(place + b"large").kvs


def test_a_large_answer_comes_whole(client: EtcdClient, place: bytes) -> None:
    """Larger than what a stream may bring before somebody consumes it."""
    for number in range(6):
        client.txn([], [put(place + b"%d" % number, bytes([number]) * (1 << 20))])
    found = client.range(place, prefix_end(place)).kvs
    assert [(len(kv.value), set(kv.value)) for kv in found] == [(1 << 20, {number}) for number in range(6)]
    client.txn([], [delete(place, prefix_end(place))])


def test_a_txn_of_too_many_operations_or_of_one_key_twice_is_refused(client: EtcdClient, place: bytes) -> None:
    """For good."""
    keys = [place + b"%d" % number for number in range(MAX_TXN_OPERATIONS + 1)]
    assert client.txn([], [put(key, b"") for key in keys[:-1]]).succeeded
    with pytest.raises(InvalidRequestError, match="too many operations"):
        client.txn([], [put(key, b"") for key in keys])
    with pytest.raises(InvalidRequestError, match="duplicate key"):
        client.txn([], [put(place, b""), put(place, b"")])


def test_submitted_transactions_are_told_one_by_one_and_the_fence_lets_no_gap_arise(
    client: EtcdClient, place: bytes
) -> None:
    """Whatever order etcd runs them in."""
    told: SimpleQueue[tuple[int, TxnResult | EtcdError]] = SimpleQueue()
    for number in range(50):
        before, this = place + b"%03d" % (number - 1), place + b"%03d" % number
        compares = [absent(this), *([exists(before)] if number else [])]
        client.submit_txn(
            compares,
            [put(this, bytes(1000))],
            [],
            lambda result, number=number: told.put((number, result)),  # type: ignore[misc]
        )
    outcomes = dict(told.get(timeout=30) for _ in range(50))
    assert sorted(outcomes) == list(range(50))
    applied = []
    for number, outcome in outcomes.items():
        assert isinstance(outcome, TxnResult)
        if outcome.succeeded:
            applied.append(number)
    assert sorted(applied) == list(range(len(applied)))
    assert client.range(place, prefix_end(place)).total == len(applied)


def test_calls_after_the_end_are_known_not_to_have_been_sent(client: EtcdClient, place: bytes) -> None:
    """And it can be ended twice."""
    client.range(place)
    client.close()
    client.close()
    with pytest.raises(NotSentError):
        client.range(place)
