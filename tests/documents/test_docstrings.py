"""Docstrings name arguments and attributes that exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvs

pytestmark = pytest.mark.one_build

ROOT = Path(kvs.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

Function = ast.FunctionDef | ast.AsyncFunctionDef


def described(node: Function | ast.ClassDef, section: str) -> set[str]:
    """Return the names that a section of a docstring describes."""
    found = re.search(rf"^{section}:\n((?: {{4}}.*\n?|\n)*)", ast.get_docstring(node) or "", re.MULTILINE)
    return set(re.findall(r"^ {4}(\w+):", found[1], re.MULTILINE)) if found else set()


def parameters(function: Function) -> set[str]:
    """Return the names of a function's parameters."""
    arguments = function.args
    given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return {argument.arg for argument in given if argument is not None}


def attributes(node: ast.ClassDef) -> Iterator[str]:
    """Yield the names that a class defines, or assigns to ``self``."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
            yield inner.attr
        elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            yield inner.id
        elif isinstance(inner, Function):
            yield inner.name


def mistakes(source: str) -> list[str]:
    """Return what docstrings describe and the code does not have, as ``function or class: name``."""
    missing = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function):
            unknown = described(node, "Args") - parameters(node)
        elif isinstance(node, ast.ClassDef):
            made = [part for part in node.body if isinstance(part, Function) and part.name in ("__init__", "__call__")]
            unknown = described(node, "Attributes") - set(attributes(node))
            if made:  # else a base class has the constructor
                unknown |= described(node, "Args") - set().union(*map(parameters, made))
        else:
            continue
        missing += [f"{node.name}: {name}" for name in sorted(unknown)]
    return missing


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_docstrings_describe_what_exists(module: Path) -> None:
    """Arguments are those of the function or the constructor; attributes are assigned, or defined, in the class."""
    assert mistakes(module.read_text(encoding="utf-8")) == []


def test_mistakes_are_found() -> None:
    """In a function, in a constructor's arguments, and in attributes; of each the one that does not exist."""
    source = '''
def run(given):
    """Run.

    Args:
        given: Exists.
        gone: Does not.
    """

class Turn:
    """A turn.

    Args:
        first: Exists.
        second: Does not.

    Attributes:
        first: Exists,
            in two lines.
        third: Does not.
    """

    def __init__(self, first):
        self.first = first
'''
    assert mistakes(source) == ["run: gone", "Turn: second", "Turn: third"]
