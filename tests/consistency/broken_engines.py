"""Engines that are broken in ways that only transactions of several clients show, or a restart."""

from collections.abc import Mapping

from kvs.domain.commit import CommitRequest, Committed, Conflict
from kvs.domain.values import Key, Value, Write
from tests.contract.broken_engines.durability import DurableStorage
from tests.support.naive_storage import NaiveSnapshot, NaiveStorage


class SnapshotIsolation(NaiveStorage):
    """Validates what is written, in place of what was read."""

    def commit(self, request: CommitRequest) -> Committed | Conflict:
        lengths = [each.snapshot.log_length for each in request.reads if isinstance(each.snapshot, NaiveSnapshot)]
        changed = set(self._log[max(lengths, default=len(self._log)) :])
        if changed := changed & request.writes.keys():
            return Conflict(tuple(changed), ())
        return super().commit(CommitRequest((), request.writes, request.clears))


class StaleSnapshots(NaiveStorage):
    """Its snapshots lack the last commit."""

    _before: dict[Key, Value] | None = None

    def _apply(self, writes: Mapping[Key, Write]) -> None:
        self._before = dict(self._data)
        super()._apply(writes)

    def snapshot(self) -> NaiveSnapshot:
        return NaiveSnapshot(self._before or {}, len(self._log))

    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return NaiveSnapshot(self._data, 0).scan(prefix, after, limit)

    def count(self, prefix: Key) -> int:
        return NaiveSnapshot(self._data, 0).count(prefix)


class TornCommits(NaiveStorage):
    """Leaves out the last of several writes of a transaction."""

    def commit(self, request: CommitRequest) -> Committed | Conflict:
        writes = dict(list(request.writes.items())[: max(1, len(request.writes) - 1)])
        return super().commit(CommitRequest(request.reads, writes, request.clears))


class ForgetsTheLastTicks(DurableStorage):
    """Writes what there was some ticks before."""

    BEHIND = 8

    def sync(self) -> None:
        if self._saved == self.commits:
            return
        data = self.data
        earlier: list[dict[Key, Value]] = getattr(self, "_earlier", [{}] * self.BEHIND)
        self._earlier = [*earlier[1:], dict(data)]
        self.data = earlier[0]
        super().sync()
        self.data = data
