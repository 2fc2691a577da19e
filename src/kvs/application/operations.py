"""Operations on several keys, run by ``Session.view`` or ``Session.transact``; each takes the session last.

They charge their work, and yield when a share is used up.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

from mypy_extensions import mypyc_attr

from kvs.domain.errors import ResultTooLargeError, UsageError
from kvs.domain.updates import Condition, Update
from kvs.domain.values import STRING, Key, Record
from kvs.ports.session import COPIED_BYTES_PER_UNIT, Session, Steps

PAGE_KEYS: Final = 1000
"""Keys listed at a time."""

FOUND_OVERHEAD_BYTES: Final = 16
"""Memory of a key or a value that was found, on top of its bytes: its place in a list, and its frame in the reply."""

MATCHED_UNITS: Final = 1000
"""Work above which a key is matched in shares."""


@mypyc_attr(allow_interpreted_subclasses=True)  # as tests have it
class Matcher(ABC):
    """Decides which keys are listed."""

    __slots__ = ()

    @abstractmethod
    def cost(self, size: int) -> int:
        """Return the maximum units of work to match a key of that length."""

    @abstractmethod
    def match(self, key: Key) -> bool:
        """Return whether a key matches."""

    @abstractmethod
    def steps(self, key: Key) -> Steps[bool]:
        """Return the same in steps."""


def get_many(keys: list[Key], max_bytes: int, session: Session) -> Steps[list[bytes | None]]:
    """Return the strings of several keys, in order; None for a key that is absent or has a value of another type.

    Raises:
        ResultTooLargeError: They have more than ``max_bytes``.
        ClientsFullError: The clients together hold all that they may.
    """
    work = session.work
    values: list[bytes | None] = []
    total = 0
    held_bytes = 0
    for key in keys:
        found = session.get(key)
        value = found.payload if isinstance(found, Record) and found.kind == STRING else found
        work.left -= 1
        if isinstance(value, bytes):
            total += len(value)
            work.left -= len(value) // COPIED_BYTES_PER_UNIT
            if total > max_bytes:
                raise ResultTooLargeError(max_bytes)
        values.append(value if isinstance(value, bytes) else None)
        if work.left <= 0:
            found_bytes = total + len(values) * FOUND_OVERHEAD_BYTES
            work.hold(found_bytes - held_bytes)
            held_bytes = found_bytes
            yield
    return values


def update_all_if(condition: Condition, updates: Mapping[Key, Update], session: Session) -> Steps[bool]:
    """Apply an update to each of several keys if a condition holds for all of them; return whether it does."""
    work = session.work
    for key in updates:
        if not condition(session.get(key)):
            return False
        work.left -= 1
        if work.left <= 0:
            yield
    for key, update in updates.items():
        session.update(key, update)
        work.left -= 1
        if work.left <= 0:
            yield
    return True


def delete_all(keys: list[Key], session: Session) -> Steps[int]:
    """Delete several keys; return how many existed."""
    work = session.work
    deleted = 0
    for key in keys:
        deleted += session.delete(key)
        work.left -= 2
        if work.left <= 0:
            yield
    return deleted


def count_present(keys: list[Key], session: Session) -> Steps[int]:
    """Return how many of the keys exist; a key given twice counts twice."""
    work = session.work
    present = 0
    for key in keys:
        present += session.get(key) is not None
        work.left -= 1
        if work.left <= 0:
            yield
    return present


def rename(source: Key, target: Key, replace: bool, session: Session) -> Steps[bool]:  # noqa: FBT001  # for partial()
    """Rename a key; return False if the target exists and must not be replaced.

    Raises:
        UsageError: The source does not exist.
    """
    value = session.get(source)
    if value is None:
        raise UsageError("no such key")
    if source == target:
        return replace
    if not replace and session.get(target) is not None:
        return False
    session.delete(source)
    session.put(target, value)
    return True
    yield


def copy(source: Key, target: Key, replace: bool, session: Session) -> Steps[bool]:  # noqa: FBT001  # for partial()
    """Copy a value to another key; return whether it was copied."""
    value = session.get(source)
    if value is None or (not replace and session.get(target) is not None):
        return False
    session.put(target, value)
    return True
    yield


def random_key(session: Session) -> Steps[Key | None]:
    """Return a random key, uniformly distributed; None if there are no keys.

    Complexity:
        O(length of the key) steps of at most 256 counts each: it descends from prefix to longer prefix by the number of
        keys under each.
    """
    work = session.work
    prefix, after, last, fill = b"", b"", b"", 0
    count = yield from session.count(prefix)
    if not count:
        return None
    rank = random.randrange(count)  # noqa: S311  # not a secret
    while count > PAGE_KEYS:
        work.left -= 4
        if work.left <= 0:
            yield
        page = yield from session.keys(prefix, after, 1)
        child = page[0][: len(prefix) + 1]
        if child == prefix:  # itself a key, before all longer ones
            if rank == 0:
                return prefix
            rank -= 1
            after = prefix
        elif child == last:  # its keys go on beyond where they were taken to end
            fill *= 2
            after = child + b"\xff" * fill
        else:
            under = yield from session.count(child)
            if rank < under:
                prefix, after, last, count = child, b"", b"", under
            else:
                rank -= under
                last, fill = child, 8
                after = child + b"\xff" * fill
    page = yield from session.keys(prefix, b"", count)
    return page[rank]


def find_keys(prefix: Key, matcher: Matcher | None, max_bytes: int, session: Session) -> Steps[list[Key]]:
    """List keys that match, in byte order.

    Args:
        prefix: The prefix of all listed keys.
        matcher: Decides whether a key matches; None: every key does.
        max_bytes: Maximum total length.
        session: The session to list.

    Raises:
        ResultTooLargeError: The keys are more than ``max_bytes``.
        ClientsFullError: The clients together hold all that they may.
    """
    work = session.work
    found: list[Key] = []
    found_bytes = 0
    held_bytes = 0
    after = b""
    while True:
        page = yield from session.keys(prefix, after, PAGE_KEYS + 1)
        for key in page:
            if matcher is not None:
                units = matcher.cost(len(key))
                work.left -= units
                if work.left <= 0:
                    yield
                if not (matcher.match(key) if units <= MATCHED_UNITS else (yield from matcher.steps(key))):
                    continue
            found_bytes += len(key)
            if found_bytes > max_bytes:
                raise ResultTooLargeError(max_bytes)
            found.append(key)
        if len(page) <= PAGE_KEYS:
            return found
        total = found_bytes + len(found) * FOUND_OVERHEAD_BYTES
        work.hold(total - held_bytes)
        held_bytes = total
        after = page[-1]
        if work.left <= 0:
            yield
