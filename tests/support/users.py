"""Users for tests of connections in this process, where threads do their work at once, or when a test says so."""

import io
from collections.abc import Callable

from kvs.adapters.inbound.protocol.security import Security
from kvs.application.authentication import Authenticator
from kvs.application.background import Background
from kvs.application.executor import Job
from kvs.application.refusals import Refusals
from kvs.application.secret_hashes import LEAST, ProcessKey
from kvs.application.users import Users
from kvs.domain.accounts import Accounts
from kvs.logs import make_logger
from kvs.ports.users import UserStore
from kvs.testing.drivers import Clock


class Errands(Background):
    """In place of background threads, and of a loop.

    Args:
        waits: Jobs wait until :meth:`run_all`.
    """

    def __init__(self, *, waits: bool = False) -> None:
        super().__init__(1, lambda: self)
        self.waits = waits
        self._waiting: list[Job] = []

    def run(self, job: Job, done: Job) -> None:
        """Run a job, now or later, and what follows it."""
        self._waiting += [job, done]
        if not self.waits:
            self.run_all()

    def run_all(self) -> None:
        """Run what waits."""
        while self._waiting:
            self._waiting.pop(0)()

    def close(self) -> None:
        """See :class:`kvs.application.background.Background`, as for all of these."""

    def call_soon_threadsafe(self, callback: Job, /) -> None:
        callback()

    def call_later(self, _: float, callback: Job, /) -> None:
        self._waiting.append(callback)


def security_of(
    accounts: Accounts,
    errands: Errands | None = None,
    clock: Callable[[], float] | None = None,
    store: UserStore | None = None,
) -> Security:
    """Return what decides who may do what, given the users."""
    errands = errands or Errands()
    clock = clock or Clock()
    users = Users(accounts, store, errands)
    log = make_logger("info", "json", io.StringIO())
    authenticator = Authenticator(users, ProcessKey(), errands, 1, lambda: errands, clock, log)
    return Security(users, authenticator, Refusals(clock), parameters=LEAST)


def open_to_all() -> Security:
    """Return the same of a server without users: everybody may do everything."""
    return security_of({})
