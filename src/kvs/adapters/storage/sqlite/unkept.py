"""A journal that keeps nothing, for data that are only read."""

from collections.abc import Mapping
from typing import final

from kvs.adapters.storage.journal_writer import Batch, Journal
from kvs.adapters.storage.sqlite.rows import SqliteBatch
from kvs.override import override


@final
class Unkept(Journal):
    """What a reader has expire is gone for that reader only."""

    __slots__ = ()

    @override
    def begin(self) -> Batch:
        return SqliteBatch()

    @override
    def append(self, batch: Batch) -> None:
        pass

    @override
    def check(self) -> None:
        pass

    @override
    def stats(self) -> Mapping[str, int]:
        return {}
