"""Every fenced block of every document is replayed by its kind; one whose kind is not known fails."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.documents import code, pictures
from tests.documents.conversations import conversation, is_conversation, is_two_terminals, replay, two_terminals
from tests.documents.markdown import BLOCKS, Block, document
from tests.documents.shell import GOES_ON, Shell, site_of_example

pytestmark = pytest.mark.one_build

ILLUSTRATIONS: Final[Mapping[str, Callable[[Block, Shell], None]]] = {
    'request = blanks verb [" " key [" " value]] [CR] LF': pictures.check_grammar,
    '{"status": "Ok"}': pictures.check_forms,
    'key "a", now "v4"        history: (5, "v1") (9, "v2") (12, "v3")': pictures.check_history,
    "    def test_a_delete_tells_whether_the_key_was_there(self, storage: Storage) -> None:": code.check_failure,
}
"""Blocks that are none of the common kinds, by their first line, and how each is checked."""


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """Return a shell in a directory of its own, where this process is, too."""
    monkeypatch.chdir(tmp_path)
    with Shell(tmp_path, site_of_example(tmp_path / ".site")) as shell:
        yield shell


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_what_a_block_shows_is_what_happens(block: Block, shell: Shell) -> None:
    """Of whatever kind it is."""
    assert block.lines, f"{block.where}: the block is empty"
    if block.lines[0] in ILLUSTRATIONS:
        ILLUSTRATIONS[block.lines[0]](block, shell)
    elif block.kind in ("console", "sh"):
        for each in with_those_before(block):
            shell.replay(each)
    elif block.kind == "text" and is_conversation(block):
        replay(block, conversation(block), shell.start(*block.notes.get("server", "").split()))
    elif block.kind == "text" and is_two_terminals(block):
        replay(block, two_terminals(block), shell.start())
    elif block.kind in ("python", "toml") and code.is_excerpt(block):
        code.check_excerpt(block)
    elif block.kind == "python":
        code.run_python(block, shell)
    elif block.kind == "toml":
        code.check_settings(block, shell)
    elif block.kind == "mermaid":
        pictures.check_diagram(block)
    else:
        pytest.fail(
            f"{block.where}: it is not known how to check a block {block.kind!r} that begins with {block.lines[0]!r}; "
            "let it be console, sh, python, toml, mermaid or text with requests, or enter it in ILLUSTRATIONS"
        )


def with_those_before(block: Block) -> list[Block]:
    """Return a block, behind those whose server it goes on with."""
    blocks = [block]
    others = document(block.document).blocks
    while blocks[0].notes.get("server") == GOES_ON:
        blocks.insert(0, others[others.index(blocks[0]) - 1])
    return blocks
