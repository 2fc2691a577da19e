"""Cursors of SCAN: numbers, as clients expect, for the keys where listings continue."""

import secrets
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple, final

from kvs.domain.errors import UsageError
from kvs.domain.values import Key

if TYPE_CHECKING:
    from kvs.application.users import User

MAX_CURSORS: Final = 10_000
"""Maximum number of cursors of all clients; beyond it the least recently used is dropped."""

CURSOR_BITS: Final = 53
"""JavaScript clients parse them as floating-point numbers."""


class Place(NamedTuple):
    """Where a listing continues.

    Attributes:
        after: After this key.
        prefix: Of the keys that are listed.
        user: Who lists them.
    """

    after: Key
    prefix: Key
    user: "User | None"

    def is_for(self, user: "User | None", prefix: Key) -> bool:
        """Return whether a client may continue there: the same user, and with the same prefix if it has grants."""
        return self.user is user and (user is None or user.grants.unrestricted or self.prefix == prefix)


@final
class Cursors:
    """The cursors of one server: a listing may continue on any connection, such as another one of a pool.

    Nobody can guess one, or learn from another's whether it exists.

    Thread-safe: over a blocking engine, workers run listings.
    """

    def __init__(self) -> None:
        self._places: dict[int, Place] = {}  # in order of last use
        self._lock = Lock()

    def issue(self, place: Place) -> int:
        """Return a cursor that stands for all keys after a place. O(1)."""
        cursor = secrets.randbits(CURSOR_BITS - 1) + 1
        with self._lock:
            self._places[cursor] = place
            if len(self._places) > MAX_CURSORS:
                del self._places[next(iter(self._places))]
        return cursor

    def find(self, cursor: int, user: "User | None", prefix: Key) -> Key:
        """Return the key that a cursor stands for; empty for 0, where every listing begins. O(1).

        Args:
            cursor: The cursor.
            user: Who lists.
            prefix: Of the keys to be listed.

        Raises:
            UsageError: The cursor is unknown, or not this user's for this prefix.
        """
        if cursor == 0:
            return b""
        with self._lock:
            place = self._places.get(cursor)
            if place is None or not place.is_for(user, prefix):
                raise UsageError("invalid cursor: it was forgotten, or never given; begin again from 0")
            del self._places[cursor]
            self._places[cursor] = place
        return place.after
