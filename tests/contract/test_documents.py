"""What the documents say of engines is what there is."""

import re
from pathlib import Path
from textwrap import indent

from tests.contract.broken_engines import FAULTS

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "kvs-wholefile"
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
