"""What takes the lines of an audit log in tests."""

import json
from typing import Any


class Lines:
    """Takes lines."""

    def __init__(self) -> None:
        self.trouble = ""
        self.dropped = 0
        self.taken: list[str] = []
        self.reopened = 0

    def write(self, text: str, /) -> int:
        """Take a line."""
        assert text.endswith("\n")
        assert text.count("\n") == 1
        assert text.isascii()
        self.taken.append(text)
        return len(text)

    def reopen(self) -> None:
        """Count it."""
        self.reopened += 1

    def drain(self) -> None:
        """Do nothing."""

    def told(self) -> list[dict[str, Any]]:
        """Return the lines."""
        return [json.loads(line) for line in self.taken]
