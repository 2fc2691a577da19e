"""How a dump or a load reports its progress."""

from collections.abc import Callable, Iterable
from typing import Protocol, Self, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """**Protocol:** Shows the progress of one pass over entries, while it is entered as a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def through(self, items: Iterable[T]) -> Iterable[T]:
        """Return the same items, and show how many have been taken."""


class StartProgress(Protocol):
    """**Protocol:** Makes a :class:`Progress`.

    Args:
        label: What is done, in one word.
        total: How many items there are; None if that is not known.
        position: Returns how far it has come, where ``total`` does not count items.
    """

    def __call__(self, label: str, total: int | None, position: Callable[[], int] | None = None, /) -> Progress: ...


class NoProgress:
    """Shows nothing."""

    def __init__(self, label: str, total: int | None, position: Callable[[], int] | None = None, /) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def through(self, items: Iterable[T]) -> Iterable[T]:
        """Return the items themselves."""
        return items
