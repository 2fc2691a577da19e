"""Tokens: each call carries one, which etcd gives for a name and a password, and which expires."""

import threading
import time
from collections.abc import Callable
from typing import Final, TypeAlias, final

from kvs.adapters.storage.etcd.client.answers import token_of
from kvs.adapters.storage.etcd.client.call import Outcome, UnaryCall
from kvs.adapters.storage.etcd.client.errors import EtcdError, ProtocolBrokenError
from kvs.adapters.storage.etcd.client.link import Link
from kvs.adapters.storage.etcd.client.requests import AUTHENTICATE, authenticate_request
from kvs.adapters.storage.etcd.client.wire import WireError

Then: TypeAlias = Callable[[EtcdError | None], None]

AUTHENTICATE_TIMEOUT_S: Final = 5.0
"""etcd hashes the password, which takes a tenth of a second, and tells all members of the token."""


def no_password() -> str:
    return ""


@final
class Authenticator:
    """Keeps a token, and asks for another one, once, when it is refused.

    Args:
        user: The name; empty if nobody needs to tell.
        password: Returns the password, which may have changed.

    Attributes:
        token: The current one; empty before the first.

    Concurrency: any thread; the lock is never held while something is awaited.
    """

    def __init__(self, user: str, password: Callable[[], str]) -> None:
        self.token = ""
        self.user: Final = user
        self.password: Final = password
        self._lock = threading.Lock()
        self._then: list[Then] = []

    @property
    def used(self) -> bool:
        """Whether calls need a token."""
        return bool(self.user)

    def renew(self, refused: str, link: Link, then: Then) -> None:
        """Call ``then`` once there is another token than the refused one, or with the error that keeps it from us."""
        with self._lock:
            there = self.token != refused
            first = not self._then
            if not there:
                self._then.append(then)
        if there:
            then(None)
        elif first:
            link.submit(
                UnaryCall(
                    AUTHENTICATE,
                    [authenticate_request(self.user, self.password())],
                    time.monotonic() + AUTHENTICATE_TIMEOUT_S,
                    self._take,
                )
            )

    def _take(self, outcome: Outcome) -> None:
        error: EtcdError | None = None
        token = ""
        if isinstance(outcome, EtcdError):
            error = outcome
        else:
            try:
                token = token_of(outcome)
            except WireError as broken:
                error = ProtocolBrokenError(str(broken))
        with self._lock:
            if error is None:
                self.token = token
            waiting = self._then
            self._then = []
        for then in waiting:
            then(error)
