"""Limits that adapters are given, made from settings of the same names."""

from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")


def from_settings(limits: type[T], settings: object, **given: Any) -> T:
    """Return a dataclass of limits, from given fields, settings of the same names, and defaults.

    Args:
        limits: The dataclass.
        settings: Has an attribute for each field that is not given and has no default.
        given: Fields to use instead of settings.
    """
    names = {field.name for field in fields(limits) if field.init}  # type: ignore[arg-type]  # typeshed's name for dataclasses is private
    found = {name: getattr(settings, name) for name in names if hasattr(settings, name)}
    return limits(**(found | given))
