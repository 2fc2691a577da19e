"""Updates that make a large value of the old one: they wait for their turn, and are charged, also if it is refused.

A copy of megabytes takes milliseconds, cannot be interrupted, and is asked for by few bytes. So it is not made with the
quota of a packet that has just arrived, of which there may be a hundred, but when its client is served in turn.
"""

from typing import Final, final

from kvs.domain.updates import Update
from kvs.domain.values import TOMBSTONE, Value, Write, string_or_empty
from kvs.ports.session import Steps, Work

STORED_BYTES_PER_UNIT: Final = 1 << 11
"""Bytes of a new value per unit of work: they are copied, and the memory for them is new."""

LARGE_COPY_BYTES: Final = 1 << 20
"""Length from which a copy waits for the next share of its client."""


def next_share(work: Work) -> Steps[None]:
    """Give up the rest of this share."""
    work.left = min(work.left, 0)
    yield


@final
class Charged:
    """An update that is charged whenever it has made a value.

    It changes nothing the first time that the value is large: see :attr:`postponed`.

    Args:
        update: The update.
        work: Of the client.
        least_bytes: The new value is at least as long.

    Attributes:
        postponed: It has changed nothing, and has to be applied again, behind :meth:`next_share`.
    """

    def __init__(self, update: Update, work: Work, least_bytes: int = 0) -> None:
        self.postponed = False
        self._has_waited = False
        self._update = update
        self._work = work
        self._least_bytes = least_bytes

    def __call__(self, old: Value | None) -> Write | None:
        if not self._has_waited and max(self._least_bytes, len(string_or_empty(old))) >= LARGE_COPY_BYTES:
            self.postponed = True
            return None
        new = self._update(old)
        if new is not None and new is not TOMBSTONE:
            self._work.left -= len(new if isinstance(new, bytes) else new.payload) // STORED_BYTES_PER_UNIT
        return new

    def next_share(self) -> Steps[None]:
        """Wait until it may be applied."""
        self._has_waited = True
        return next_share(self._work)
