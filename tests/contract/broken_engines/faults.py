"""The list of faults: which engine is broken, and the cases that find it out."""

from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from kvs.ports.storage import Storage

Engine = TypeVar("Engine", bound=type[Storage])


class Fault(NamedTuple):
    """A broken engine.

    Attributes:
        engine: The engine.
        promise: The case that holds the promise it breaks.
        noticed_by: Other cases that fail with it, because they need that promise to hold their own.
    """

    engine: type[Storage]
    promise: str
    noticed_by: frozenset[str]


FAULTS: Final[list[Fault]] = []


def breaks(promise: str, *noticed_by: str) -> Callable[[Engine], Engine]:
    """Enter an engine in the list; see :class:`Fault`. Names are those of cases, without ``test_``."""

    def enter(engine: Engine) -> Engine:
        FAULTS.append(Fault(engine, promise, frozenset(noticed_by)))
        return engine

    return enter
