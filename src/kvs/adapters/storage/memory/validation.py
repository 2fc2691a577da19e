"""Whether what a commit has observed has changed since."""

from kvs.adapters.storage.memory.key_index import Root, same_keyset
from kvs.adapters.storage.memory.snapshot import snapshot_of
from kvs.adapters.storage.memory.versions import ReadPoint
from kvs.domain.commit import MAX_CONFLICTS_NAMED, CommitRequest, Conflict, KeyRange
from kvs.domain.values import Key  # noqa: TC001  # so that the compiler finds it


def is_behind(request: CommitRequest, current: ReadPoint | None) -> bool:
    """Return whether any commit is newer than a snapshot of a request.

    Args:
        request: The commit.
        current: The point of the latest commit, if a snapshot has been taken there.
    """
    for reads in request.reads:
        if snapshot_of(reads.snapshot).point() is not current:
            return True
    return False


def changed(request: CommitRequest, root: Root) -> Conflict | None:
    """Return what has changed of what was observed; None: nothing has.

    Args:
        request: The commit.
        root: The current keys.
    """
    keys: list[Key] = []
    ranges: list[KeyRange] = []
    for reads in request.reads:
        point = snapshot_of(reads.snapshot).point()
        store = point.store
        for key in reads.keys:
            if store.changed_since(point.number, key) and len(keys) < MAX_CONFLICTS_NAMED:
                keys.append(key)
        for low, high in reads.ranges:
            if len(ranges) < MAX_CONFLICTS_NAMED and not same_keyset(point.root, root, low, high):
                ranges.append(KeyRange(low, high))
    return Conflict(tuple(keys), tuple(ranges)) if keys or ranges else None
