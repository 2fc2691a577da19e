"""``override``, which is in ``typing`` from Python 3.12 on; type checkers check the methods it marks."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing_extensions import override
else:
    F = TypeVar("F", bound=Callable[..., Any])

    def override(method: F) -> F:
        """Mark a method that overrides one of a base class."""
        return method


__all__ = ["override"]
