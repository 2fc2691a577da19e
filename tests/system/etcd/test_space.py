"""An etcd whose quota is reached, and gets room again."""

from queue import SimpleQueue

import pytest

from kvs.adapters.storage.etcd.client.answers import Alarm, TxnResult
from kvs.adapters.storage.etcd.client.errors import EtcdError, NoSpaceError, UnknownOutcomeError
from kvs.adapters.storage.etcd.client.requests import NOSPACE, absent, delete, prefix_end, put
from tests.support.etcd import closing, need_etcd, running_cluster

VALUE = bytes(200_000)
IN_FLIGHT = 8


def test_a_full_etcd_says_so_and_has_room_again_after_compaction_and_defragmentation(place: bytes) -> None:
    """What was answered with it may have been applied: only reading tells. Deletes are still possible."""
    need_etcd()
    with running_cluster(flags=["--quota-backend-bytes", str(8 << 20)]) as cluster, closing(cluster.client) as client:
        told: SimpleQueue[tuple[bytes, TxnResult | EtcdError]] = SimpleQueue()
        full: dict[bytes, EtcdError] = {}
        done: set[bytes] = set()
        for number in range(200):
            key = place + b"%03d" % number
            client.submit_txn(
                [absent(key)],
                [put(key, VALUE)],
                [],
                lambda outcome, key=key: told.put((key, outcome)),  # type: ignore[misc]
            )
            if number >= IN_FLIGHT:
                told_key, outcome = told.get(timeout=30)
                if isinstance(outcome, EtcdError):
                    full[told_key] = outcome
                else:
                    done.add(told_key)
            if len(full) > IN_FLIGHT:
                break
        assert {type(error) for error in full.values()} == {NoSpaceError}
        assert all(isinstance(error, UnknownOutcomeError) for error in full.values())
        (alarm,) = client.alarms()
        assert alarm == Alarm(client.members()[0].id, NOSPACE)
        assert client.status(cluster.endpoints[0]).errors

        there = {found.key for found in client.range(place, prefix_end(place), keys_only=True).kvs}
        assert done <= there
        print(f"{len(there - done)} of those answered with NOSPACE were applied")  # noqa: T201

        assert client.txn([], [delete(place, prefix_end(place))]).succeeded
        client.compact(client.range(place).header.revision, physical=True)
        client.defragment(cluster.endpoints[0], timeout_s=30)
        with pytest.raises(NoSpaceError):  # the alarm is still up
            client.txn([], [put(place, b"")])
        assert client.disarm(alarm) == (alarm,)
        assert client.alarms() == ()
        assert client.txn([], [put(place, b"")]).succeeded
