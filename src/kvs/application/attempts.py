"""Attempts to authenticate, where they wait, and what threads do for them."""

from collections.abc import Callable
from typing import Final, TypeAlias, final

from kvs.application import secret_hashes
from kvs.application.secret_hashes import Parameters
from kvs.application.users import User

Done: TypeAlias = Callable[["Attempt"], None]


@final
class Attempt:
    """Somebody who wants to be a user.

    Attributes:
        name: Name of the user, as given.
        address: Where the attempt comes from.
        finished: The answer is there.
        user: The answer: the user; None: the secret is wrong, or there is no such user, or it is switched off.
    """

    __slots__ = ("_done", "address", "deferred", "finished", "mac", "name", "place", "secret", "user")

    def __init__(self, name: str, secret: bytes, address: str, mac: bytes, done: Done) -> None:
        self.name: Final = name
        self.address: Final = address
        self.secret = secret
        self.mac: Final = mac
        self.finished = False
        self.user: User | None = None
        self.deferred = False
        self.place: Place | None = None
        self._done: Done | None = done

    def finish(self, user: User | None) -> None:
        self.finished = True
        self.user = user
        self.secret = b""
        done, self._done = self._done, None
        if self.deferred and done is not None:
            done(self)

    def forget(self) -> None:
        """Have nothing called at the end."""
        self._done = None


@final
class Place:
    """The attempts of one address that wait.

    Attributes:
        key: The address.
        attempts: In order of arrival.
        is_queued: It is among those to be served, now or later.
        checks: How many of its attempts threads are checking.
    """

    __slots__ = ("attempts", "checks", "is_queued", "key")

    def __init__(self, key: bytes) -> None:
        self.key: Final = key
        self.attempts: dict[Attempt, None] = {}
        self.is_queued = False
        self.checks = 0


@final
class Check:
    """A check of a password, run by a thread.

    Attributes:
        attempt: The first attempt that wants to know.
        place: Where that has waited.
        epoch: That of the authenticator.
        hashes: The user's hashes, all of which are tried, so that none is told from another by the time it takes.
        waste: What is tried in their place if there are none.
        found: The hash of which the secret is right; empty: none.
    """

    __slots__ = ("_checked", "_secret", "attempt", "epoch", "found", "hashes", "place", "waste")

    def __init__(
        self,
        checked: "Callable[[Check], None]",
        attempt: Attempt,
        place: Place,
        hashes: tuple[str, ...],
        waste: tuple[Parameters, ...],
        epoch: int,
    ) -> None:
        self.attempt: Final = attempt
        self.place: Final = place
        self.hashes: Final = hashes
        self.waste: Final = waste
        self.epoch: Final = epoch
        self.found = ""
        self._checked = checked
        self._secret = attempt.secret

    def run(self) -> None:
        """Take as long as it takes. On a thread."""
        found = ""
        try:
            for text in self.hashes:
                if secret_hashes.is_password(self._secret, text):
                    found = text
            for parameters in self.waste:
                secret_hashes.waste(parameters)
        except Exception:  # noqa: BLE001  # no memory, above all: the secret has not been found right
            found = ""
        self.found = found

    def finish(self) -> None:
        """Tell. On the loop."""
        self._checked(self)
