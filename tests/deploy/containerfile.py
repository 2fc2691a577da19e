"""Reads a Containerfile, as far as ours has it."""

import json
import re
import shlex
from typing import Final, NamedTuple

from .files import DEPLOY

PATH: Final = DEPLOY / "container" / "Containerfile"


class Instruction(NamedTuple):
    """An instruction: its word in capitals, and what follows."""

    word: str
    text: str


def stages() -> list[list[Instruction]]:
    """Return the instructions of each stage, with lines that go on joined."""
    text = re.sub(r"^#.*\n", "", PATH.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: list[list[Instruction]] = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            if word == "FROM":
                found.append([])
            found[-1].append(Instruction(word, rest.strip()))
    return found


def texts(stage: list[Instruction], word: str) -> list[str]:
    """Return what follows each instruction of a kind."""
    return [instruction.text for instruction in stage if instruction.word == word]


def words(stage: list[Instruction], word: str) -> list[str]:
    """Return the words of the one instruction of a kind, which has them in JSON."""
    (text,) = texts(stage, word)
    parsed: list[str] = json.loads(text[text.index("[") :])
    return parsed


def environment(stage: list[Instruction]) -> dict[str, str]:
    """Return the variables that a stage sets."""
    pairs = [pair for text in texts(stage, "ENV") for pair in shlex.split(text)]
    return dict(pair.split("=", 1) for pair in pairs)
