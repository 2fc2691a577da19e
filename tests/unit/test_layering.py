"""Dependencies point one way: domain <- ports <- application <- adapters; only the composition root knows them all."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvs

pytestmark = pytest.mark.one_build

ROOT = Path(kvs.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

LAYERS: dict[str, tuple[str, ...]] = {
    "domain": ("kvs.domain", "immutables", "mypy_extensions"),
    "ports": ("kvs.ports", "kvs.domain", "kvs.override", "mypy_extensions"),
    "application": (
        "kvs.application",
        "kvs.ports",
        "kvs.domain",
        "kvs.addresses",
        "kvs.build",
        "kvs.log_type",
        "kvs.override",
        "mypy_extensions",
    ),
}
"""What a layer may import, besides the standard library. Of structlog the session has the type of its logger alone, as
an annotation; of mypy_extensions they have what tells the compiler something and does nothing in pure Python: names of
types, and marks of classes that plain Python may derive from, or that are in no cycle."""

IMPURE = {"asyncio", "logging", "os", "random", "secrets", "selectors", "socket", "sys", "threading", "time", "io"}


def imports(path: Path) -> Iterator[str]:
    """Return what a module imports, anywhere in it, as ``module.name``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, packages: tuple[str, ...]) -> bool:
    """Return whether a name is one of these packages or in one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


def modules_of(*parts: str) -> list[Path]:
    """Return the modules of a package."""
    return [path for path in MODULES if path.relative_to(ROOT).parts[: len(parts)] == parts]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_those_beneath_it(layer: str) -> None:
    """And the standard library."""
    assert len(modules_of(layer)) > 1
    for path in modules_of(layer):
        for name in imports(path):
            standard = name.partition(".")[0] in sys.stdlib_module_names
            assert standard or within(name, LAYERS[layer]), f"{path} imports {name}"


def test_the_domain_is_pure() -> None:
    """No I/O, no clock, no logging, no randomness."""
    for path in modules_of("domain"):
        assert not {name.partition(".")[0] for name in imports(path)} & IMPURE, path


def test_adapters_know_neither_the_composition_root_nor_the_command_line() -> None:
    """They are given what they need."""
    for path in modules_of("adapters"):
        for name in imports(path):
            assert not within(name, ("kvs.bootstrap", "kvs.cli", "kvs.__main__", "dependency_injector", "click")), path


def test_inbound_and_storage_adapters_do_not_know_each_other() -> None:
    """They meet at the ports."""
    for one, other in (("inbound", "storage"), ("storage", "inbound")):
        assert len(modules_of("adapters", one)) > 1
        for path in modules_of("adapters", one):
            assert not any(within(name, (f"kvs.adapters.{other}",)) for name in imports(path)), path


@pytest.mark.parametrize(
    ("room", "unknown"),
    [("net", ("line", "resp")), ("protocol", ("net", "line", "resp")), ("line", ("resp",)), ("resp", ("line",))],
)
def test_rooms_of_what_comes_in_know_only_those_beneath_them(room: str, unknown: tuple[str, ...]) -> None:
    """Sockets know no protocol, what protocols share knows no socket, and protocols do not know each other."""
    assert len(modules_of("adapters", "inbound", room)) > 1
    for path in modules_of("adapters", "inbound", room):
        for name in imports(path):
            assert not within(name, tuple(f"kvs.adapters.inbound.{other}" for other in unknown)), (
                f"{path} imports {name}"
            )


def test_nothing_but_itself_knows_the_suite_for_engines() -> None:
    """What serves does not need pytest."""
    assert len(modules_of("testing")) > 1
    for path in set(MODULES) - set(modules_of("testing")):
        assert not any(within(name, ("kvs.testing", "pytest", "hypothesis")) for name in imports(path)), path


def test_dump_knows_the_storage_port_and_no_adapter() -> None:
    """Nor the command line, which opens what it dumps and loads, and shows its progress."""
    allowed = (
        "kvs.dump",
        "kvs.ports",
        "kvs.domain",
        "kvs.errors",
        "kvs.override",
        "kvs.progress",
        "kvs.quantities",
        "kvs.standard_streams",
        "msgspec",
    )
    assert len(modules_of("dump")) > 1
    for path in modules_of("dump"):
        for name in imports(path):
            standard = name.partition(".")[0] in sys.stdlib_module_names
            assert standard or within(name, allowed), f"{path} imports {name}"


def test_only_the_command_line_knows_itself_and_its_library() -> None:
    """What it runs can be run without it."""
    knowing = {path for path in MODULES if any(within(name, ("kvs.cli", "click")) for name in imports(path))}
    assert knowing - set(modules_of("cli")) == {ROOT / "__main__.py"}


def test_only_the_composition_root_knows_the_container_library() -> None:
    """Everything else gets plain references."""
    knowing = {path.name for path in MODULES if any(within(name, ("dependency_injector",)) for name in imports(path))}
    assert knowing == {"bootstrap.py"}


def test_the_command_line_imports_what_it_runs_when_it_runs() -> None:
    """``kvs --version`` loads no settings, ``kvs --help`` no server, engine or dump, and ``kvs config`` no logs."""
    heavy = {
        "--version": ["kvs.config", "kvs.cli.options", "msgspec", "sqlite3", "asyncio", "structlog"],
        "--help": [
            *("kvs.bootstrap", "kvs.adapters", "kvs.application", "kvs.dump", "kvs.logs", "kvs.engines"),
            *("sqlite3", "asyncio", "dependency_injector", "structlog"),
        ],
        "config": ["kvs.bootstrap", "sqlite3", "asyncio", "structlog"],
    }
    for option, names in heavy.items():
        ran = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "kvs", option], capture_output=True, text=True, check=True
        )
        imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
        assert "kvs.cli.main" in imported
        assert not [name for name in imported if within(name, tuple(names))], option
