"""What the servers of a namespace agree on: the key ``cluster``."""

import secrets
from typing import Final

from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import absent, get, put
from kvs.adapters.storage.etcd.layout import FORMAT, ClusterRecord, Keys, decoded, encoded
from kvs.engine import StorageOpenError

SECRET_BYTES: Final = 16


def join(client: EtcdClient, keys: Keys, lease_s: int) -> ClusterRecord:
    """Check that this server agrees with the others of the namespace, or be the first; return what they agree on.

    Raises:
        StorageOpenError: It does not agree.
        LayoutError: The namespace is not one of kvs.
        EtcdError: etcd does not answer.
    """
    ours = ClusterRecord(secrets.token_hex(SECRET_BYTES), FORMAT, lease_s)
    result = client.txn([absent(keys.cluster)], [put(keys.cluster, encoded(ours))], [get(keys.cluster)])
    if result.succeeded:
        return ours
    (found,) = result.ranges
    if found is None or not found.kvs:
        raise StorageOpenError(f"etcd: {keys.cluster.decode()}: has been deleted just now; start again")
    theirs = decoded(keys.cluster, found.kvs[0].value, ClusterRecord)
    if theirs.format != FORMAT:
        raise StorageOpenError(
            f"etcd: {keys.prefix.decode()}: has format {theirs.format}; this version of kvs knows format {FORMAT}"
        )
    if theirs.lease_s != lease_s:
        raise StorageOpenError(
            f"etcd: lease_s is {lease_s} here and {theirs.lease_s} in {keys.cluster.decode()}; all servers of a "
            "namespace must have the same"
        )
    return theirs
