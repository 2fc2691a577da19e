"""A parameter of CONFIG SET."""

from collections.abc import Callable
from typing import NamedTuple


class Parameter(NamedTuple):
    """A number that can change while the server runs.

    Attributes:
        least: The least that is allowed.
        most: The most that is allowed.
        change: Changes it.
    """

    least: int
    most: int
    change: Callable[[int], None]
