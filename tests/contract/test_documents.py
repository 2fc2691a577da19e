"""What the documents say of engines is what there is; and what they say of packages fetches nobody else's."""

import re
import tomllib
from pathlib import Path
from textwrap import indent

import pytest

from tests.contract.broken_engines import FAULTS

pytestmark = pytest.mark.one_build

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "kvs-wholefile"
FOLDERS = ("bench", "docs", "examples", "src", "tests", "tools")
TEXTS = [
    path
    for path in (*ROOT.glob("*"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")))
    if path.suffix in (".md", ".py", ".toml", ".cfg", "") and path.is_file() and path != Path(__file__)
]
INSTALLERS = re.compile(r"\b(?:pipx? install|pipx run|uv pip install|uv add|uv tool install|uvx) +([^`\"#;&\n]*)")
OURS = re.compile(r"\.(\[testing\])?|\.\./\.\.|\.\[tests\]|examples/kvs-wholefile")
OF_OTHERS = ("hypothesis", "pytest")
SHOWN = (
    EXAMPLE / "src" / "kvs_wholefile.py",
    EXAMPLE / "pyproject.toml",
    EXAMPLE / "tests" / "test_contract.py",
    ROOT / "tests" / "contract" / "test_engines.py",
)


def section(document: str, start: str, end: str) -> str:
    """Return a document from one heading to another, or to its end."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    _, found, rest = text.partition(f"\n{start}\n")
    assert found
    return rest.partition(f"\n{end}\n")[0]


def test_the_code_in_the_walk_through_is_that_of_the_example() -> None:
    """Word for word; methods are shown without the indentation they have in their class."""
    sources = [path.read_text(encoding="utf-8") for path in SHOWN]
    text = section("engines.md", "## Writing one", "### To look for more")
    blocks = re.findall(r"^```(?:python|toml)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 9
    for block in blocks:
        assert any(block in source or indent(block, "    ") in source for source in sources), block


def test_every_broken_engine_is_in_the_table() -> None:
    """With the case that it fails, and no other engine is."""
    rows = re.findall(
        r"^\| `(\w+)` \| `(\w+)` \|$", section("development.md", "### Broken engines", "## How to add"), re.MULTILINE
    )
    assert sorted(rows) == sorted((fault.engine.__name__, fault.promise) for fault in FAULTS)


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
