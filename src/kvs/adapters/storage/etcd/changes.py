"""The newest value of each key that has changed: a dictionary that never takes long.

A plain one stops everything for 60 ms when it grows to a million keys, and again when it is freed.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, final

from kvs.adapters.storage.journal_writer import Row
from kvs.domain.values import Key, Value

SHARDS: Final = 256
STEP_KEYS: Final = 1000


@final
class Changes:
    """Keys, each with its newest value; None: it is deleted. Not thread-safe."""

    __slots__ = ("_shards",)

    def __init__(self) -> None:
        self._shards: list[dict[Key, Value | None]] = [{} for _ in range(SHARDS)]

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def __iter__(self) -> Iterator[Key]:
        for shard in self._shards:
            yield from shard

    def __getitem__(self, key: Key) -> Value | None:
        return self._shards[hash(key) % SHARDS][key]

    def update(self, rows: Iterable[Row]) -> None:
        """Note that these rows are the newest."""
        shards = self._shards
        for key, value in rows:
            shards[hash(key) % SHARDS][key] = value

    def add_older(self, rows: Iterable[Row]) -> None:
        """Note rows that are older than what is here."""
        shards = self._shards
        for key, value in rows:
            shards[hash(key) % SHARDS].setdefault(key, value)

    def free(self, pace: Callable[[], object]) -> None:
        """Forget everything, little by little: it may be the last that refers to the values.

        Args:
            pace: Called between steps; it may wait.
        """
        for shard in self._shards:
            while shard:
                for _ in range(min(len(shard), STEP_KEYS)):
                    shard.popitem()
                pace()
