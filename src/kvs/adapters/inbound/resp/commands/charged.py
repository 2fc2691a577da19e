"""Updates that make a large value of the old one, and are charged for that, also if it is then refused."""

from typing import Final, final

from kvs.domain.updates import Update
from kvs.domain.values import TOMBSTONE, Value, Write
from kvs.ports.session import Work

STORED_BYTES_PER_UNIT: Final = 1 << 11
"""Bytes of a new value per unit of work: they are copied, and the memory for them is new."""


@final
class Charged:
    """An update that is charged whenever it has made a value.

    Args:
        update: The update.
        work: Of the client.
    """

    def __init__(self, update: Update, work: Work) -> None:
        self._update = update
        self._work = work

    def __call__(self, old: Value | None) -> Write | None:
        new = self._update(old)
        if new is not None and new is not TOMBSTONE:
            self._work.left -= len(new if isinstance(new, bytes) else new.payload) // STORED_BYTES_PER_UNIT
        return new
