"""Whether what happened is what a document says, but for what varies from one run to the next."""

import re
from difflib import unified_diff
from typing import Final

VARYING: Final = (
    (r'("version": )"[^"]+"', r"\1<a version>"),
    (r'("build": )"(?:pure|compiled)"', r"\1<a build>"),
    (r'("(?:uptime_s|snapshot_age_s|oldest_snapshot_s)": )\d+(?:\.\d+)?', r"\1<seconds>"),
    (r"\d+ journal rows", "<number> journal rows"),  # they are compacted whenever nobody commits
)
"""What differs from run to run, and what stands for it in the comparison. All else is compared to the byte."""

ELLIPSIS: Final = re.compile(r" ?\.\.\. ?")
"""In a document: anything within a line; as a line by itself any number of lines."""


def agree(where: str, what: str, documented: str, happened: str) -> None:
    """Fail unless what happened is what is documented.

    Args:
        where: The place in the document.
        what: What was done.
        documented: What it says comes of that.
        happened: What came of it.
    """
    __tracebackhide__ = True
    documented, happened = (_without_what_varies(text) for text in (documented, happened))
    if documented == happened or _pattern(documented).fullmatch(happened):
        return
    difference = "\n".join(
        unified_diff(documented.splitlines(), happened.splitlines(), "the document", "what happens", n=99, lineterm="")
    )
    raise AssertionError(f"{where}: not what happens: {what}\n{difference}")


def _without_what_varies(text: str) -> str:
    for pattern, replacement in VARYING:
        text = re.sub(pattern, replacement, text)
    return text


def _pattern(documented: str) -> re.Pattern[str]:
    lines = [
        r"(?:.*\n)*?" if line == "...\n" else ".*?".join(map(re.escape, ELLIPSIS.split(line)))
        for line in documented.splitlines(keepends=True)
    ]
    return re.compile("".join(lines))
