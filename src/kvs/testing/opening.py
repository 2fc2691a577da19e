"""Opens an engine as the server does, for a test class that has its descriptor."""

import sys
from contextlib import AbstractContextManager
from pathlib import Path

from kvs.config import Settings
from kvs.engine import EngineSpec
from kvs.logs import make_logger
from kvs.ports.storage import Storage


def open_engine(
    engine: EngineSpec, directory: Path | None = None, **options: object
) -> AbstractContextManager[Storage]:
    """Open an engine with default settings.

    Args:
        engine: Its descriptor.
        directory: What the setting ``data_dir`` is to say.
        options: Options of the engine that are not to have their defaults.
    """
    settings = Settings(data_dir="" if directory is None else str(directory))
    return engine.open(settings, engine.options(**options), make_logger("warning", "json", sys.stderr))
