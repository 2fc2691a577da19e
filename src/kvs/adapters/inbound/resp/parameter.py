"""A parameter of CONFIG SET."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from kvs.domain.errors import UsageError
from kvs.domain.updates import integer

T = TypeVar("T")


class Parameter(NamedTuple):
    """Something that can change while the server runs.

    Attributes:
        allowed: Takes a word; returns the value that it stands for, as CONFIG GET tells it. Raises :class:`UsageError`,
            with the reason, for a value that the parameter cannot have.
        change: Takes such a value, and changes it. Must not fail.
    """

    allowed: Callable[[bytes], bytes]
    change: Callable[[bytes], None]


def number(
    least: int, most: int, change: Callable[[int], None], refusal: Callable[[int], str] = lambda _: ""
) -> Parameter:
    """Return a parameter that is a whole number.

    Args:
        least: The least that is allowed.
        most: The most that is allowed.
        change: Changes it.
        refusal: Returns why it cannot be that number for now; empty: it can.
    """

    def allowed(word: bytes) -> bytes:
        try:
            value = integer(word)
        except UsageError:
            raise UsageError("argument couldn't be parsed into an integer") from None
        if not least <= value <= most:
            raise UsageError(f"argument must be between {least} and {most} inclusive")
        reason = refusal(value)
        if reason:
            raise UsageError(reason)
        return b"%d" % value

    return Parameter(allowed, lambda value: change(int(value)))


def choice(choices: Mapping[bytes, T], change: Callable[[T], None]) -> Parameter:
    """Return a parameter that is one of some words, in any case.

    Args:
        choices: What each word, in small letters, stands for.
        change: Changes it.
    """

    def allowed(word: bytes) -> bytes:
        if word.lower() not in choices:
            words = b", ".join(choices).decode()
            raise UsageError(f"argument(s) must be one of the following: {words}")
        return word.lower()

    return Parameter(allowed, lambda value: change(choices[value]))
