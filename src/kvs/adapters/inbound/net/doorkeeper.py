"""Who may be connected: how many clients, how many of them without authentication, and no users that are gone."""

from typing import final

from kvs.adapters.inbound.net.reasons import ACCESS_CHANGED
from kvs.adapters.inbound.net.registry import ChannelRegistry
from kvs.adapters.inbound.net.timeouts import ServerLimits
from kvs.adapters.inbound.protocol.audit import Audit
from kvs.adapters.inbound.protocol.base_connection import BaseConnection
from kvs.adapters.inbound.protocol.peer import Peer
from kvs.application.users import User, Users
from kvs.domain.errors import LimitError


@final
class Doorkeeper:
    """Refuses clients, and closes those of users that have changed.

    Args:
        registry: The channels.
        limits: Has the number of clients.
        users: The users.
        audit: The audit log; None: there is none.
    """

    def __init__(
        self, registry: ChannelRegistry, limits: ServerLimits, users: Users, audit: Audit | None = None
    ) -> None:
        self._registry = registry
        self._limits = limits
        self._users = users
        self._audit = audit

    def watch(self) -> None:
        """Follow changes of users from now on."""
        self._users.gone = self._close_clients_of
        self._users.altered = self._close_listeners_of

    def look_at(self, peer: Peer, *, is_own_user: bool) -> None:
        """Have the server's own user need no secret at a Unix socket."""
        peer.is_own_user = is_own_user
        default = self._users.default
        if is_own_user and peer.user is None and default.enabled:
            peer.user = default

    def certify(self, peer: Peer) -> None:
        """Have a client be the user that its certificate names, if there is one, and if that can be told."""
        user, audit = self._users.get(peer.certificate_user), self._audit
        if user is None or not user.enabled or (audit is not None and audit.failing):
            return
        peer.become(user)
        peer.announce()
        if audit is not None:
            audit.certified(peer)

    def admit(self, connection: BaseConnection) -> LimitError | None:
        """Make room for a new client if others have to give way; return why it is refused, None if it is not.

        Clients that have not authenticated get half of the places, and the oldest of them gives way to the next client
        that needs one: who means to authenticate does so at once, and others must keep nobody out. They get no setting
        to see.
        """
        registry, max_clients = self._registry, self._limits.max_clients
        is_stranger = connection.peer.user is None
        is_full = registry.admitted >= max_clients
        if is_full or (is_stranger and len(registry.strangers) >= max(1, max_clients // 2)):
            is_full = not registry.displace_stranger() and is_full
        if not is_full:
            return None
        if is_stranger:
            return LimitError("There are too many clients already.")
        return LimitError(f"There are max_clients = {max_clients} clients already.")

    def _close_clients_of(self, user: User) -> None:
        """Close the connections of a user that has been removed or switched off."""
        for channel in list(self._registry.channels.values()):
            peer = channel.connection.peer
            if peer.user is user and not peer.alters_users:
                channel.end(ACCESS_CHANGED)

    def _close_listeners_of(self, user: User) -> None:
        """Close those connections of a user that show what others do, which the user may not learn any more."""
        for channel in list(self._registry.channels.values()):
            sees_others = channel.connection.peer.user is user and channel.connection.shows_others
            if sees_others and not user.grants.unrestricted:
                channel.end(ACCESS_CHANGED)
