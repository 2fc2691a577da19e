"""What the documents say of packages: no command fetches anybody else's."""

import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.one_build

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "kvs-wholefile"
FOLDERS = ("bench", "docs", "examples", "src", "tests", "tools")
TEXTS = [
    path
    for path in (*ROOT.glob("*"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")))
    if path.suffix in (".md", ".py", ".toml", ".cfg", "") and path.is_file() and path.parent != Path(__file__).parent
    if path.parent.name != "build"  # what the benchmark has compiled
]
INSTALLERS = re.compile(r"\b(?:pipx? install|pipx run|uv pip install|uv add|uv tool install|uvx) +([^`\"#;&\n]*)")
OURS = re.compile(r"\.(\[(?:admin|testing)\])?|\.\./\.\.|\.\[tests\]|examples/kvs-wholefile")
OF_OTHERS = ("h11", "hypothesis", "pytest")


def test_no_command_installs_a_package_by_a_name_that_may_be_a_strangers() -> None:
    """PyPI's kvs is another program, and anybody may take a name that is free today: kvs is installed by its path."""
    named = [
        (path.relative_to(ROOT), word)
        for path in TEXTS
        for arguments in INSTALLERS.findall(path.read_text(encoding="utf-8"))
        for word in re.split(r"[\s'\"]+", arguments)
        if word and not word.startswith("-") and not OURS.fullmatch(word) and word not in OF_OTHERS
    ]
    assert named == []
    assert sum(bool(INSTALLERS.search(path.read_text(encoding="utf-8"))) for path in TEXTS) > 3


def test_the_distribution_is_called_kvs_server() -> None:
    """By itself and by the example, which has nothing of a package called kvs."""
    own, example = (tomllib.loads((folder / "pyproject.toml").read_text())["project"] for folder in (ROOT, EXAMPLE))
    assert own["name"] == "kvs-server"
    needed = [*example["dependencies"], *example["optional-dependencies"]["tests"]]
    assert [re.split(r"[>\[]", need)[0] for need in needed] == ["kvs-server", "msgspec", "structlog", "kvs-server"]
