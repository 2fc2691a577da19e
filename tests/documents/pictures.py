"""Blocks that are neither commands nor code: diagrams, the grammar, the forms of replies, a picture of history."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.domain.commit import CommitRequest, Conflict, ReadSet
from tests.documents.conversations import Step, conversation, is_conversation
from tests.documents.markdown import BLOCKS, ROOT, Block
from tests.documents.shell import Shell

GRAMMAR: Final = {
    '" "': " ",
    "blanks": r"[ \t]*",
    "verb": r"[^ \t\n]+",
    "key": r"[^ \n]*",
    "value": r"[^\n]*",
    "CR": r"\r",
    "LF": r"\n",
    "[": "(?:",
    "]": ")?",
}
"""What the symbols of the grammar are as a regular expression."""

FORMS: Final = {
    "RESULT": r"(?:(?!, \"mesg\": ).)+",
    '"a sentence for people"': '".+"',
    '"a word for programs"': '"[a-z_]+"',
}
"""Likewise what stands for something in the forms of replies."""


def check_diagram(block: Block) -> None:
    """Check that a diagram is one, and that there are the classes and modules that it names."""
    assert block.lines[0].split()[0] in ("flowchart", "sequenceDiagram"), f"{block.where}: no diagram"
    paths = list((ROOT / "src" / "kvs").rglob("*.py"))
    classes = set(re.findall(r"^class (\w+)", "\n".join(path.read_text("utf-8") for path in paths), re.MULTILINE))
    for name in re.findall(r"\b(?:[A-Z][a-z]+){2,}\b", block.text):
        assert name in classes, f"{block.where}: there is no class {name}"
    for name in re.findall(r"[\w/]+\.py", block.text):
        assert any(str(path).endswith("/" + name) for path in paths), f"{block.where}: there is no {name}"


def check_grammar(block: Block, _: Shell) -> None:
    """Check that the grammar has every request of the documents that is answered with Ok."""
    (line,) = block.lines
    grammar = re.compile(_translated(line.partition(" = ")[2], GRAMMAR, between=" *"))
    for step in _steps():
        if step.reply.startswith('{"status": "Ok"'):
            assert grammar.fullmatch(step.request + "\n"), (
                f"{block.where}: not by the grammar: {step.where}: {step.request}"
            )


def check_forms(block: Block, _: Shell) -> None:
    """Check that every reply in the documents has one of the forms."""
    forms = [re.compile(_translated(form, FORMS)) for form in block.lines]
    for step in _steps():
        known = not step.reply or any(form.fullmatch(step.reply) for form in forms)
        assert known, f"{block.where}: a reply has none of the forms: {step.where}: {step.reply}"


def check_history(block: Block, _: Shell) -> None:
    """Check that the memory engine sees what the picture says, commit by commit."""
    changes = {1: "", **{int(at): value for at, value in re.findall(r'\((\d+), "(\w+)"\)', block.text)}}
    values = iter([*list(changes.values())[1:], *re.findall(r'now "(\w+)"', block.text)])
    seen = {int(at): value for at, value in re.findall(r'snapshot at commit (\d+) .*"(\w+)"', block.text)}
    assert seen, f"{block.where}: no snapshots"
    storage = MemoryStorage(max_data_bytes=0, max_history_bytes=1 << 20)
    snapshots = {}
    for commit in range(1, max(seen) + 1):
        if commit in changes:
            storage.put(b"a", next(values).encode())
        else:
            storage.put(b"other", b"")
        if commit in seen:
            snapshots[commit] = storage.snapshot()
    for commit, value in seen.items():
        assert snapshots[commit].get(b"a") == value.encode(), f"{block.where}: the snapshot at commit {commit}"
    answer = storage.commit(CommitRequest((ReadSet(snapshots[min(seen)], [b"a"], []),), {b"b": b""}))
    assert isinstance(answer, Conflict), f"{block.where}: no conflict for the snapshot at {min(seen)}"


def _translated(text: str, symbols: Mapping[str, str], between: str = "") -> str:
    """Return a regular expression for text with symbols, of which what is ``between`` them is no part."""
    parts = re.split("(" + "|".join(map(re.escape, symbols)) + ")", text)
    return "".join(symbols.get(part) or ("" if re.fullmatch(between, part) else re.escape(part)) for part in parts)


def _steps() -> Iterator[Step]:
    for block in BLOCKS:
        if block.kind == "text" and is_conversation(block):
            yield from conversation(block)
