"""Commands that touch several keys: each is a unit, run by :meth:`kvs.ports.inbound.Session.atomically`.

A unit is what it was made of: two that are equal ask the same. Those that write come to their end in one go; those
that read a lot do a share and raise ``Unfinished``, and know where they were when they are called again.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias, final

from kvs.application.listing import insist
from kvs.domain.errors import LimitError, UsageError
from kvs.domain.values import Key, Value
from kvs.ports.inbound import Session, Unfinished
from kvs.ports.storage import PAGE_KEYS

SHARE_PAGES: Final = 4
"""Pages of keys looked at in one go: about 1 ms."""

Matches: TypeAlias = Callable[[Key], bool]


@dataclass(frozen=True)
class GetMany:
    """Read several keys, as they are at one moment: up to so many bytes of values."""

    keys: tuple[Key, ...]
    max_bytes: int

    def __call__(self, session: Session) -> list[Value | None]:
        """Return the values, in order.

        Raises:
            LimitError: They are too many bytes for one reply.
        """
        values: list[Value | None] = []
        total = 0
        for key in self.keys:
            value = session.get(key)
            if value is not None:
                total += len(value)
                if total > self.max_bytes:
                    raise reply_too_large(self.max_bytes)
            values.append(value)
        return values


@dataclass(frozen=True)
class PutMany:
    """Store several values."""

    entries: tuple[tuple[Key, Value], ...]

    def __call__(self, session: Session) -> None:
        """Store them; of a key that comes twice, the last value."""
        for key, value in self.entries:
            session.put(key, value)


@dataclass(frozen=True)
class PutManyIfAbsent:
    """Store several values, if there is none under any of the keys."""

    entries: tuple[tuple[Key, Value], ...]

    def __call__(self, session: Session) -> bool:
        """Return whether they were stored."""
        for key, _ in self.entries:
            if session.get(key) is not None:
                return False
        for key, value in self.entries:
            session.put(key, value)
        return True


@dataclass(frozen=True)
class DeleteMany:
    """Delete several keys."""

    keys: tuple[Key, ...]

    def __call__(self, session: Session) -> int:
        """Return how many there were."""
        return sum([session.delete(key) for key in self.keys])


@dataclass(frozen=True)
class CountPresent:
    """Count those keys that are there."""

    keys: tuple[Key, ...]

    def __call__(self, session: Session) -> int:
        """Return how many; a key that comes twice counts twice."""
        return sum([session.get(key) is not None for key in self.keys])


@dataclass(frozen=True)
class Rename:
    """Give a value another key."""

    source: Key
    target: Key
    replace: bool

    def __call__(self, session: Session) -> bool:
        """Return whether it was done: the target may be there, and not to be replaced.

        Raises:
            UsageError: There is no source.
        """
        value = session.get(self.source)
        if value is None:
            raise UsageError("no such key")
        if self.source == self.target:
            return self.replace
        if not self.replace and session.get(self.target) is not None:
            return False
        session.delete(self.source)
        session.put(self.target, value)
        return True


@dataclass(frozen=True)
class Copy:
    """Store a value under another key as well."""

    source: Key
    target: Key
    replace: bool

    def __call__(self, session: Session) -> bool:
        """Return whether it was done: there may be no source, or the target may be there and not to be replaced."""
        value = session.get(self.source)
        if value is None or (not self.replace and session.get(self.target) is not None):
            return False
        session.put(self.target, value)
        return True


@dataclass(frozen=True)
class RandomKey:
    """Choose one of all keys, each as likely as any other."""

    def __call__(self, session: Session) -> Key | None:
        """Return the key, or None if there is none.

        Complexity:
            O(length of the key) steps of at most 256 counts each: down from prefix to longer prefix, by how many keys
            each has.
        """
        prefix, after, last, fill = b"", b"", b"", 0
        count = insist(partial(session.count, prefix))
        if not count:
            return None
        rank = random.randrange(count)  # noqa: S311  # nobody gains by guessing it
        while count > PAGE_KEYS:
            first = insist(partial(session.keys, prefix, after, 1))[0]
            child = first[: len(prefix) + 1]
            if child == prefix:  # a key of its own, before all that are longer
                if rank == 0:
                    return prefix
                rank -= 1
                after = prefix
            elif child == last:  # its keys go on beyond where they were taken to end
                fill *= 2
                after = child + b"\xff" * fill
            else:
                under = insist(partial(session.count, child))
                if rank < under:
                    prefix, after, last, count = child, b"", b"", under
                else:
                    rank -= under
                    last, fill = child, 8
                    after = child + b"\xff" * fill
        return insist(partial(session.keys, prefix, b"", count))[rank]


@final
class FindKeys:
    """List keys that match, in byte order, as they are at one moment.

    Args:
        prefix: What all of them begin with.
        after: They come after this key.
        matches: Tells whether a key matches; two that are equal are the same. None: every key does.
        limit: Most of them.
        max_bytes: Most that they may hold together.

    Attributes:
        keys: Those that were found.
        passed_over: How many, up to the last of them, did not match.
        more: Whether there are more than the limit.
    """

    __slots__ = ("_found_bytes", "_from", "_passed_before", "_question", "keys", "more", "passed_over")

    def __init__(self, prefix: Key, after: Key, matches: Matches | None, limit: int, max_bytes: int) -> None:
        self._question = (prefix, after, matches, limit, max_bytes)
        self._from = after
        self._found_bytes = 0
        self.keys: list[Key] = []
        self._passed_before = 0  # ... the last key that was found
        self.passed_over = 0
        self.more = False

    def __eq__(self, other: object) -> bool:
        """Compare what is asked, not how far it has come."""
        return isinstance(other, FindKeys) and self._question == other._question

    def __hash__(self) -> int:
        """Follow ``__eq__``."""
        return hash(self._question)

    def __call__(self, session: Session) -> "FindKeys":
        """Return this very list, when it is complete.

        Raises:
            Unfinished: It has done a share.
            LimitError: The keys are too many bytes for one reply.
        """
        prefix, _, matches, limit, max_bytes = self._question
        for _ in range(SHARE_PAGES):
            page = session.keys(prefix, self._from, PAGE_KEYS)
            for key in page:
                if matches is not None and not matches(key):
                    self.passed_over += 1
                    continue
                if len(self.keys) == limit:
                    self.more = True
                    self.passed_over = self._passed_before
                    return self
                self.keys.append(key)
                self._passed_before = self.passed_over
                self._found_bytes += len(key)
            if self._found_bytes > max_bytes:
                raise reply_too_large(max_bytes)
            if len(page) < PAGE_KEYS:
                return self
            self._from = page[-1]
        raise Unfinished


def reply_too_large(max_bytes: int) -> LimitError:
    """Return the error for an answer that would be longer than one may be."""
    return LimitError(f"The reply would hold more than {max_bytes} bytes, and max_reply_bytes is no more.")
