"""How requests to etcd are encoded (``rpc.proto``): as parts, so that a batch is not copied on the caller's thread."""

from collections.abc import Sequence
from typing import Final, TypeAlias

from kvs.adapters.storage.etcd.client.wire import bytes_field, field_head, number_field, number_field_always

MAX_REQUEST_BYTES: Final = 1_572_864
"""etcd's default for ``--max-request-bytes`` (1.5 MiB), of the whole encoded request."""

SMALL_PART_BYTES: Final = 8 << 10
"""Parts up to that size are joined: each part becomes a frame of its own."""

Operation: TypeAlias = tuple[bytes, ...]
"""One of a transaction, in parts."""

MAX_TXN_OPERATIONS: Final = 128
"""etcd's default for ``--max-txn-ops``, of each: compares, operations if they hold, operations if not."""

# Methods.
RANGE: Final = "/etcdserverpb.KV/Range"
TXN: Final = "/etcdserverpb.KV/Txn"
COMPACT: Final = "/etcdserverpb.KV/Compact"
WATCH: Final = "/etcdserverpb.Watch/Watch"
LEASE_GRANT: Final = "/etcdserverpb.Lease/LeaseGrant"
LEASE_REVOKE: Final = "/etcdserverpb.Lease/LeaseRevoke"
LEASE_KEEP_ALIVE: Final = "/etcdserverpb.Lease/LeaseKeepAlive"
MEMBER_LIST: Final = "/etcdserverpb.Cluster/MemberList"
ALARM: Final = "/etcdserverpb.Maintenance/Alarm"
STATUS: Final = "/etcdserverpb.Maintenance/Status"
DEFRAGMENT: Final = "/etcdserverpb.Maintenance/Defragment"
AUTHENTICATE: Final = "/etcdserverpb.Auth/Authenticate"

AGREED: Final = frozenset((RANGE, TXN, COMPACT, LEASE_GRANT, LEASE_REVOKE, ALARM, AUTHENTICATE))
"""What a member answers only together with a majority. All others it answers by itself, also if its disk hangs: leases
of a raft leader are kept alive in memory."""

# Alarms.
NO_ALARM: Final = 0
NOSPACE: Final = 1


# Parts of a transaction.


def _compare(target: int, key: bytes, operand: bytes) -> bytes:
    return bytes_field(1, number_field(2, target) + bytes_field(3, key) + operand)


def create_revision_is(key: bytes, revision: int) -> bytes:
    """Compare the revision at which the key was created."""
    return _compare(1, key, number_field_always(5, revision))


def mod_revision_is(key: bytes, revision: int) -> bytes:
    """Compare the revision at which the key was put last."""
    return _compare(2, key, number_field_always(6, revision))


def mod_revision_is_at_least(key: bytes, revision: int) -> bytes:
    """Compare the same, for no less; that of a key that does not exist is 0."""
    return bytes_field(
        1, number_field(1, 1) + number_field(2, 2) + bytes_field(3, key) + number_field_always(6, revision - 1)
    )


def none_newer(key: bytes, end: bytes, revision: int) -> bytes:
    """Compare: no key of a range was put after a revision."""
    compare = number_field(1, 2) + number_field(2, 2) + bytes_field(3, key) + number_field_always(6, revision + 1)
    return bytes_field(1, compare + bytes_field(64, end))


def value_is(key: bytes, value: bytes) -> bytes:
    """Compare the value; false of a key that does not exist."""
    return _compare(3, key, bytes_field(7, value))


def absent(key: bytes) -> bytes:
    """Compare: the key does not exist."""
    return create_revision_is(key, 0)


def exists(key: bytes) -> bytes:
    """Compare: the key exists."""
    return bytes_field(1, number_field(1, 1) + number_field(2, 1) + bytes_field(3, key) + number_field_always(5, 0))


def put(key: bytes, value: bytes, lease: int = 0) -> Operation:
    """Operation: put a key, under a lease if there is one."""
    key_head = field_head(1, len(key))
    value_head = field_head(2, len(value))
    under = number_field(3, lease)
    size = len(key_head) + len(key) + len(value_head) + len(value) + len(under)
    return (b"".join((field_head(2, size), key_head, key, value_head)), value, under)


def get(key: bytes, end: bytes = b"", limit: int = 0) -> Operation:
    """Operation: read a key, or a range up to ``end``."""
    return (bytes_field(1, range_request(key, end, limit=limit)),)


def delete(key: bytes, end: bytes = b"") -> Operation:
    """Operation: delete a key, or a range up to ``end``."""
    return (bytes_field(3, bytes_field(1, key) + (bytes_field(2, end) if end else b"")),)


def txn_request(
    compares: Sequence[bytes], then: Sequence[Operation], otherwise: Sequence[Operation] = ()
) -> list[bytes]:
    """Return the parts of a transaction: ``then`` is done if all compares hold, else ``otherwise``."""
    parts = [*compares]
    for field, operations in ((2, then), (3, otherwise)):
        for operation in operations:
            parts.append(field_head(field, sum(map(len, operation))))
            parts += operation
    return _with_small_ones_joined(parts)


def _with_small_ones_joined(parts: list[bytes]) -> list[bytes]:
    joined: list[bytes] = []
    small: list[bytes] = []
    for part in parts:
        if len(part) <= SMALL_PART_BYTES:
            small.append(part)
        else:
            joined += (b"".join(small), part)
            small.clear()
    joined.append(b"".join(small))
    return joined


def prefix_end(prefix: bytes) -> bytes:
    """Return the key behind all that begin with a prefix."""
    shortened = prefix.rstrip(b"\xff")
    return shortened[:-1] + bytes((shortened[-1] + 1,)) if shortened else b"\0"


def range_request(
    key: bytes,
    end: bytes = b"",
    *,
    limit: int = 0,
    revision: int = 0,
    keys_only: bool = False,
) -> bytes:
    """Return the request of a range, in the order of keys."""
    return b"".join(
        (
            bytes_field(1, key),
            bytes_field(2, end) if end else b"",
            number_field(3, limit),
            number_field(4, revision),
            number_field(8, keys_only),
        )
    )


def watch_request(key: bytes, end: bytes, revision: int) -> bytes:
    """Return the request of a watch from a revision on, in fragments, with signs of progress."""
    created = b"".join(
        (
            bytes_field(1, key),
            bytes_field(2, end) if end else b"",
            number_field(3, revision),
            number_field(4, 1),
            number_field(8, 1),
        )
    )
    return bytes_field(1, created)


PROGRESS_REQUEST: Final = bytes_field(3, b"")
"""Asks a watch stream how far it is (etcd 3.4)."""


def lease_grant_request(ttl_s: int, lease: int = 0) -> bytes:
    """Return the request of a lease, of a number that etcd chooses if it is 0."""
    return number_field(1, ttl_s) + number_field(2, lease)


def lease_request(lease: int) -> bytes:
    """Return the request to revoke a lease, or to keep it alive."""
    return number_field(1, lease)


def compact_request(revision: int, *, physical: bool) -> bytes:
    """Return the request to forget what is older than a revision; a physical one is answered when that is done."""
    return number_field(1, revision) + number_field(2, physical)


def alarm_request(member_id: int = 0, kind: int = NO_ALARM, *, disarm: bool = False) -> bytes:
    """Return the request to list alarms, or to disarm one."""
    return number_field(1, 2 if disarm else 0) + number_field(2, member_id) + number_field(3, kind)


def authenticate_request(user: str, password: str) -> bytes:
    return bytes_field(1, user.encode()) + bytes_field(2, password.encode())
