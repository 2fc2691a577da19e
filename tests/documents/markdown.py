"""The documents, and what is in them: fenced blocks, tables, links, headings and code spans, each with its line."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]

REPLAYED: Final = (
    "README.md",
    "CONTRIBUTING.md",
    "bench/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "examples").glob("*/README.md")),
)
"""The documents whose blocks are replayed."""

LINKED: Final = (*REPLAYED, "CHANGELOG.md", "docs/charts/full.md", "docs/charts/quick.md")
"""The documents whose links must lead somewhere."""

FENCE: Final = re.compile(r"( *)```(.*)")
NOTE: Final = re.compile(r" *<!-- (\w+): (.*) -->")
HEADING: Final = re.compile(r"#+ (.+)")
SPAN: Final = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
LINK: Final = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
CELL: Final = re.compile(r"(?<!\\)\|")

NOTES: Final = frozenset({"server", "given"})
"""What an HTML comment before a block may say: the flags of its server, and what there is before it begins."""


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        document: The document's path from the root of the repository.
        line: Number of the line with the opening fence.
        kind: What stands behind the fence, such as ``sh``.
        lines: The contents, without the indentation of the fence.
        notes: What the HTML comments right before it say, by name.
        section: The heading it stands under.
    """

    document: str
    line: int
    kind: str
    lines: tuple[str, ...]
    notes: Mapping[str, str]
    section: str

    @property
    def where(self) -> str:
        """The place, as editors and terminals understand it."""
        return f"{self.document}:{self.line}"

    @property
    def text(self) -> str:
        """The contents."""
        return "".join(line + "\n" for line in self.lines)


class Row(NamedTuple):
    """A row of a table: where it stands, and its cells by the heading of their column."""

    where: str
    cells: Mapping[str, str]


class Span(NamedTuple):
    """A piece of text and where it stands."""

    where: str
    text: str


class Document:
    """A document, by its path from the root of the repository."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lines: Final = (ROOT / path).read_text(encoding="utf-8").splitlines()

    @cached_property
    def blocks(self) -> Sequence[Block]:
        """The fenced blocks."""
        return list(self._blocks())

    def _blocks(self) -> Iterator[Block]:
        section = ""
        numbered = enumerate(self.lines, 1)
        for number, line in numbered:
            if heading := HEADING.fullmatch(line):
                section = heading[1]
            if not (fence := FENCE.fullmatch(line)):
                continue
            notes = {}
            for before in reversed(self.lines[: number - 1]):
                note = NOTE.fullmatch(before)
                if note is None:
                    break
                assert note[1] in NOTES, f"{self.path}:{number - 1}: there is no note {note[1]!r}, only {sorted(NOTES)}"
                notes[note[1]] = note[2]
            contents = []
            for _, inside in numbered:
                if inside.strip() == "```":
                    break
                contents.append(inside.removeprefix(fence[1]))
            else:
                raise AssertionError(f"{self.path}:{number}: the block has no end")
            yield Block(self.path, number, fence[2].strip(), tuple(contents), notes, section)

    @cached_property
    def prose(self) -> Sequence[str]:
        """The lines with those of the blocks left empty, so that the numbers stay right."""
        lines = list(self.lines)
        for block in self.blocks:
            lines[block.line - 1 : block.line + len(block.lines) + 1] = [""] * (len(block.lines) + 2)
        return lines

    def tables(self) -> Iterator[list[Row]]:
        """Return the rows of each table; a line that looks like a row and belongs to no table is a failure."""
        at = 0
        while at < len(self.prose):
            if not self.prose[at].startswith("|"):
                at += 1
                continue
            end = at
            while end < len(self.prose) and self.prose[end].startswith("|"):
                end += 1
            rows = [_cells(line) for line in self.prose[at:end]]
            where = f"{self.path}:{at + 1}"
            assert len(rows) > 1, f"{where}: a row without a table is shown as plain text"
            assert all(re.fullmatch(r":?-+:?", cell) for cell in rows[1]), f"{where}: a table has a line | --- | ... |"
            for number, row in enumerate(rows, at + 1):
                assert len(row) == len(rows[0]), f"{self.path}:{number}: {len(row)} cells in a table of {len(rows[0])}"
            yield [
                Row(f"{self.path}:{number}", dict(zip(rows[0], row, strict=True)))
                for number, row in enumerate(rows[2:], at + 3)
            ]
            at = end

    def table(self, *columns: str, first: str | None = None) -> list[Row]:
        """Return the rows of the only table with exactly these columns (and this first cell, if there are several)."""
        found = [
            rows
            for rows in self.tables()
            if tuple(rows[0].cells) == columns and (first is None or rows[0].cells[columns[0]] == first)
        ]
        assert len(found) == 1, f"{self.path}: {len(found)} tables with the columns {columns}, and not one"
        return found[0]

    def section(self, heading: str) -> str:
        """Return the prose under a heading, up to the next one of the same depth or above."""
        start = self.prose.index(heading) if heading in self.prose else None
        assert start is not None, f"{self.path}: there is no heading {heading!r}"
        depth = len(heading) - len(heading.lstrip("#"))
        end = start + 1
        while end < len(self.prose) and not re.match(rf"#{{1,{depth}}} ", self.prose[end]):
            end += 1
        return "\n".join(self.prose[start:end])

    @property
    def anchors(self) -> set[str]:
        """What a link to one of the headings ends in, as GitHub makes it."""
        anchors: set[str] = set()
        for line in self.prose:
            if heading := HEADING.fullmatch(line):
                plain = LINK.sub(r"\1", heading[1]).lower().replace("`", "")
                anchor = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
                count = sum(1 for other in anchors if re.fullmatch(re.escape(anchor) + r"(-\d+)?", other))
                anchors.add(f"{anchor}-{count}" if count else anchor)
        return anchors

    def links(self) -> Iterator[Span]:
        """Return the targets of all links and images."""
        for number, line in self._paragraphs():
            for found in LINK.finditer(SPAN.sub(lambda span: "`" * len(span[0]), line)):
                yield Span(f"{self.path}:{number + line.count(chr(10), 0, found.start())}", found[2])

    def spans(self) -> Iterator[Span]:
        """Return the code spans; one that is broken over two lines has a space there."""
        for number, paragraph in self._paragraphs():
            for found in SPAN.finditer(paragraph):
                yield Span(
                    f"{self.path}:{number + paragraph.count(chr(10), 0, found.start())}", found[2].replace("\n", " ")
                )

    def _paragraphs(self) -> Iterator[tuple[int, str]]:
        """Return what stands between empty lines, rows of tables by themselves, with the number of its first line."""
        gathered: list[str] = []
        for number, line in enumerate([*self.prose, ""], 1):
            if gathered and (not line.strip() or line.startswith("|")):
                yield number - len(gathered), "\n".join(gathered)
                gathered = []
            if line.strip():
                gathered.append(line)


@cache
def document(path: str) -> Document:
    """Return a document, which is read once."""
    return Document(path)


BLOCKS: Final = [block for path in REPLAYED for block in document(path).blocks]
"""The blocks that are replayed."""


def codes(cell: str) -> list[str]:
    """Return the code spans of a cell."""
    return [found[2] for found in SPAN.finditer(cell)]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in CELL.split(line.strip().removeprefix("|").removesuffix("|"))]
