"""What the servers of a namespace agree on: the key ``cluster``."""

import secrets
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from kvs.adapters.storage.etcd.client.answers import KeyValue, RangeResult
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import absent, get, mod_revision_is, none_newer, put
from kvs.adapters.storage.etcd.formats import WRITES, refusal_to_use
from kvs.adapters.storage.etcd.layout import ClusterRecord, Heartbeat, Keys, decoded, encoded
from kvs.adapters.storage.etcd.lead import MARGIN_SHARE
from kvs.engine import StorageOpenError

SECRET_BYTES: Final = 16


class Agreement(NamedTuple):
    """What they agree on, and the revision at which it was written."""

    record: ClusterRecord
    revision: int


def join(client: EtcdClient, keys: Keys, lease_s: int, sentinel_name: str, sleep: Callable[[float], None]) -> Agreement:
    """Check that this server agrees with the others of the namespace, or be the first; return what they agree on.

    Where no other server is, what is given here is taken in place of what they had agreed on.

    Args:
        client: Calls etcd.
        keys: The names of keys.
        lease_s: The term of a lease.
        sentinel_name: What clients of Redis Sentinel call the data set.
        sleep: Waits so many seconds, or raises what ends it.

    Raises:
        StorageOpenError: It does not agree.
        LayoutError: The namespace is not one of kvs.
        EtcdError: etcd does not answer.
    """
    ours = ClusterRecord(secrets.token_hex(SECRET_BYTES), max(WRITES), lease_s, sentinel_name)
    looks = [get(keys.cluster), get(keys.alive), get(keys.head), get(keys.leader)]
    looks.append(get(keys.servers, keys.end(keys.servers), limit=1))
    seen: tuple[int, int] | None = None
    while True:
        result = client.txn([absent(keys.cluster)], [put(keys.cluster, encoded(ours))], looks)
        if result.succeeded:
            return Agreement(ours, result.header.revision)
        found, alive, head, leader, server = map(_one, result.ranges)
        if found is None:
            raise StorageOpenError(f"etcd: {keys.cluster.decode()}: has been deleted just now; start again")
        theirs = decoded(keys.cluster, found.value, ClusterRecord)
        if refusal := refusal_to_use(theirs.format):
            raise StorageOpenError(f"etcd: {keys.prefix.decode()}: {refusal}")
        differs = difference(keys, theirs, lease_s, sentinel_name)
        if not differs and theirs.sentinel_name:
            return Agreement(theirs, found.mod_revision)
        unchanged = [mod_revision_is(keys.cluster, found.mod_revision)]
        if differs:
            if leader is not None or server is not None:
                raise StorageOpenError(f"etcd: {differs}; to change that, stop all servers of the namespace first")
            before, seen = seen, (_revision(alive), _revision(head))
            if seen != before and not _is_released(keys, alive, head):
                # A leader that lost its registration may answer reads for as long as was agreed before.
                sleep(theirs.lease_s * (1 + MARGIN_SHARE))
                continue
            unchanged += [mod_revision_is(keys.alive, seen[0]), mod_revision_is(keys.head, seen[1])]
            unchanged += [absent(keys.leader), none_newer(keys.servers, keys.end(keys.servers), 0)]
        record = msgspec.structs.replace(theirs, lease_s=lease_s, sentinel_name=sentinel_name)
        result = client.txn(unchanged, [put(keys.cluster, encoded(record))])
        if result.succeeded:
            return Agreement(record, result.header.revision)


def difference(keys: Keys, theirs: ClusterRecord, lease_s: int, sentinel_name: str) -> str:
    """Return what differs between a server and what is agreed on; empty if nothing does."""
    pairs: dict[str, tuple[object, object]] = {"lease_s": (lease_s, theirs.lease_s)}
    if theirs.sentinel_name:
        pairs["sentinel_name"] = (sentinel_name, theirs.sentinel_name)
    told = [f"{name} is {here} here and {there}" for name, (here, there) in pairs.items() if here != there]
    if not told:
        return ""
    return f"{', '.join(told)} in {keys.cluster.decode()}; all servers of a namespace must have the same"


def _is_released(keys: Keys, alive: KeyValue | None, head: KeyValue | None) -> bool:
    """Return whether no former leader may answer reads."""
    return head is None if alive is None else decoded(keys.alive, alive.value, Heartbeat).released


def _one(result: RangeResult | None) -> KeyValue | None:
    return result.kvs[0] if result is not None and result.kvs else None


def _revision(found: KeyValue | None) -> int:
    return 0 if found is None else found.mod_revision
