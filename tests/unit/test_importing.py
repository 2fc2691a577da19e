"""Packages that are kept from being imported for a while."""

from importlib import import_module
from pathlib import Path

import pytest

from kvs.importing import UNWANTED, only_what_is_wanted


def test_they_can_be_imported_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an engine of another package, for instance; and other packages all the time."""
    name = "fast_depends"
    assert name in UNWANTED
    for each in (name, "kvs_wanted"):
        (tmp_path / f"{each}.py").write_text("there = True\n", encoding="ascii")
    monkeypatch.syspath_prepend(tmp_path)
    with only_what_is_wanted():
        assert import_module("kvs_wanted").there
        with pytest.raises(ModuleNotFoundError, match=name):
            import_module(name)
    assert import_module(name).there
