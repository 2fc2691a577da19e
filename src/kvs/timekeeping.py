"""Puts together the server's time and what moves it."""

from collections.abc import Callable

from kvs.adapters.inbound.net.reloading import Reloader
from kvs.application.changes import ChangeFeed
from kvs.application.expiry import Expiry
from kvs.log_type import FilteringBoundLogger
from kvs.ports.storage import Storage

Clock = Callable[[], float]


def make_expiry(
    storage: Storage, wall_clock: Clock, clock: Clock, log: FilteringBoundLogger, changes: ChangeFeed
) -> Expiry:
    """Return the server's time and the deletion of what is due; an engine with a clock of its own decides the time."""
    return Expiry(storage, storage.clock or wall_clock, storage.clock or clock, log, changes=changes)


def clock_reloader(expiry: Expiry) -> Reloader:
    """Return what has the server's time follow a wall clock that was set forward."""

    async def reload() -> list[str]:
        return ["clock"] if expiry.follow_wall_clock() else []

    return reload
