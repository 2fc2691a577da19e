"""Frees large structures in parts, so that freeing a million objects does not block the server."""

from collections import deque
from collections.abc import Callable
from typing import Any, Final, final

FREED_PER_STEP: Final = 20_000
"""Objects freed per step: 2 to 4 ms. A tick makes no more in its budget, so garbage does not pile up."""

BYTES_PER_OBJECT: Final = 1 << 11
"""Bytes of one block that are freed in the time of an object: its pages go back to the kernel."""

CALL_COST: Final = 20
"""What a call counts for, in objects."""


@final
class Disposal:
    """Lists of parts that nothing else refers to.

    A worker may add while the loop frees: both are one operation on a deque.
    """

    def __init__(self) -> None:
        self._lists: deque[tuple[list[Any], Callable[[Any], None] | None]] = deque()

    @property
    def has_work(self) -> bool:
        """Whether anything is left to free."""
        return len(self._lists) > 0

    def add(self, parts: list[Any]) -> None:
        """Take a list of containers, or of long bytes. A list among them is freed in slices, any other one at once.

        The caller must not use any of them again.
        """
        if parts:
            self._lists.append((parts, None))

    def add_calls(self, call: Callable[[Any], None], arguments: list[Any]) -> None:
        """Make a call for each of the arguments, which release what they hold."""
        self._lists.append((arguments, call))

    def step(self, objects: int = FREED_PER_STEP) -> None:
        """Free about so many objects."""
        while self._lists and objects > 0:
            parts, call = self._lists[0]
            while parts and objects > 0:
                if call is not None:
                    call(parts.pop())
                    objects -= CALL_COST
                else:
                    objects -= _free_last(parts, objects)
            if not parts:
                self._lists.popleft()


def _free_last(parts: list[Any], objects: int) -> int:
    """Free the last part, or as much of it as is allowed; return the number of objects freed."""
    last = parts[-1]
    if isinstance(last, list) and len(last) > objects:
        del last[-objects:]
        return objects
    parts.pop()
    return 1 + (len(last) // BYTES_PER_OBJECT if isinstance(last, bytes) else len(last))
