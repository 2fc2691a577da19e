"""Signs of life for the service manager, given by the loop itself: a loop that hangs gives none."""

import asyncio
from collections.abc import Callable
from typing import final

from kvs.notify import Notifier


@final
class Heartbeat:
    """Gives a sign of life twice in the time that the manager waits for one.

    Args:
        loop: The running loop. The heartbeat ends with it.
        notifier: Tells the manager.
        is_well: Returns whether the server can do its work; if not, no sign is given.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, notifier: Notifier, is_well: Callable[[], bool]) -> None:
        self._loop = loop
        self._notifier = notifier
        self._is_well = is_well

    def start(self) -> None:
        """Give signs from now on, if the manager waits for them."""
        if self._notifier.watchdog_s:
            self._beat()

    def _beat(self) -> None:
        if self._is_well():
            self._notifier.alive()
        self._loop.call_later(self._notifier.watchdog_s / 2, self._beat)
