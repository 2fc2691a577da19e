"""Blocks of Python and TOML: run, read as settings, or compared with the files that they are taken from."""

import re
from collections.abc import Mapping
from textwrap import indent
from typing import Final

from tests.documents.markdown import ROOT, Block
from tests.documents.shell import Shell

SOURCES: Final = (
    "examples/kvs-wholefile/src/kvs_wholefile.py",
    "examples/kvs-wholefile/pyproject.toml",
    "examples/kvs-wholefile/tests/test_contract.py",
    "tests/contract/test_engines.py",
)
"""Where the code comes from that the walk through an engine shows."""

WALK_THROUGH: Final = frozenset({"Writing one", "Packaging it", "Testing it"})
"""The sections of docs/engines.md whose code is shown from there."""

SMALLER: Final[Mapping[str, tuple[str, str]]] = {
    "docs/engines.md": ("steps=1_000_000", "steps=100"),
    "docs/performance.md": ("100_000", "2_000"),
}
"""What is put in place of what before Python is run, so that it takes less time."""

BEFORE: Final[Mapping[str, str]] = {
    "docs/engines.md": (
        "from pathlib import Path\n"
        "from kvs.testing import open_engine\n"
        "from kvs_wholefile import ENGINE\n"
        "directory = Path('data')\n"
    ),
}
"""What the text around Python that is run has introduced."""

BROKEN_ENGINE: Final = """
from contextlib import closing

from kvs.testing import StorageContract
from tests.contract.broken_engines.reads import DeletesWhatIsNotThere


class TestMyEngine(StorageContract):
    def open_storage(self):
        return closing(DeletesWhatIsNotThere())
"""


def is_excerpt(block: Block) -> bool:
    """Return whether a block is shown from a file of the example."""
    return block.document == "docs/engines.md" and block.section in WALK_THROUGH


def check_excerpt(block: Block) -> None:
    """Check that code is in one of the files, word for word; methods are shown without their indentation."""
    files = [(ROOT / path).read_text(encoding="utf-8") for path in SOURCES]
    found = any(block.text in file or indent(block.text, "    ") in file for file in files)
    assert found, f"{block.where}: this code is in none of {', '.join(SOURCES)}:\n{block.text}"


def run_python(block: Block, shell: Shell) -> None:
    """Run Python to its end, in a process of its own."""
    shell.serve(block)
    code = block.text
    if block.document in SMALLER:
        old, new = SMALLER[block.document]
        assert old in code, f"{block.where}: there is no {old!r} any more; mend SMALLER"
        code = code.replace(old, new)
    (shell.directory / "example.py").write_text(BEFORE.get(block.document, "") + shell.real(code), encoding="utf-8")
    exit_code, output = shell.run("python -W error example.py")
    assert exit_code == 0, f"{block.where}: exit code {exit_code}\n{output}"


def check_settings(block: Block, shell: Shell) -> None:
    """Check that a file of settings is accepted, and that each of them has an effect; or a file of users."""
    if block.text.startswith("[users."):
        (shell.directory / "users.toml").write_text(block.text, encoding="utf-8")
        exit_code, output = shell.run("kvs users check users.toml")
        assert exit_code == 0, f"{block.where}: exit code {exit_code}\n{output}"
        return
    (shell.directory / "settings.toml").write_text(block.text, encoding="utf-8")
    exit_code, output = shell.run("kvs config --config settings.toml")
    assert exit_code == 0, f"{block.where}: exit code {exit_code}\n{output}"
    given = [line for line in block.lines if re.match(r"\w+ = ", line)]
    taken = [line for line in output.splitlines() if " settings.toml " in line]
    assert len(taken) == len(given), f"{block.where}: of {given} kvs config takes {taken}"


def check_failure(block: Block, shell: Shell) -> None:
    """Check that a broken engine fails the contract with these lines."""
    (shell.directory / "test_my_engine.py").write_text(BROKEN_ENGINE, encoding="utf-8")
    case = re.findall(r"def (test_\w+)", block.text)[0]
    _, output = shell.run(
        f"python -m pytest -p no:cacheprovider -k {case} test_my_engine.py", PYTHONPATH=f"{ROOT}:{shell.python_path}"
    )
    at = 0
    for line in block.lines:
        if line != "...":
            assert line in output[at:], f"{block.where}: pytest does not print {line!r} there:\n{output}"
            at = output.index(line, at) + len(line)
