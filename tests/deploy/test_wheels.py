"""Wheels: that one of the pure build has what it should, and that one that has not is found out."""

import shutil
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Final
from zipfile import ZipFile

import pytest

from tests.documents.markdown import ROOT

pytestmark = pytest.mark.one_build

SPEC = spec_from_file_location("wheels_of_kvs", ROOT / "tools" / "wheels.py")
assert SPEC is not None
assert SPEC.loader is not None
wheels = module_from_spec(SPEC)
SPEC.loader.exec_module(wheels)


def changed(wheel: Path, directory: Path, name: str, old: bytes = b"", new: bytes = b"") -> Path:
    """Return a copy of a wheel in which something else is in a file, or which does not have it."""
    copy = directory / wheel.name
    with ZipFile(wheel) as source, ZipFile(copy, "w") as target:
        for each in source.namelist():
            contents = source.read(each)
            if not each.endswith(name):
                target.writestr(each, contents)
            elif old:
                assert old in contents
                target.writestr(each, contents.replace(old, new))
    return copy


WRONG: Final = (
    ("kvs/py.typed", b"", b"", r"missing \['kvs/py.typed'\]"),
    ("kvs/domain/values.py", b"", b"", "values"),
    ("METADATA", b"Requires-Dist: click", b"Requires-Dist: clack", "dependencies"),
    ("METADATA", b"Provides-Extra: testing", b"Provides-Extra: tasting", "extras"),
    ("METADATA", b"Requires-Python: >=3.11", b"Requires-Python: >=3.9", "Requires-Python"),
    ("entry_points.txt", b"kvs = ", b"kws = ", "no command kvs"),
    ("licenses/LICENSE", b"", b"", "licence"),
)
"""What may be wrong with a wheel: what is put in place of what in which file, and the complaint."""


def test_a_wheel_has_what_it_should_and_what_is_wrong_is_found_out(tmp_path: Path) -> None:
    """All files of the package, and what pyproject.toml says. One test, as it takes seconds to build a wheel."""
    sources = tmp_path / "sources"
    sources.mkdir()
    wheels.copy_sources(sources)
    wheel = wheels.build(sys.executable, "pure", sources, tmp_path / "dist", "--no-build-isolation")
    wheels.check(wheel, ROOT, [], "")
    for name, old, new, complaint in WRONG:
        with pytest.raises(wheels.WheelError, match=complaint):
            wheels.check(changed(wheel, tmp_path, name, old, new), ROOT, [], "")
    with pytest.raises(wheels.WheelError, match=r"compiled modules: missing.*kvs/domain/values"):
        wheels.check(wheel, ROOT, ["domain/values.py"], "3.11")  # as after a build without a compiler


def test_a_shim_without_an_interpreter_is_none(tmp_path: Path) -> None:
    """Such as those of pyenv."""
    shim = tmp_path / "python3.12"
    shutil.copy("/bin/false", shim)
    assert wheels.version_of(str(shim)) == ""
    assert wheels.version_of(str(tmp_path / "nothing")) == ""
    assert wheels.version_of(sys.executable) == "{}.{}".format(*sys.version_info)


def test_the_versions_are_those_of_the_project() -> None:
    """Beginning with the oldest that it takes."""
    versions = wheels.versions()
    assert versions[0] == wheels.project()["requires-python"].removeprefix(">=")
    assert len(versions) == len(set(versions)) >= 3
