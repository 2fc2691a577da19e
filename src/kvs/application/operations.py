"""Commands that touch several keys: each is a unit, run by :meth:`kvs.ports.session.Session.atomically`.

A unit is what it was made of: two that are equal ask the same. Those that write come to their end in one go; those
that read a lot do a share and raise ``Unfinished``, and know where they were when they are called again.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias, final

from kvs.application.listing import insist
from kvs.domain.errors import LimitError, UsageError
from kvs.domain.values import Key, Value
from kvs.ports.session import Session, Unfinished

PAGE_KEYS: Final = 1000
"""Keys listed at a time."""

LOOKED_AT: Final = PAGE_KEYS + 1
"""Keys looked at at a time: one more than is listed at a time, so that one look tells whether there are more."""

SHARE_PAGES: Final = 4
"""How often that is done in one go: about 1 ms."""

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
class PutManyIfAbsent:
    """Store several values, if there is none under any of the keys."""

    entries: Mapping[Key, Value]

    def __call__(self, session: Session) -> bool:
        """Return whether they were stored."""
        for key in self.entries:
            if session.get(key) is not None:
                return False
        for key, value in self.entries.items():
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


class AtOnce(ABC):
    """A unit that only reads, and may have its answer of one call; outside a transaction that takes no snapshot."""

    __slots__ = ()

    @abstractmethod
    def at_once(self, session: Session) -> object | None:
        """Return the answer, having made one call; None if that is not enough."""


@final
class Found:
    """Keys that were found.

    Attributes:
        keys: The keys, in byte order.
        keys_bytes: What they hold together.
        more: Whether there are more than the limit.
        end: If there are more: so many of the keys are a page that ends where it may; 0: none is.
        passed_over: How many did not match: up to the end of the page if there are more, of all otherwise.
        passed_before_end: The same up to the last key so far that a page may end with.
        reached: Up to where keys have been looked at.
    """

    __slots__ = ("end", "keys", "keys_bytes", "more", "passed_before_end", "passed_over", "reached")

    def __init__(self, after: Key) -> None:
        self.keys: list[Key] = []
        self.keys_bytes = 0
        self.more = False
        self.end = 0
        self.passed_before_end = 0
        self.passed_over = 0
        self.reached = after

    def end_page(self, can_end: Matches | None) -> None:
        """Find the last key that the page may end with."""
        self.more = True
        self.end = len(self.keys)
        if can_end is not None:
            while self.end and not can_end(self.keys[self.end - 1]):
                self.end -= 1
            if self.end:
                self.passed_over = self.passed_before_end


@final
class FindKeys:
    """List keys that match, in byte order, as they are at one moment.

    Args:
        prefix: What all of them begin with.
        after: They come after this key.
        matches: Tells whether a key matches; two that are equal are the same. None: every key does.
        limit: Most of them.
        max_bytes: Most that they may hold together.
        can_end: Tells whether a page may end with a key, if there are more keys than the limit. None: with any.
    """

    __slots__ = ("_found", "_question", "_unmatched")

    def __init__(
        self,
        prefix: Key,
        after: Key,
        matches: Matches | None,
        limit: int,
        max_bytes: int,
        can_end: Matches | None = None,
    ) -> None:
        self._question = (prefix, after, matches, limit, max_bytes, can_end)
        self._found: Found | None = None  # so far, if it has done a share and not all
        self._unmatched = 0  # since the last that was found

    def __eq__(self, other: object) -> bool:
        """Compare what is asked, not how far it has come."""
        return isinstance(other, FindKeys) and self._question == other._question

    def __hash__(self) -> int:
        """Follow ``__eq__``."""
        return hash(self._question)

    def __call__(self, session: Session) -> Found:
        """Return what was found.

        Raises:
            Unfinished: It has done a share, and goes on when it is called again.
            LimitError: The keys are too many bytes for one reply.
        """
        prefix, after, matches, limit, max_bytes, can_end = self._question
        found, self._found = self._found, None
        if found is None:
            found = Found(after)
            self._unmatched = 0
        for _ in range(SHARE_PAGES):
            try:
                page = session.keys(prefix, found.reached, LOOKED_AT)
            except Unfinished:  # a page may take shares of its own
                self._found = found
                raise
            for key in page:
                if matches is not None and not matches(key):
                    self._unmatched += 1
                    continue
                if len(found.keys) == limit:
                    found.end_page(can_end)
                    return found
                found.keys_bytes += len(key)
                if found.keys_bytes > max_bytes:
                    raise reply_too_large(max_bytes)
                found.keys.append(key)
                found.passed_over += self._unmatched
                self._unmatched = 0
                if can_end is not None and found.passed_over and can_end(key):
                    found.passed_before_end = found.passed_over
            if len(page) < LOOKED_AT:
                found.passed_over += self._unmatched
                return found
            found.reached = page[-1]
        self._found = found
        raise Unfinished


def reply_too_large(max_bytes: int) -> LimitError:
    """Return the error for an answer that would be longer than one may be."""
    return LimitError(f"The reply would hold more than max_reply_bytes = {max_bytes}.")
