"""Storage engines for tests of the server around them.

``watched`` is a naive engine that copies everything for every snapshot. It tells a test of each call before it answers,
and does what the test says: go on, raise, or return what an engine must not return.
"""

import json
import os
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from structlog.typing import FilteringBoundLogger

from kvs.config import ConfigError, Settings
from kvs.domain.errors import LimitError, OutcomeUnknownError, StorageUnavailableError
from kvs.domain.transaction import COMMITTED, CommitRequest, Committed, Conflict
from kvs.engine import Engine, NoOptions, StorageOpenError
from kvs.ports.storage import Snapshot, Storage

CONTROL_VARIABLE: Final = "TEST_ENGINE_CONTROL"
"""Names the port, on 127.0.0.1, where the test listens."""


class EngineBug(Exception):  # noqa: N818  # it is one
    """What no engine should raise."""


class Control:
    """The line to the test: one line of JSON for each call, one word in answer."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._answers = self._socket.makefile("rb")

    def tell(self, call: str, keys: Collection[bytes] = ()) -> Any:  # what to return instead, None to go on
        """Tell of a call, and obey."""
        told = {"call": call, "keys": [key.decode(errors="backslashreplace") for key in keys]}
        self._socket.sendall(json.dumps(told).encode() + b"\n")
        answer = self._answers.readline().decode().strip()
        if answer == "raise_limit":
            raise LimitError("The test engine is full.")
        if answer == "raise_unavailable":
            raise StorageUnavailableError("The test engine is away.")
        if answer == "raise_outcome_unknown":
            raise OutcomeUnknownError("The test engine does not know.")
        if answer == "raise_bug":
            raise EngineBug("The test engine has a bug.")
        return "not what the port says" if answer == "return_nonsense" else None

    def close(self) -> None:
        """Hang up."""
        self._answers.close()
        self._socket.close()


class WatchedSnapshot(Snapshot):
    """A copy of everything."""

    def __init__(self, control: Control, data: dict[bytes, bytes], number: int) -> None:
        self.data = data
        self.number = number
        self._control = control

    def get(self, key: bytes) -> bytes | None:
        """See the port."""
        return self._control.tell("snapshot.get", [key]) or self.data.get(key)

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[bytes]:
        """See the port."""
        return self._control.tell("snapshot.scan", [prefix]) or _scan(self.data, prefix, after, limit)

    def count(self, prefix: bytes) -> int:
        """See the port."""
        return self._control.tell("snapshot.count", [prefix]) or len(_under(self.data, prefix))

    def close(self) -> None:
        """See the port."""
        self._control.tell("snapshot.close")


class WatchedStorage(Storage):
    """The engine."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._data: dict[bytes, bytes] = {}
        self._changed_at: dict[bytes, int] = {}
        self._number = 0

    def get(self, key: bytes) -> bytes | None:
        """See the port."""
        return self._control.tell("get", [key]) or self._data.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """See the port."""
        self._control.tell("put", [key])
        self._apply({key: value})

    def delete(self, key: bytes) -> bool:
        """See the port."""
        nonsense = self._control.tell("delete", [key])
        present = key in self._data
        self._apply({key: None})
        return nonsense or present

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[bytes]:
        """See the port."""
        return self._control.tell("scan", [prefix]) or _scan(self._data, prefix, after, limit)

    def count(self, prefix: bytes) -> int:
        """See the port."""
        return self._control.tell("count", [prefix]) or len(_under(self._data, prefix))

    def snapshot(self) -> WatchedSnapshot:
        """See the port."""
        self._control.tell("snapshot")
        return WatchedSnapshot(self._control, dict(self._data), self._number)

    def commit(self, request: CommitRequest) -> Committed | Conflict:
        """See the port."""
        nonsense = self._control.tell("commit", request.writes)
        for validation in request.validations:
            snapshot = validation.snapshot
            if not isinstance(snapshot, WatchedSnapshot):
                raise TypeError
            keys = tuple(key for key in validation.keys if self._changed_at.get(key, 0) > snapshot.number)
            prefixes = tuple(
                prefix for prefix in validation.prefixes if _under(self._data, prefix) != _under(snapshot.data, prefix)
            )
            if keys or prefixes:
                return Conflict(keys, prefixes)
        self._apply({key: value if isinstance(value, bytes) else None for key, value in request.writes.items()})
        return nonsense or COMMITTED

    def sync(self) -> None:
        """See the port."""
        self._control.tell("sync")

    def stats(self) -> Mapping[str, int]:
        """See the port."""
        return {"keys": len(self._data)}

    def close(self) -> None:
        """See the port."""
        self._control.tell("close")

    def _apply(self, writes: Mapping[bytes, bytes | None]) -> None:
        self._number += 1
        for key, value in writes.items():
            if value is not None:
                self._data[key] = value
            elif self._data.pop(key, None) is None:
                continue
            self._changed_at[key] = self._number


def _under(data: Mapping[bytes, bytes], prefix: bytes) -> set[bytes]:
    return {key for key in data if key.startswith(prefix)}


def _scan(data: Mapping[bytes, bytes], prefix: bytes, after: bytes, limit: int) -> list[bytes]:
    return sorted(key for key in _under(data, prefix) if key > after)[:limit]


@contextmanager
def _watched(_settings: Settings, _options: NoOptions, _log: FilteringBoundLogger) -> Iterator[WatchedStorage]:
    control = Control(int(os.environ[CONTROL_VARIABLE]))
    storage = WatchedStorage(control)
    try:
        yield storage
    finally:
        storage.close()
        control.close()


class PickyOptions(msgspec.Struct, frozen=True):
    """Options to be given in every way."""

    size_bytes: Annotated[int, Meta(ge=1, le=1 << 20, description="a size")] = 1
    mode: Annotated[Literal["loud", "quiet"], Meta(description="a choice")] = "quiet"
    careful: Annotated[bool, Meta(description="yes or no")] = False


@contextmanager
def _picky(_settings: Settings, options: PickyOptions, _log: FilteringBoundLogger) -> Iterator[WatchedStorage]:
    if options.mode == "loud" and options.careful:
        raise ConfigError("storage.picky.mode: 'loud' does not go with careful = true")
    raise StorageOpenError(f"picky: cannot be opened with {options}")
    yield  # makes it a generator


@contextmanager
def _shadowing(_settings: Settings, _options: NoOptions, _log: FilteringBoundLogger) -> Iterator[WatchedStorage]:
    raise ConfigError("storage: a built-in engine was shadowed")
    yield  # makes it a generator


@contextmanager
def _underived(_settings: Settings, _options: NoOptions, _log: FilteringBoundLogger) -> Iterator[Any]:
    yield object()  # it has the methods of an engine, perhaps, and is none


watched = Engine(summary="Tells a test of each call.", open=_watched)
picky = Engine(summary="Has options, and opens for nobody.", open=_picky, options=PickyOptions)
shadowing = Engine(summary="Has taken a built-in name, and must never be opened.", open=_shadowing)
underived = Engine(summary="Opens what is no engine.", open=_underived)
