"""Cursors of SCAN: numbers, as clients expect, for the keys where listings continue."""

import random
from threading import Lock
from typing import Final, final

from kvs.domain.errors import UsageError
from kvs.domain.values import Key

MAX_CURSORS: Final = 10_000
"""Maximum number of cursors of all clients; beyond it the least recently used is dropped."""

CURSOR_BITS: Final = 53
"""JavaScript clients parse them as floating-point numbers."""


@final
class Cursors:
    """The cursors of one server: a listing may continue on any connection, such as another one of a pool.

    Thread-safe: over a blocking engine, workers run listings.
    """

    def __init__(self) -> None:
        self._keys: dict[int, Key] = {}  # in order of last use
        self._lock = Lock()

    def issue(self, key: Key) -> int:
        """Return a cursor that stands for all keys after this one. O(1)."""
        cursor = random.getrandbits(CURSOR_BITS - 1) + 1  # not a secret, only unique
        with self._lock:
            self._keys[cursor] = key
            if len(self._keys) > MAX_CURSORS:
                del self._keys[next(iter(self._keys))]
        return cursor

    def find(self, cursor: int) -> Key:
        """Return the key that a cursor stands for; empty for 0, where every listing begins. O(1).

        Raises:
            UsageError: The cursor is unknown.
        """
        if cursor == 0:
            return b""
        with self._lock:
            key = self._keys.pop(cursor, None)
            if key is None:
                raise UsageError("invalid cursor: it was forgotten, or never given; begin again from 0")
            self._keys[cursor] = key
        return key
