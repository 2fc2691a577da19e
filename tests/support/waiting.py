"""How tests wait: for what has to happen, and never for a time."""

import os
import select
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import HasFileno

TIMEOUT_S: Final = float(os.environ.get("TEST_TIMEOUT_S", "40"))
"""How long to wait for what should happen before it counts as a hang; less is of use when faults are planted."""


def readable(file: "int | HasFileno", timeout_s: float = 0.0) -> bool:
    """Return whether there is something to read, or the end, in time. Unlike ``select``, it takes any descriptor."""
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def polling(what: str) -> Iterator[None]:
    """Yield again and again, for what can only be asked for and not awaited; fail when it takes too long."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        yield
        time.sleep(0.005)  # gives the processor to those who are to get there
    raise AssertionError(f"it did not come to this: {what}")
