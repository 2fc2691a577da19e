"""The two classes to derive from, and a function that opens an engine as the server does."""

import sys
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from kvs.config import Settings
from kvs.engine import EngineSpec
from kvs.logs import make_logger
from kvs.ports.storage import Storage
from kvs.testing.cases.changes import ChangeCases
from kvs.testing.cases.commits import CommitCases
from kvs.testing.cases.conflicts import ConflictCases
from kvs.testing.cases.durability import DurabilityCases
from kvs.testing.cases.reads import ReadCases
from kvs.testing.cases.records import RecordCases
from kvs.testing.cases.refusals import RefusalCases
from kvs.testing.cases.scans import ScanCases
from kvs.testing.cases.sessions import SessionCases
from kvs.testing.cases.snapshots import SnapshotCases
from kvs.testing.cases.threads import ThreadCases
from kvs.testing.cases.updates import UpdateCases


class StorageContract(
    ReadCases,
    ScanCases,
    SnapshotCases,
    UpdateCases,
    CommitCases,
    ChangeCases,
    ConflictCases,
    RefusalCases,
    RecordCases,
    ThreadCases,
    SessionCases,
):
    """The cases for every engine. Derive a class named ``Test...`` and define ``open_storage``."""


class DurableStorageContract(StorageContract, DurabilityCases):
    """The cases for an engine that keeps its data in a directory. Define ``open_storage_in`` instead."""

    share_of_examples = 0.2  # each write waits for the disk
    walk_steps = 2_000

    @contextmanager
    def open_storage(self) -> Iterator[Storage]:
        """Open an engine in a directory of its own."""
        with TemporaryDirectory(prefix="kvs-") as directory, self.open_storage_in(Path(directory)) as storage:
            yield storage

    @abstractmethod
    def open_storage_in(self, directory: Path) -> AbstractContextManager[Storage]:
        """Open the engine on the data of a directory."""


def open_engine(
    engine: EngineSpec, directory: Path | None = None, **options: object
) -> AbstractContextManager[Storage]:
    """Open an engine with default settings.

    Args:
        engine: Its spec.
        directory: Value of the setting ``data_dir``.
        options: Options of the engine that differ from their defaults.
    """
    settings = Settings(data_dir="" if directory is None else str(directory))
    return engine.open(settings, engine.options(**options), make_logger("warning", "json", sys.stderr))
