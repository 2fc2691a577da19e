"""An engine whose calls wait at a gate until a test opens it, and that notes which thread each of them came from."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from kvs.domain.commit import CommitRequest, Committed, Conflict, ReadSet
from kvs.domain.values import Key, Value
from kvs.ports.storage import Snapshot, Storage
from tests.support.naive_storage import NaiveSnapshot, NaiveStorage

TIMEOUT_S = 20.0


class Gate:
    """Where calls wait, one at a time to go through.

    Attributes:
        calls: Which calls have gone through, or are at it, and the thread of each.
        raises: Makes what the next call that goes through raises.
        expired: What snapshots say of themselves.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.raises: Callable[[], BaseException] | None = None
        self.expired = False
        self._open = threading.Event()
        self._open.set()
        self._waiting = 0
        self._changed = threading.Condition()

    def shut(self) -> None:
        """Have calls wait from now on."""
        self._open.clear()

    def open(self) -> None:
        """Have no calls wait any more."""
        self._open.set()

    def wait_for_calls(self, number: int) -> None:
        """Wait until so many calls wait here."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._waiting == number, TIMEOUT_S)

    def waiting(self) -> int:
        """Return how many calls wait here."""
        with self._changed:
            return self._waiting

    def names(self) -> list[str]:
        """Return the names of the calls."""
        return [name for name, _ in self.calls]

    @contextmanager
    def passed(self, name: str) -> Iterator[None]:
        """Go through."""
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
        assert self._open.wait(TIMEOUT_S)
        with self._changed:
            self._waiting -= 1
            self.calls.append((name, threading.get_ident()))
            make_error, self.raises = self.raises, None
            if make_error is not None:
                raise make_error()
            yield


class GatedSnapshot(Snapshot):
    """See the head of this module."""

    def __init__(self, gate: Gate, inner: NaiveSnapshot) -> None:
        self.inner = inner
        self._gate = gate

    @property
    def expired(self) -> bool:
        """See the port. It must not wait."""
        return self._gate.expired

    def get(self, key: Key) -> Value | None:
        """See the port."""
        with self._gate.passed("snapshot.get"):
            return self.inner.get(key)

    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """See the port."""
        with self._gate.passed("snapshot.scan"):
            return self.inner.scan(prefix, after, limit)

    def count(self, prefix: Key) -> int:
        """See the port."""
        with self._gate.passed("snapshot.count"):
            return self.inner.count(prefix)

    def close(self) -> None:
        """See the port."""
        with self._gate.passed("snapshot.close"):
            self.inner.close()


class GatedStorage(Storage):
    """See the head of this module."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.inner = NaiveStorage()

    @property
    def blocking(self) -> bool:
        """See the port."""
        return True

    def get(self, key: Key) -> Value | None:
        """See the port."""
        with self.gate.passed("get"):
            return self.inner.get(key)

    def put(self, key: Key, value: Value) -> None:
        """See the port."""
        with self.gate.passed("put"):
            self.inner.put(key, value)

    def delete(self, key: Key) -> bool:
        """See the port."""
        with self.gate.passed("delete"):
            return self.inner.delete(key)

    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """See the port."""
        with self.gate.passed("scan"):
            return self.inner.scan(prefix, after, limit)

    def count(self, prefix: Key) -> int:
        """See the port."""
        with self.gate.passed("count"):
            return self.inner.count(prefix)

    def snapshot(self) -> GatedSnapshot:
        """See the port."""
        with self.gate.passed("snapshot"):
            return GatedSnapshot(self.gate, self.inner.snapshot())

    def commit(self, request: CommitRequest) -> Committed | Conflict:
        """See the port."""
        inner = []
        for reads in request.reads:
            snapshot = reads.snapshot
            assert isinstance(snapshot, GatedSnapshot)
            inner.append(ReadSet(snapshot.inner, reads.keys, reads.ranges))
        with self.gate.passed("commit"):
            return self.inner.commit(CommitRequest(tuple(inner), request.writes, request.clears))

    def sync(self) -> None:
        """See the port. Nobody has to call it."""
        raise AssertionError

    def stats(self) -> Mapping[str, int]:
        """See the port."""
        with self.gate.passed("stats"):
            return self.inner.stats()

    def close(self) -> None:
        """See the port."""
