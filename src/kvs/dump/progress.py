"""How a dump or a load reports its progress."""

from collections.abc import Callable, Iterable
from typing import Protocol, Self, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """**Protocol:** A context manager that shows the progress of one pass over entries."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def through(self, items: Iterable[T]) -> Iterable[T]:
        """Return the same items, and show how many have been consumed."""


class StartProgress(Protocol):
    """**Protocol:** Makes a :class:`Progress`.

    Args:
        label: The activity, in one word.
        total: Number of items; None if it is unknown.
        position: Returns the current position, if ``total`` does not count items.
    """

    def __call__(self, label: str, total: int | None, position: Callable[[], int] | None = None, /) -> Progress: ...


class NoProgress:
    """Shows no progress."""

    def __init__(self, label: str, total: int | None, position: Callable[[], int] | None = None, /) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def through(self, items: Iterable[T]) -> Iterable[T]:
        """Return the items."""
        return items
