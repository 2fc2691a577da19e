"""Who a client is: for what tells others of it, and for what it may do."""

from typing import TYPE_CHECKING, Final, final

from kvs.domain.grants import NOTHING, Grants

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvs.application.users import User


def tell_nobody() -> None:
    """Do nothing: no channel is attached."""


@final
class Peer:
    """Who a client is.

    Args:
        number: That of its session.

    Attributes:
        number: That of its session.
        address: Its address, as people write it; empty until its channel has set it.
        name: Its name, as it has set it.
        user: Who it is; None: it has not authenticated.
        checking: It waits for the end of a check of its secret, or of a change of users, and runs nothing.
        alters_users: It changes users at this moment, and gets the reply to that before it is closed.
        generation: That of the user's grants when the open transaction began, or what came last outside of any.
        changed: Called on the loop when another user is set, and when it does not wait any more. Set by the channel.
        certificate_user: The common name of its certificate, if it has shown one that is trusted; else empty.
        is_own_user: Whether it is a process of the server's own user, at a Unix socket.
    """

    __slots__ = (
        "_is_news",
        "address",
        "alters_users",
        "certificate_user",
        "changed",
        "checking",
        "generation",
        "is_own_user",
        "name",
        "number",
        "user",
    )

    def __init__(self, number: int = 0) -> None:
        self.number: Final = number
        self.address = ""
        self.name = b""
        self.user: User | None = None
        self.checking = False
        self.alters_users = False
        self.generation = 0
        self._is_news = False
        self.changed: Callable[[], None] = tell_nobody
        self.certificate_user = ""
        self.is_own_user = False

    @property
    def is_unrestricted(self) -> bool:
        """Whether it may do everything."""
        user = self.user
        return user is not None and user.grants.unrestricted

    @property
    def grants(self) -> Grants:
        """What it may do."""
        user = self.user
        return NOTHING if user is None else user.grants

    def may_run(self, name: bytes, categories: int) -> bool:
        """Return whether it may run a command that uses no keys, given the name by which grants know it."""
        user = self.user
        return user is not None and (user.grants.unrestricted or user.grants.allows_command(name, categories))

    def become(self, user: "User | None") -> None:
        """Be another user; None: nobody."""
        self.user = user
        self.generation = -1
        self._is_news = True

    def announce(self) -> None:
        """Tell the channel if it is another user by now. On the loop: RESET may be run by a worker."""
        if self._is_news:
            self._is_news = False
            self.changed()

    def go_on(self) -> None:
        """Wait for nothing any more."""
        if self.checking:
            self.checking = False
            self.changed()
