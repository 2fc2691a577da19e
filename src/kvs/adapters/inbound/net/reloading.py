"""What SIGHUP makes a running server read again: files of users, certificates and so on."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias, final

from kvs.domain.errors import KvsError
from kvs.errors import CommandError
from kvs.log_type import FilteringBoundLogger
from kvs.notify import Notifier

Reloader: TypeAlias = Callable[[], Awaitable[list[str]]]
"""Reads something again, without holding up the loop; returns names of what has changed.

Raises:
    CommandError, KvsError: It cannot be used; nothing of it has changed.
"""


@final
class Reloading:
    """Runs the reloaders, one after the other, once for each signal, and one signal at a time.

    Args:
        reloaders: By name of what each reads.
        log: Bound logger.
        notifier: Tells the service manager; None: there is none.
    """

    def __init__(
        self, reloaders: Mapping[str, Reloader], log: FilteringBoundLogger, notifier: Notifier | None = None
    ) -> None:
        self._reloaders = reloaders
        self._notifier = Notifier() if notifier is None else notifier
        self._log = log
        self._task: asyncio.Task[None] | None = None
        self._again = False

    @property
    def active(self) -> bool:
        """Whether anything is being reloaded."""
        return self._task is not None

    def begin(self) -> None:
        """Reload everything; after the present reload, if there is one, since that may have read old files."""
        if self._task is not None:
            self._again = True
            return
        self._again = False
        self._notifier.reloading()
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._ended)

    def close(self) -> bool:
        """Stop, as the loop ends; return whether a reload was cut short."""
        task, self._task = self._task, None
        if task is None:
            return False
        task.remove_done_callback(self._ended)
        return task.cancel()

    def _ended(self, _: "asyncio.Task[None]") -> None:
        self._task = None
        self._notifier.ready()
        if self._again:
            self.begin()

    async def _run(self) -> None:
        changed: list[str] = []
        failed: list[tuple[str, Exception]] = []
        for name, reloader in self._reloaders.items():
            try:
                changed += await reloader()
            except Exception as error:  # noqa: BLE001  # the others are reloaded all the same
                failed.append((name, error))
        self._tell(changed, failed)

    def _tell(self, changed: list[str], failed: list[tuple[str, Exception]]) -> None:
        for name, error in failed:
            expected = isinstance(error, CommandError | KvsError)
            self._log.error("reload_failed", what=name, reason=str(error), exc_info=None if expected else error)
        if failed and not changed:
            return
        self._log.info("reloaded", changed=changed)
