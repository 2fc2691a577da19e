"""Engines that store bytes, and no records."""

from typing import final

from kvs.domain.errors import UnsupportedError
from kvs.domain.updates import Update
from kvs.domain.values import Record, Value, Write


@final
class OfBytes:
    """An update for an engine that stores no records.

    Args:
        update: The update.
    """

    def __init__(self, update: Update) -> None:
        self._update = update

    def __call__(self, old: Value | None) -> Write | None:
        new = self._update(old)
        if isinstance(new, Record):
            raise unsupported()
        return new


def unsupported() -> UnsupportedError:
    """Return the error for a record that the engine cannot store."""
    return UnsupportedError("The storage engine of this server stores no deadlines.")
