"""Storage engines for tests of the server around them.

All of them are one naive engine that copies everything for every snapshot, and is safe to be called by many threads.
``watched`` tells a test of each call before it answers, and does what the test says: go on, raise, or return what an
engine must not return. ``blocking`` does the same and declares that it blocks, ``expiring`` stores records, too.
``slow`` blocks, and takes its time. ``loading`` takes as long to be opened as a test likes, and meets what ends that in
ways of its own.
"""

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Final, Literal, Protocol

import msgspec
from msgspec import Meta
from structlog.typing import FilteringBoundLogger

from kvs.config import ConfigError, Settings
from kvs.domain.commit import CommitRequest, Committed, Conflict, KeyRange
from kvs.domain.errors import LimitError, OutcomeUnknownError, StorageUnavailableError
from kvs.domain.values import TOMBSTONE, Key, Value
from kvs.engine import EngineSpec, NoOptions, StorageOpenError
from kvs.ports.storage import Snapshot, Storage

CONTROL_VARIABLE: Final = "TEST_ENGINE_CONTROL"
"""Names the port, on 127.0.0.1, where the test listens."""

DELAY_VARIABLE: Final = "TEST_ENGINE_DELAY_S"
"""How long each call of ``slow`` takes."""


class EngineBug(Exception):  # noqa: N818  # it is one
    """What no engine should raise."""


def _raise() -> None:
    raise EngineBug("The test engine has a bug that strikes later.")


class Listener(Protocol):
    """**Protocol:** Who is told of a call before it is done."""

    def tell(self, call: str, keys: Collection[bytes] = (), /) -> Any:  # what to return instead, None to go on
        """Tell of a call; return when it is to be done."""


class Control:
    """The line to the test, one for each thread: one line of JSON for each call, one word in answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._of_thread = threading.local()
        self._connect()

    def tell(self, call: str, keys: Collection[bytes] = ()) -> Any:  # what to return instead, None to go on
        """Tell of a call, and obey."""
        if not hasattr(self._of_thread, "socket"):
            self._connect()
        told = {"call": call, "keys": [key.decode(errors="backslashreplace") for key in keys]}
        self._of_thread.socket.sendall(json.dumps(told).encode() + b"\n")
        answer = self._of_thread.answers.readline().decode().strip()
        if answer == "raise_limit":
            raise LimitError("The test engine is full.")
        if answer == "raise_unavailable":
            raise StorageUnavailableError("The test engine is away.")
        if answer == "raise_outcome_unknown":
            raise OutcomeUnknownError("The test engine does not know.")
        if answer == "raise_later":
            asyncio.get_running_loop().call_soon(_raise)
        if answer == "raise_bug":
            raise EngineBug("The test engine has a bug.")
        return "not what the port says" if answer == "return_nonsense" else None

    def _connect(self) -> None:
        self._of_thread.socket = socket.create_connection(("127.0.0.1", self._port))
        self._of_thread.answers = self._of_thread.socket.makefile("rb")


class Delay:
    """Takes its time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def tell(self, call: str, _: Collection[bytes] = ()) -> None:
        """Wait, but for ``close``."""
        if call != "close":
            time.sleep(self._seconds)


class TestedSnapshot(Snapshot):
    """A copy of everything. It notices when two threads use it at once, or when it is used after it was closed."""

    def __init__(self, storage: "TestedStorage", data: dict[Key, Value], number: int) -> None:
        self.data = data
        self.number = number
        self._storage = storage
        self._free = threading.Lock()

    def get(self, key: Key) -> Value | None:
        """See the port."""
        with self._used("get", [key]) as nonsense:
            return nonsense or self.data.get(key)

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[bytes]:
        """See the port."""
        with self._used("scan", [prefix]) as nonsense:
            return nonsense or _scan(self.data, prefix, after, limit)

    def count(self, prefix: bytes) -> int:
        """See the port."""
        with self._used("count", [prefix]) as nonsense:
            return nonsense or len(_under(self.data, prefix))

    def close(self) -> None:
        """See the port."""
        with self._used("close", []):
            pass

    @contextmanager
    def _used(self, call: str, keys: Collection[bytes]) -> Iterator[Any]:
        if not self._free.acquire(blocking=False):
            self._storage.listener.tell("misuse", [call.encode()])
        try:
            with self._storage.under_way(f"snapshot.{call}", keys) as nonsense:
                yield nonsense
        finally:
            if call != "close":  # whoever comes behind that misuses it
                self._free.release()


class TestedStorage(Storage):
    """The engine.

    Args:
        listener: Who is told of each call.
        blocks: What it says of itself.
    """

    def __init__(self, listener: Listener, *, blocks: bool) -> None:
        self.listener = listener
        self._blocks = blocks
        self._lock = threading.Lock()
        self._data: dict[Key, Value] = {}
        self._changed_at: dict[bytes, int] = {}
        self._number = 0
        self._under_way: list[str] = []

    @property
    def blocking(self) -> bool:
        """See the port."""
        return self._blocks

    @contextmanager
    def under_way(self, call: str, keys: Collection[bytes] = ()) -> Iterator[Any]:
        """Note that a call is under way, and tell of it."""
        self._under_way.append(call)
        try:
            yield self.listener.tell(call, keys)
        finally:
            self._under_way.remove(call)

    def get(self, key: Key) -> Value | None:
        """See the port."""
        with self.under_way("get", [key]) as nonsense:
            return nonsense or self._data.get(key)

    def put(self, key: Key, value: Value) -> None:
        """See the port."""
        with self.under_way("put", [key]), self._lock:
            self._apply({key: value})

    def delete(self, key: bytes) -> bool:
        """See the port."""
        with self.under_way("delete", [key]) as nonsense, self._lock:
            present = key in self._data
            self._apply({key: None})
            return nonsense or present

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[bytes]:
        """See the port."""
        with self.under_way("scan", [prefix]) as nonsense, self._lock:
            return nonsense or _scan(self._data, prefix, after, limit)

    def count(self, prefix: bytes) -> int:
        """See the port."""
        with self.under_way("count", [prefix]) as nonsense, self._lock:
            return nonsense or len(_under(self._data, prefix))

    def snapshot(self) -> TestedSnapshot:
        """See the port."""
        with self.under_way("snapshot"), self._lock:
            return TestedSnapshot(self, dict(self._data), self._number)

    def commit(self, request: CommitRequest) -> Committed | Conflict:
        """See the port."""
        with self.under_way("commit", request.writes) as nonsense, self._lock:
            for reads in request.reads:
                snapshot = reads.snapshot
                if not isinstance(snapshot, TestedSnapshot):
                    raise TypeError
                keys = tuple(key for key in reads.keys if self._changed_at.get(key, 0) > snapshot.number)
                ranges = tuple(
                    each for each in reads.ranges if _within(self._data, each) != _within(snapshot.data, each)
                )
                if keys or ranges:
                    return Conflict(keys, ranges)
            if request.clears:
                self._apply(dict.fromkeys(self._data))
            self._apply({key: None if value is TOMBSTONE else value for key, value in request.writes.items()})
            return nonsense or Committed(self._number)

    def sync(self) -> None:
        """See the port."""
        with self.under_way("sync"):
            pass

    def stats(self) -> Mapping[str, int]:
        """See the port."""
        with self.under_way("stats") as nonsense:
            return nonsense or {"keys": len(self._data)}

    def close(self) -> None:
        """See the port. Tells which calls are under way."""
        self.listener.tell("close", [call.encode() for call in self._under_way])

    def _apply(self, writes: Mapping[Key, Value | None]) -> None:
        self._number += 1
        for key, value in writes.items():
            if value is not None:
                self._data[key] = value
            elif self._data.pop(key, None) is None:
                continue
            self._changed_at[key] = self._number


def _under(data: Mapping[Key, Value], prefix: bytes) -> set[bytes]:
    return {key for key in data if key.startswith(prefix)}


def _within(data: Mapping[Key, Value], wanted: KeyRange) -> set[bytes]:
    return {key for key in data if wanted.holds(key)}


def _scan(data: Mapping[Key, Value], prefix: bytes, after: bytes, limit: int) -> list[bytes]:
    return sorted(key for key in _under(data, prefix) if key > after)[:limit]


@contextmanager
def _watched(_settings: Settings, _options: NoOptions, _log: FilteringBoundLogger) -> Iterator[TestedStorage]:
    with _closed(TestedStorage(Control(int(os.environ[CONTROL_VARIABLE])), blocks=False)) as storage:
        yield storage


@contextmanager
def _blocking(_settings: Settings, _options: NoOptions, _log: FilteringBoundLogger) -> Iterator[TestedStorage]:
    with _closed(TestedStorage(Control(int(os.environ[CONTROL_VARIABLE])), blocks=True)) as storage:
        yield storage


@contextmanager
def _slow(_settings: Settings, _options: NoOptions, _log: FilteringBoundLogger) -> Iterator[TestedStorage]:
    with _closed(TestedStorage(Delay(float(os.environ[DELAY_VARIABLE])), blocks=True)) as storage:
        yield storage


@contextmanager
def _closed(storage: TestedStorage) -> Iterator[TestedStorage]:
    try:
        yield storage
    finally:
        storage.close()


class PickyOptions(msgspec.Struct, frozen=True):
    """Options to be given in every way."""

    size_bytes: Annotated[int, Meta(ge=1, le=1 << 20, description="a size")] = 1
    mode: Annotated[Literal["loud", "quiet"], Meta(description="a choice")] = "quiet"
    careful: Annotated[bool, Meta(description="yes or no")] = False


@contextmanager
def _picky(_settings: Settings, options: PickyOptions, _log: FilteringBoundLogger) -> Iterator[TestedStorage]:
    if options.mode == "loud" and options.careful:
        raise ConfigError("storage.picky.mode: 'loud' does not go with careful = true")
    raise StorageOpenError(f"picky: cannot be opened with {options}")
    yield  # makes it a generator


@contextmanager
def _shadowing(_settings: Settings, _options: NoOptions, _log: FilteringBoundLogger) -> Iterator[TestedStorage]:
    raise ConfigError("storage: a built-in engine was shadowed")
    yield  # makes it a generator


@contextmanager
def _underived(_settings: Settings, _options: NoOptions, _log: FilteringBoundLogger) -> Iterator[Any]:
    yield object()  # it has the methods of an engine, perhaps, and is none


class LoadingOptions(msgspec.Struct, frozen=True):
    """What happens while it is opened."""

    way: Annotated[
        Literal["waits", "computes", "tries_again", "makes_an_error", "swallows", "leaves_a_thread"],
        Meta(description="what it does while it is opened, and with what ends that"),
    ] = "waits"


@contextmanager
def _loading(_settings: Settings, options: LoadingOptions, _log: FilteringBoundLogger) -> Iterator[TestedStorage]:
    port = int(os.environ[CONTROL_VARIABLE])
    control = Control(port)
    if options.way == "leaves_a_thread":
        threading.Thread(target=threading.Event().wait).start()
    try:
        _load(control, options.way)
        storage = TestedStorage(Control(port), blocks=False)  # the first may be in the middle of a call
        try:
            yield storage
        finally:
            storage.close()
    finally:
        Control(port).tell("let_go")


def _load(control: Control, way: str) -> None:
    while True:
        try:
            control.tell("loading")
            while way == "computes":
                pass
        except Exception:  # that is its fault
            if way != "tries_again":
                raise
        except BaseException:
            if way == "makes_an_error":
                raise StorageOpenError("loading: something ended it") from None
            if way != "swallows":
                raise
        return


watched = EngineSpec(summary="Tells a test of each call.", open=_watched)
blocking = EngineSpec(summary="The same, as one that blocks.", open=_blocking, blocking=True)
expiring = EngineSpec(summary="That one, with records.", open=_blocking, blocking=True, records=True)
slow = EngineSpec(summary="Takes its time for each call.", open=_slow, blocking=True, records=True)
picky = EngineSpec(summary="Has options, and opens for nobody.", open=_picky, options=PickyOptions)
shadowing = EngineSpec(summary="Has taken a built-in name, and must never be opened.", open=_shadowing)
loading = EngineSpec(summary="Takes its time to be opened.", open=_loading, options=LoadingOptions)
underived = EngineSpec(summary="Opens what is no engine.", open=_underived)
