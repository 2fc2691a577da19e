"""Engines by name: built-in ones cannot be shadowed, others are found by their entry point."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvs import engines
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.config import ConfigError, Settings
from kvs.domain.errors import LimitError
from kvs.engines import open_storage
from kvs.logs import make_logger

pytestmark = pytest.mark.one_build

LOG = make_logger("info", "json")


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Path]:
    """Install a distribution with entry points, as far as Python can tell."""
    (tmp_path / "some_engine.py").write_text(
        "import contextlib\nfrom kvs.engine import EngineSpec\n"
        "memory = EngineSpec(summary='Some.', open=contextlib.nullcontext)\nfunction = contextlib.nullcontext\n"
    )
    info = tmp_path / "some_engine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-engine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[kvs.storage]\nsome = some_engine:memory\nmemory = some_engine:memory\nbroken = no_such_module:engine\n"
        "wrong = some_engine:no_such_attribute\nfunction = some_engine:function\n"
    )
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.path.remove(str(tmp_path))
    sys.modules.pop("some_engine", None)


def test_the_memory_engine_is_built_in_and_has_its_limits() -> None:
    """It is opened with the settings and closed by whoever opened it."""
    with open_storage(Settings(max_data_bytes=1), {}, LOG) as storage:
        assert isinstance(storage, MemoryStorage)
        assert not storage.blocking
        with pytest.raises(LimitError):
            storage.put(b"k", b"v")


def test_a_foreign_engine_is_found_by_its_entry_point(installed: Path) -> None:
    """Only the one that is asked for is imported."""
    engines.get("memory")
    assert "some_engine" not in sys.modules
    assert engines.get("some").summary == "Some."
    assert "some_engine" in sys.modules


def test_a_built_in_engine_cannot_be_shadowed(installed: Path) -> None:
    """An entry point of the same name is never asked."""
    assert engines.get("memory") is engines.MEMORY


def test_an_unknown_name_lists_those_there_are(installed: Path) -> None:
    """Built-in ones first, each once."""
    with pytest.raises(
        ConfigError,
        match=r"unknown engine 'nope'; available: memory, sqlite, etcd, broken, function, some, wrong \(others",
    ):
        engines.get("nope")


@pytest.mark.parametrize("name", ["broken", "wrong", "function"])
def test_an_engine_that_cannot_be_loaded_is_a_mistake_in_the_settings(installed: Path, name: str) -> None:
    """A module or an attribute that is missing, or no engine, is told in one line."""
    with pytest.raises(ConfigError, match=f"'{name}'"):
        engines.get(name)
