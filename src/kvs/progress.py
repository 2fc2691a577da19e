"""How work on all data reports its progress: by calls, which a command shows as bars."""

from typing import Protocol


class Progress(Protocol):
    """**Protocol:** Called repeatedly during one part of the work; a new label begins the next part.

    Args:
        label: The activity, in one word.
        unit: Plural of the items.
        count: Number of items so far.
        total: Number of all items; None if it is unknown.
        position: Current position, if ``total`` does not count items.
    """

    def __call__(
        self, label: str, unit: str, count: int, total: int | None, position: int | None = None, /
    ) -> None: ...


def no_progress(*_: object) -> None:
    """Ignore a report."""
