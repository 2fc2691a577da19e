"""What the servers of a namespace agree on: the key ``cluster``."""

import secrets
from typing import Final, NamedTuple

from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import absent, get, put
from kvs.adapters.storage.etcd.formats import WRITES, refusal_to_use
from kvs.adapters.storage.etcd.layout import ClusterRecord, Keys, decoded, encoded
from kvs.engine import StorageOpenError

SECRET_BYTES: Final = 16


class Agreement(NamedTuple):
    """What they agree on, and the revision at which it was written."""

    record: ClusterRecord
    revision: int


def join(client: EtcdClient, keys: Keys, lease_s: int) -> Agreement:
    """Check that this server agrees with the others of the namespace, or be the first; return what they agree on.

    Raises:
        StorageOpenError: It does not agree.
        LayoutError: The namespace is not one of kvs.
        EtcdError: etcd does not answer.
    """
    ours = ClusterRecord(secrets.token_hex(SECRET_BYTES), max(WRITES), lease_s)
    result = client.txn([absent(keys.cluster)], [put(keys.cluster, encoded(ours))], [get(keys.cluster)])
    if result.succeeded:
        return Agreement(ours, result.header.revision)
    (found,) = result.ranges
    if found is None or not found.kvs:
        raise StorageOpenError(f"etcd: {keys.cluster.decode()}: has been deleted just now; start again")
    theirs = decoded(keys.cluster, found.kvs[0].value, ClusterRecord)
    if refusal := refusal_to_use(theirs.format):
        raise StorageOpenError(f"etcd: {keys.prefix.decode()}: {refusal}")
    if theirs.lease_s != lease_s:
        raise StorageOpenError(
            f"etcd: lease_s is {lease_s} here and {theirs.lease_s} in {keys.cluster.decode()}; all servers of a "
            "namespace must have the same"
        )
    return Agreement(theirs, found.kvs[0].mod_revision)
