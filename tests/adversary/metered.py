"""Work counted, share by share: what was charged, and what can be seen of it from outside."""

import sys
import tracemalloc
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Final, NamedTuple

from kvs.adapters.inbound.protocol.connection import Connection
from kvs.domain.commit import CommitRequest, Committed, Conflict, ReadSet
from kvs.domain.updates import Update, Updated
from kvs.domain.values import Key, Value, string_of
from kvs.override import override
from kvs.ports.session import COPIED_BYTES_PER_UNIT
from kvs.ports.storage import Snapshot, Storage
from tests.support.sessions import output_of


class Meter:
    """Counts what crosses the storage port: keys, values, and their bytes.

    Attributes:
        units: One for each key or value that was touched, and for each 4 KiB of them.
    """

    def __init__(self) -> None:
        self.units = 0

    def keys(self, keys: list[Key]) -> list[Key]:
        """Count keys."""
        self.units += len(keys) + sum(map(len, keys)) // COPIED_BYTES_PER_UNIT
        return keys

    def value(self, value: Value | None) -> Value | None:
        """Count a value."""
        self.units += 1 + len(string_of(value or b"")) // COPIED_BYTES_PER_UNIT
        return value


class MeteredSnapshot(Snapshot):
    """A snapshot that is counted."""

    def __init__(self, meter: Meter, inner: Snapshot) -> None:
        self.inner = inner
        self._meter = meter

    @property
    @override
    def expired(self) -> bool:
        return self.inner.expired

    @override
    def get(self, key: Key) -> Value | None:
        return self._meter.value(self.inner.get(key))

    @override
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return self._meter.keys(self.inner.scan(prefix, after, limit))

    @override
    def count(self, prefix: Key) -> int:
        self._meter.units += 1
        return self.inner.count(prefix)

    @override
    def close(self) -> None:
        self.inner.close()


class MeteredStorage(Storage):
    """An engine that is counted."""

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.meter = Meter()

    @override
    def get(self, key: Key) -> Value | None:
        return self.meter.value(self.inner.get(key))

    @override
    def put(self, key: Key, value: Value) -> None:
        self.meter.value(value)
        self.inner.put(key, value)

    @override
    def delete(self, key: Key) -> bool:
        self.meter.units += 1
        return self.inner.delete(key)

    @override
    def update(self, key: Key, update: Update) -> Updated:
        old, new = self.inner.update(key, update)
        return self.meter.value(old), self.meter.value(new)

    @override
    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return self.meter.keys(self.inner.scan(prefix, after, limit))

    @override
    def count(self, prefix: Key) -> int:
        self.meter.units += 1
        return self.inner.count(prefix)

    @override
    def clear(self) -> None:
        self.meter.units += 1
        self.inner.clear()

    @override
    def snapshot(self) -> MeteredSnapshot:
        self.meter.units += 1
        return MeteredSnapshot(self.meter, self.inner.snapshot())

    @override
    def commit(self, request: CommitRequest) -> Committed | Conflict:
        reads = []
        for each in request.reads:
            assert isinstance(each.snapshot, MeteredSnapshot)
            reads.append(ReadSet(each.snapshot.inner, each.keys, each.ranges))
            self.meter.units += len(each.keys) + len(each.ranges)
        self.meter.units += len(request.writes)
        return self.inner.commit(CommitRequest(tuple(reads), request.writes, request.clears))

    @override
    def stats(self) -> Mapping[str, int]:
        return self.inner.stats()

    @override
    def close(self) -> None:
        self.inner.close()


class Share(NamedTuple):
    """What one share did.

    Attributes:
        charged: Units that the connection says it used.
        calls: Calls of functions, of Python and of C: next to none of the compiled build can be seen.
        moved: What crossed the storage port, and one for each 4 KiB of replies.
    """

    charged: int
    calls: int
    moved: int


MAX_SHARES: Final = 100_000


def shares(connection: Connection, meter: Meter, data: bytes, quota: int) -> Iterator[Share]:
    """Hand over input, and run all of it with a small quota, share by share, or up to what a thread has to find out."""
    calls = 0

    def count(_: FrameType, __: str, ___: object) -> None:
        nonlocal calls
        calls += 1

    for number in range(MAX_SHARES):
        meter.units = calls = 0
        sys.setprofile(count)
        try:
            charged = connection.receive(data, quota) if number == 0 else connection.resume(quota)
        finally:
            sys.setprofile(None)
        output = output_of(connection)
        yield Share(charged, calls // 2, meter.units + len(output) // COPIED_BYTES_PER_UNIT)  # each call returns
        if connection.busy or not connection.backlog:
            return
    raise AssertionError("it does not end")


class Memory(NamedTuple):
    """What one share took.

    Attributes:
        charged: Units that the connection says it used.
        allocated: Bytes of memory, at most at a time, beyond what there was before.
    """

    charged: int
    allocated: int


def memory(connection: Connection, data: bytes, quota: int) -> Iterator[Memory]:
    """Do as :func:`shares`, and count memory."""
    for number in range(MAX_SHARES):
        tracemalloc.start(1)
        try:
            charged = connection.receive(data, quota) if number == 0 else connection.resume(quota)
            _, allocated = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        connection.take_output()
        yield Memory(charged, allocated)
        if connection.busy or not connection.backlog:
            return
    raise AssertionError("it does not end")
