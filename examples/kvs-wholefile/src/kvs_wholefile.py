"""An engine for kvs that writes its whole data set to one file at every sync. For small data only.

Nearly everything costs as much as there are keys: a snapshot is a copy. What it promises it promises like any other.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from structlog.typing import FilteringBoundLogger

from kvs.config import ConfigError, Settings
from kvs.domain.codec import DamagedValueError, decode, encode
from kvs.domain.commit import MAX_CONFLICTS_NAMED, CommitRequest, Committed, Conflict, KeyRange, prefix_range
from kvs.domain.errors import LimitError
from kvs.domain.values import TOMBSTONE, Key, Value, Write
from kvs.engine import EngineSpec, StorageOpenError
from kvs.ports.storage import Snapshot, Storage


class WholeFileSnapshot(Snapshot):
    """A copy of everything, and the number of the last commit in it."""

    def __init__(self, storage: "WholeFileStorage") -> None:
        self.data: Final = dict(storage.data)
        self.commits: Final = storage.commits
        self._storage = storage
        storage.snapshots.add(self)

    def get(self, key: Key) -> Value | None:
        return self.data.get(key)

    def scan(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        return [key for key in _within(self.data, prefix_range(prefix)) if key > after][:limit]

    def count(self, prefix: Key) -> int:
        return len(_within(self.data, prefix_range(prefix)))

    def close(self) -> None:
        self._storage.snapshots.remove(self)
        self._storage.forget_changes()


class WholeFileStorage(Storage):
    """The engine. Not thread-safe: the server calls it from its loop.

    Args:
        path: The file; if there is none, the data set is empty.
        directory: Descriptor of the directory that the file is in.
        max_keys: A write that would make more keys than this is refused.

    Raises:
        OSError: The file cannot be read.
        msgspec.DecodeError: It was not written by this engine.
        DamagedValueError: The same.
    """

    def __init__(self, path: Path, directory: int, max_keys: int) -> None:
        self.data: dict[Key, Value] = {}
        self.commits = 0
        self.snapshots: set[WholeFileSnapshot] = set()
        self._changed_at: dict[Key, int] = {}  # the last commit that put or deleted a key, while a snapshot is open
        self._saved = 0
        self._path = path
        self._directory = directory
        self._max_keys = max_keys
        if path.exists():
            encoded = msgspec.msgpack.decode(path.read_bytes(), type=dict[bytes, bytes])
            self.data = {key: decode(value) for key, value in encoded.items()}

    def get(self, key: Key) -> Value | None:  # the default would copy everything for it
        return self.data.get(key)

    def snapshot(self) -> WholeFileSnapshot:
        return WholeFileSnapshot(self)

    def commit(self, request: CommitRequest) -> Committed | Conflict:
        keys: list[Key] = []
        ranges: list[KeyRange] = []
        for reads in request.reads:
            then = reads.snapshot
            assert isinstance(then, WholeFileSnapshot)
            keys += [key for key in reads.keys if self._changed_at.get(key, 0) > then.commits]
            ranges += [each for each in reads.ranges if _within(self.data, each) != _within(then.data, each)]
        if keys or ranges:
            return Conflict(tuple(keys[:MAX_CONFLICTS_NAMED]), tuple(ranges[:MAX_CONFLICTS_NAMED]))
        if request.clears:
            self._apply({**dict.fromkeys(self.data, TOMBSTONE), **request.writes})
        elif request.writes:
            self._apply(request.writes)
        return Committed(self.commits)

    def sync(self) -> None:
        if self._saved == self.commits:
            return
        new = self._path.with_name(self._path.name + ".new")
        with new.open("wb") as file:
            file.write(msgspec.msgpack.encode({key: encode(value) for key, value in self.data.items()}))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)  # all of the new data or all of the old, whenever the process or the machine stops
        os.fsync(self._directory)  # or the new file's name might not outlast a power cut
        self._saved = self.commits

    def stats(self) -> Mapping[str, int]:
        return {"keys": len(self.data), "changes_kept": len(self._changed_at)}

    def close(self) -> None:
        pass  # what was acknowledged has been synced, and the rest was told to nobody

    def forget_changes(self) -> None:
        """Forget the changes that every open snapshot contains, so that they do not pile up."""
        oldest = min((snapshot.commits for snapshot in self.snapshots), default=self.commits)
        self._changed_at = {key: commit for key, commit in self._changed_at.items() if commit > oldest}

    def _apply(self, writes: Mapping[Key, Write]) -> None:
        """Apply writes as one commit, or refuse all of them."""
        keys = len(self.data)
        for key, pending in writes.items():
            keys += (pending is not TOMBSTONE) - (key in self.data)
        if keys > max(self._max_keys, len(self.data)):  # what does not make it larger is never refused
            raise LimitError(f"The data set is full: this would make {keys} keys of max_keys = {self._max_keys}.")
        self.commits += 1
        for key, pending in writes.items():
            if pending is not TOMBSTONE:
                self.data[key] = pending
            elif self.data.pop(key, None) is None:
                continue  # deleting an absent key changes nothing
            if self.snapshots:
                self._changed_at[key] = self.commits


def _within(data: Mapping[Key, Value], keys: KeyRange) -> list[Key]:
    return sorted(key for key in data if keys.holds(key))


class WholeFileOptions(msgspec.Struct, frozen=True):
    """What can be set of this engine."""

    file_name: Annotated[
        str, Meta(pattern=r"^[^/\0]+$", max_length=200, description="name of the file in the data directory")
    ] = "kvs.msgpack"
    max_keys: Annotated[
        int, Meta(ge=1, le=1_000_000, description="keys there may be; all of them are written at every sync")
    ] = 10_000


@contextmanager
def locked(directory: Path) -> Iterator[int]:
    """Hold a directory, made if there is none, for one process alone; yield its descriptor."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise StorageOpenError(f"data_dir: cannot use {directory}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it when the process ends
        except OSError:
            raise StorageOpenError(f"data_dir: {directory} is in use by another server; one at a time") from None
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def open_wholefile(settings: Settings, options: WholeFileOptions, log: FilteringBoundLogger) -> Iterator[Storage]:
    """Take the data directory and read the file in it; see :class:`kvs.engine.EngineSpec`."""
    if not settings.data_dir:
        raise ConfigError("data_dir: the wholefile engine needs a directory for its file; give one: --data-dir DIR")
    path = Path(settings.data_dir, options.file_name)
    with locked(path.parent) as directory:
        try:
            storage = WholeFileStorage(path, directory, options.max_keys)
        except OSError as error:
            raise StorageOpenError(f"{path}: cannot be read: {error.strerror}") from None
        except (msgspec.DecodeError, DamagedValueError) as error:
            raise StorageOpenError(f"{path}: is no file of this engine, or damaged: {error}") from None
        log.info("loaded", path=str(path), keys=len(storage.data))
        try:
            yield storage
        finally:
            storage.close()


ENGINE: Final = EngineSpec(
    summary="Everything in one file, written anew at every sync. For small data only.",
    open=open_wholefile,
    options=WholeFileOptions,
    durable=True,
    shared=False,
    records=True,
    blocking=False,
)
