"""The port of where users are saved."""

from typing import Protocol

from kvs.domain.accounts import Accounts
from kvs.domain.errors import KvsError


class UsersNotSavedError(KvsError):
    """Raised when it is not certain that a change of users has been saved. Here nothing has changed."""

    code = "unavailable"


class UserStore(Protocol):
    """Where users are saved."""

    def save(self, accounts: Accounts, base: int) -> int:
        """Save all users durably, in place of those that are there. Called by one thread at a time, not by the loop.

        Args:
            accounts: All users.
            base: The revision of which they are a change.

        Returns:
            The revision of what has been saved; a store that nobody else changes has only one, 0.

        Raises:
            UsersNotSavedError: It is not certain that they have been saved.
        """


class SharedUsers(UserStore, Protocol):
    """Users that several servers share, as far as this one knows them."""

    @property
    def newest(self) -> tuple[Accounts, int] | None:
        """The newest users that are known, and their revision; None: there are none. Must not block."""

    def offer(self, accounts: Accounts) -> None:
        """Have these users put there if there are none yet."""
