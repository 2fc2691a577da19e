"""What an engine returns, checked before it is believed.

The storage port is open to engines written by others in plain Python. A wrong answer raises ``TypeError`` here, in both
builds alike, and is met like an engine that failed.
"""

from collections.abc import Mapping

from kvs.domain.updates import Updated
from kvs.domain.values import Key, Value


def value(value: object) -> Value | None:
    """Return a value, or None for an absent key."""
    if value is None or type(value) is bytes:
        return value
    raise TypeError(f"the engine returned {type(value).__name__}, not bytes or None")


def updated(pair: object) -> Updated:
    """Return a value before and after a change."""
    if isinstance(pair, tuple) and len(pair) == 2:
        return value(pair[0]), value(pair[1])
    raise TypeError(f"the engine returned {type(pair).__name__}, not two values")


def flag(value: object) -> bool:
    """Return a yes or no."""
    if isinstance(value, bool):
        return value
    raise TypeError(f"the engine returned {type(value).__name__}, not bool")


def number(value: object) -> int:
    """Return a number of keys."""
    if isinstance(value, int):
        return value
    raise TypeError(f"the engine returned {type(value).__name__}, not int")


def page(page: object) -> list[Key]:
    """Return keys."""
    if isinstance(page, list) and all(type(key) is bytes for key in page):
        return page
    raise TypeError(f"the engine returned {type(page).__name__}, not a list of bytes")


def figures(figures: object) -> dict[str, int]:
    """Return figures for INFO."""
    if isinstance(figures, Mapping) and all(type(k) is str and type(v) is int for k, v in figures.items()):
        return dict(figures)
    raise TypeError("the engine's stats are no mapping of names to whole numbers")
