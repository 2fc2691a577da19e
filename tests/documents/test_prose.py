"""What documents say between their blocks: links, tables, and code that names commands, files and settings."""

import re
import shlex
from typing import Final

import pytest

from kvs.cli.main import COMMANDS
from kvs.config import SETTINGS
from tests.documents.commands import (
    check_bench,
    check_install,
    check_kvs,
    check_make,
    check_variable,
    help_of_pytest,
    kvs_command,
    without_assignments,
)
from tests.documents.markdown import LINKED, REPLAYED, ROOT, Document, Span, document

pytestmark = pytest.mark.one_build

PATH: Final = re.compile(r"(?:[\w.-]+/)+(?:[\w.-]+\.(?:py|md|js|toml|json|svg))?|[\w.-]+(?:/[\w-]+)*\.(?:py|js)")


@pytest.mark.parametrize("path", LINKED)
def test_links_lead_somewhere(path: str) -> None:
    """To a file that is there, and to a heading in it."""
    for where, target in document(path).links():
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        file = ((ROOT / path).parent / name).resolve() if name else ROOT / path
        assert file.exists(), f"{where}: the link leads to {target}, and there is no such file"
        if anchor:
            anchors = Document(str(file.relative_to(ROOT))).anchors
            assert anchor in anchors, f"{where}: the link leads to {target}; {file.name} has {sorted(anchors)}"


@pytest.mark.parametrize("path", LINKED)
def test_tables_are_tables(path: str) -> None:
    """Each line that begins with a bar belongs to a table, and has as many cells as its heading."""
    for _ in document(path).tables():
        pass


WIDTH: Final = 120
README_LINES: Final = 200


@pytest.mark.parametrize("path", REPLAYED)
def test_lines_fit_into_a_window(path: str) -> None:
    """All but the rows of tables, which Markdown cannot break; in the README these, too."""
    for number, line in enumerate(document(path).lines, 1):
        if not line.startswith("|") or path == "README.md":
            assert len(line) <= WIDTH, f"{path}:{number}: {len(line)} columns"


def test_the_readme_is_short() -> None:
    """People read it to its end."""
    assert len(document("README.md").lines) <= README_LINES


CHECKS: Final = {
    ("make",): check_make,
    ("kvs",): check_kvs,
    ("pip", "install"): check_install,
    ("python", "-m", "bench"): check_bench,
    ("python", "-m", "kvs"): check_kvs,
}
"""How a command is checked, by the words that it begins with."""


@pytest.mark.parametrize("path", REPLAYED)
def test_commands_in_the_text_exist(path: str) -> None:
    """Targets of make, commands and options of kvs and of the benchmark, variables, and what pip is to install."""
    for where, text in document(path).spans():
        if re.match(r"(?:[A-Z_]+=\S+ )*(?:make|kvs|pip|python) ", text):
            words = without_assignments(where, shlex.split(text))
            for begins, check in CHECKS.items():
                if tuple(words[: len(begins)]) == begins:
                    check(where, words[len(begins) :])
        elif re.match(r"(?:KVS|TEST|HYPOTHESIS)_[A-Z_]+(?:=|$)", text):
            check_variable(where, text.partition("=")[0])


@pytest.mark.parametrize("path", REPLAYED)
def test_options_in_the_text_exist(path: str) -> None:
    """Of kvs or of pytest, or in the benchmark's manual of that."""
    known = {"--help", "--version"} | {
        option
        for name in COMMANDS
        if (command := kvs_command(name)) is not None
        for parameter in command.params
        for option in parameter.opts
    }
    for where, text in document(path).spans():
        if not text.startswith("--"):
            continue
        option = re.split("[ =]", text)[0]
        if path == "bench/README.md":
            check_bench(where, ["quick", option, "1"] if option != "--help" else [])
        else:
            found = option in known or re.search(rf"(?<![\w-]){option}(?![\w-])", help_of_pytest())
            assert found, f"{where}: neither a command of kvs nor pytest has an option {option}"


@pytest.mark.parametrize("path", REPLAYED)
def test_files_in_the_text_exist(path: str) -> None:
    """Wherever in the repository their path begins."""
    places = (ROOT / start for start in ("src", "tests", "bench", "docs", "examples", "deploy"))
    files = [*ROOT.iterdir(), *(file for place in places for file in place.rglob("*"))]
    names = [str(file.relative_to(ROOT)) for file in files]
    for where, text in document(path).spans():
        if PATH.fullmatch(text):
            assert any(("/" + name).endswith("/" + text.rstrip("/")) for name in names), f"{where}: there is no {text}"


@pytest.mark.parametrize("path", REPLAYED)
def test_settings_in_the_text_exist(path: str) -> None:
    """What is named as settings are, is one, or something else that the sources name so."""
    sources = "\n".join(
        file.read_text(encoding="utf-8")
        for start in ("src", "tests", "bench", "examples")
        for file in (ROOT / start).rglob("*.py")
    )
    for where, text in document(path).spans():
        if re.fullmatch(r"(?:max|min)_\w+|(?!kvs_)\w+_(?:bytes|s)", text) and text not in SETTINGS:
            assert re.search(rf"\b{text}\b", sources), f"{where}: nothing is named {text}"


def test_spans_are_found() -> None:
    """Also such as are broken over two lines, and none in blocks."""
    spans = list(document("docs/performance.md").spans())
    assert any(text.startswith("python -m bench quick --servers") for _, text in spans)
    assert not any("storage.commit(request)" in text for _, text in spans)
    assert all(isinstance(span, Span) for span in spans)
