"""Users, and the check of their secrets, on a loop that a test advances by hand."""

from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

import structlog

from kvs.application.attempts import Attempt
from kvs.application.authentication import Authenticator
from kvs.application.background import Background
from kvs.application.secret_hashes import LEAST, ProcessKey, hash_password
from kvs.application.users import Users
from kvs.domain.accounts import Account
from kvs.domain.grants import EVERYTHING

TIMEOUT_S: Final = 60
THREADS: Final = 2


def cheap(secret: bytes) -> str:
    """Return the hash of a password that takes as little time as is allowed."""
    return hash_password(secret, LEAST)


def account(*passwords: bytes, tokens: tuple[str, ...] = (), enabled: bool = True) -> Account:
    """Return one that may do everything, with cheap hashes of passwords."""
    return Account(enabled, passwords=tuple(map(cheap, passwords)), tokens=tokens, grants=EVERYTHING)


class HandLoop:
    """A loop whose clock stands still, and that calls back when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def clock(self) -> float:
        return self.now_s

    def call_soon_threadsafe(self, callback: Callable[[], None], /) -> None:
        self.calls.put(callback)

    def call_later(self, delay: float, callback: Callable[[], None], /) -> None:
        self.timers.append((self.now_s + delay, callback))

    def run_one(self) -> None:
        """Wait for a thread to call back."""
        self.calls.get(timeout=TIMEOUT_S)()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now_s]
        self.timers = [timer for timer in self.timers if timer[0] > self.now_s]
        for _, callback in due:
            callback()


class Stage:
    """An authenticator, and who has asked it.

    Attributes:
        answered: The attempts that were called back, in order.
    """

    def __init__(self, threads: int = THREADS, **accounts: Account) -> None:
        self.loop = HandLoop()
        self.saving = Background(1, self._running)
        self.checking = Background(threads, self._running)
        self.users = Users(accounts, None, self.saving)
        self.key = ProcessKey()
        self.answered: list[Attempt] = []
        self.authenticator = Authenticator(
            self.users, self.key, self.checking, threads, self._running, self.loop.clock, structlog.get_logger()
        )

    def _running(self) -> HandLoop:
        return self.loop

    def close(self) -> None:
        """End the threads."""
        self.saving.close()
        self.checking.close()

    def check(self, name: str, secret: bytes, address: str = "10.0.0.1:5") -> Attempt:
        """Begin an attempt."""
        return self.authenticator.check(name, secret, address, self.answered.append)

    def answer(self, name: str, secret: bytes, address: str = "10.0.0.1:5") -> str | None:
        """Make an attempt, however long it takes, and return the name of the user."""
        attempt = self.check(name, secret, address)
        self.finish(attempt)
        return None if attempt.user is None else attempt.user.name

    def finish(self, *attempts: Attempt) -> None:
        """Go on until these have been answered."""
        while not all(attempt.finished for attempt in attempts):
            if self.authenticator.checking:
                self.loop.run_one()
            else:
                self.loop.advance(1)

    def settle(self) -> None:
        """Go on until nothing waits, not even an address that has to pause."""
        while self.authenticator.is_busy:
            if self.authenticator.checking:
                self.loop.run_one()
            else:
                self.loop.advance(1)
