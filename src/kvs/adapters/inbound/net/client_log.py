"""Records clients that come and go, in the log and in the audit log."""

from typing import Final, final

from kvs.adapters.inbound.net.channel import Channel
from kvs.adapters.inbound.protocol.audit import Audit
from kvs.domain.errors import LimitError
from kvs.log_type import FilteringBoundLogger


@final
class ClientLog:
    """See the module docstring.

    Args:
        log: Bound logger.
        audit: The audit log; None: there is none.
    """

    def __init__(self, log: FilteringBoundLogger, audit: Audit | None) -> None:
        self._log: Final = log
        self._audit: Final = audit

    def connected(self, channel: Channel) -> None:
        """Record a client that is admitted."""
        connection = channel.connection
        if self._audit is not None:
            self._audit.connected(connection.peer)
        self._log.info("client_connected", peer=channel.remote_address, session=connection.session.id)

    def refused(self, channel: Channel, max_clients: int) -> None:
        """Record a client that is refused, as there are too many."""
        if self._audit is not None:
            self._audit.connection_refused(channel.connection.peer, LimitError.code)
        self._log.warning("client_refused", peer=channel.remote_address, max_clients=max_clients)

    def disconnected(self, channel: Channel) -> None:
        """Record an admitted client that is gone."""
        connection, session = channel.connection, channel.connection.session
        if self._audit is not None:
            self._audit.disconnected(connection.peer, channel.reason)
        self._log.info(
            "client_disconnected",
            peer=channel.remote_address,
            session=session.id,
            reason=channel.reason,
            commands=connection.requests,
            committed=session.counters.committed,
            conflicted=session.counters.conflicted,
            aborted=session.counters.aborted,
        )
