"""What is compiled is what pyproject.toml says, and nothing else is."""

import ast
import re
import sys
import threading
import tomllib
from collections import defaultdict
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import kvs
from kvs.build import BUILD

ROOT = Path(__file__).parents[2]
PACKAGE = Path(kvs.__file__).parent
SETUP = spec_from_file_location("setup_of_kvs", ROOT / "setup.py")
assert SETUP is not None
assert SETUP.loader is not None
setup_py = module_from_spec(SETUP)
SETUP.loader.exec_module(setup_py)

PYPROJECT = """
[tool.kvs.compile]
packages = ["a", "b"]
[tool.kvs.compile.exclude]
"a/slow.py" = "a reason"
"b/waits" = "a reason"
[tool.kvs.compile.include]
"b/waits/hot.py" = "a reason"
[tool.kvs.compile.only_on]
"b/linux.py" = "linux"
"""
FILES = ["a/one.py", "a/slow.py", "a/__init__.py", "b/linux.py", "b/waits/cold.py", "b/waits/hot.py", "c/other.py"]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a tree of sources whose modules are chosen by a configuration of its own."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    for name in FILES:
        path = tmp_path / "src" / "kvs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.setattr(setup_py, "ROOT", tmp_path)
    return tmp_path


def test_whole_packages_but_for_exceptions(tree: Path) -> None:
    """And for exceptions from these, and what is for another system."""
    assert setup_py.modules_to_compile("linux") == ["a/one.py", "b/linux.py", "b/waits/hot.py"]
    assert setup_py.modules_to_compile("darwin") == ["a/one.py", "b/waits/hot.py"]
    (tree / "src" / "kvs" / "a" / "new.py").touch()
    assert "a/new.py" in setup_py.modules_to_compile("linux")


@pytest.mark.parametrize("name", ["a/slow.py", "b/waits/hot.py", "b/linux.py"])
def test_a_name_that_is_out_of_date_is_refused(tree: Path, name: str) -> None:
    """A module that has been moved must not change what is compiled without anybody's notice."""
    (tree / "src" / "kvs" / name).unlink()
    with pytest.raises(ValueError, match=name):
        setup_py.modules_to_compile("linux")


def test_several_files_are_compiled_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what they became is returned in their order."""
    both = threading.Barrier(2)

    class Compiler:
        def compile(self, sources: list[str], output_dir: str, *, debug: bool) -> list[str]:
            both.wait(60)
            assert (output_dir, debug) == ("there", False)
            return [source.replace(".c", ".o") for source in sources]

    monkeypatch.setattr(setup_py.os, "cpu_count", lambda: 2)
    compiler = Compiler()
    setup_py.in_parallel(compiler)
    assert compiler.compile(["a.c", "b.c", "c.c", "d.c"], "there", debug=False) == ["a.o", "b.o", "c.o", "d.o"]


def test_what_is_installed_is_what_is_named() -> None:
    """Every module that is named is compiled, and no other; in the pure build none is."""
    named = {name.removesuffix(".py") for name in setup_py.modules_to_compile()}
    compiled = {
        path.relative_to(PACKAGE).as_posix().removesuffix(suffix)
        for suffix in EXTENSION_SUFFIXES
        for path in PACKAGE.rglob(f"*{suffix}")
    }
    assert {name for name in compiled if "." not in name} == (named if BUILD == "compiled" else set())
    assert "domain/transaction" in named


def imported(path: Path) -> set[str]:
    """Return the modules that a module imports, anywhere in it, as written; of ``from a import b``, a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def module_of(name: str) -> Path | None:
    """Return the file of a module of kvs, or None if it is none."""
    if name.partition(".")[0] != PACKAGE.name:
        return None
    path = PACKAGE.parent / name.replace(".", "/")
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.exists()), None)


def test_what_is_compiled_is_built_with_all_that_it_imports() -> None:
    """Mypy follows imports out of what it compiles, where a build has only what ``build-system`` requires."""
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    there = {re.split(r"\W", each)[0] for each in requires} | {"kvs", *sys.stdlib_module_names}
    there.add("typing_extensions")  # mypy brings its types
    waiting = [PACKAGE / module for module in setup_py.modules_to_compile()]
    read: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in read:
            read.add(path)
            names = imported(path)
            assert {name.partition(".")[0] for name in names} <= there, path
            waiting += filter(None, map(module_of, names))
    assert PACKAGE / "addresses.py" in read  # which is not compiled


def handlers_of_two_types(source: str) -> list[str]:
    """Return the functions in which ``except`` gives one name to exceptions of different types."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            types: dict[str, set[str]] = defaultdict(set)
            for handler in ast.walk(function):
                if isinstance(handler, ast.ExceptHandler) and handler.name and handler.type is not None:
                    types[handler.name].add(ast.unparse(handler.type))
            found += [function.name] if any(len(each) > 1 for each in types.values()) else []
    return found


def test_a_name_of_exceptions_has_one_type_in_a_compiled_function() -> None:
    """Mypyc gives it the type of the first, and raises a TypeError for another."""
    for module in setup_py.modules_to_compile():
        found = handlers_of_two_types((PACKAGE / module).read_text(encoding="utf-8"))
        assert not found, f"{module}: {found}"
    two = "def f():\n try: g()\n except KeyError as error: h(error)\n except Exception as error: h(error)"
    assert handlers_of_two_types(two) == ["f"]
