"""Single commands as one-operation transactions, over the snapshots and commits of any engine.

These are the defaults of :class:`kvs.ports.storage.Storage`. An engine that can do better overrides the method.
"""

from contextlib import closing
from typing import TYPE_CHECKING, Final

from kvs.domain.commit import CommitRequest, Committed, Conflict, ReadSet
from kvs.domain.errors import StorageUnavailableError
from kvs.domain.updates import Update, Updated
from kvs.domain.values import TOMBSTONE, Key, Value, Write

if TYPE_CHECKING:
    from kvs.ports.storage import Storage

MAX_RETRIES: Final = 1000
"""Attempts to commit before giving up. Each conflict means that another client has committed."""


def get(storage: "Storage", key: Key) -> Value | None:
    """Return the committed value of a key, or None."""
    with closing(storage.snapshot()) as snapshot:
        return snapshot.get(key)


def scan(storage: "Storage", prefix: Key, after: Key, limit: int) -> list[Key]:
    """Return committed keys."""
    with closing(storage.snapshot()) as snapshot:
        return snapshot.scan(prefix, after, limit)


def count(storage: "Storage", prefix: Key) -> int:
    """Return the number of committed keys."""
    with closing(storage.snapshot()) as snapshot:
        return snapshot.count(prefix)


def write(storage: "Storage", request: CommitRequest) -> None:
    """Apply a request without reads, which cannot conflict."""
    if not _is_committed(storage.commit(request)):
        raise TypeError("the engine returned a conflict for a commit that depends on nothing")


def update(storage: "Storage", key: Key, update: Update) -> Updated:
    """Atomically replace a value with ``update(old)``; return both. Retried after a conflict."""
    for _ in range(MAX_RETRIES):
        with closing(storage.snapshot()) as snapshot:
            old = snapshot.get(key)
            new = update(old)
            if new is None or (old is None and new is TOMBSTONE):
                return old, old
            if _is_committed(storage.commit(CommitRequest((ReadSet(snapshot, (key,), ()),), {key: new}))):
                return old, None if new is TOMBSTONE else new
    raise contention_error()


def delete(storage: "Storage", key: Key) -> bool:
    """Delete a key; return whether it existed."""
    old, _ = update(storage, key, _tombstone)
    return old is not None


def contention_error() -> StorageUnavailableError:
    """Return the error for a commit that kept conflicting."""
    return StorageUnavailableError(f"The commit conflicted {MAX_RETRIES} times; nothing was applied. Retry.")


def _tombstone(_: Value | None) -> Write | None:
    return TOMBSTONE


def _is_committed(result: object) -> bool:
    """Return whether a commit was applied. Anything but the two results must not cause a retry."""
    if isinstance(result, Committed | Conflict):
        return isinstance(result, Committed)
    raise TypeError(f"the engine returned {type(result).__name__}, not Committed or Conflict")
