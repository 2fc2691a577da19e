"""Packages that are there, and are none of kvs's business: libraries import them if they find them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

UNWANTED: Final = frozenset(
    (
        *("fastapi", "fast_depends", "starlette", "werkzeug", "yaml", "pydantic", "pydantic_settings"),
        *("rich", "better_exceptions"),
    )
)
"""What ``dependency_injector`` imports, and ``structlog``. All of it takes longer to import than kvs."""


class _Absent:
    """Finds none of them, so that they cannot be imported."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name in UNWANTED:
            raise ModuleNotFoundError(f"kvs has no use for {name}", name=name)


@contextmanager
def unwanted_absent() -> Iterator[None]:
    """While this lasts, it is as if they were not installed."""
    sys.meta_path.insert(0, _Absent)
    try:
        yield
    finally:
        sys.meta_path.remove(_Absent)
