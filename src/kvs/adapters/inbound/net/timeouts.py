"""Limits on clients: their number, and how long each may be silent."""

from dataclasses import dataclass
from typing import Final

from kvs.adapters.inbound.protocol.base_connection import BaseConnection

TOO_LATE: Final = "The client has not authenticated in time."
"""Tells no setting."""


@dataclass
class ServerLimits:
    """Limits and timeouts of clients. Fields without a default are settings of the same names.

    A timeout of 0 means no timeout.

    Attributes:
        linger_timeout_s: Longest wait for a client to close after it has received the last reply. A plain close with
            unread input makes the kernel reset the connection, which loses the last reply.
        last_calls_timeout_s: Longest wait, when stopping, for calls in flight whose clients have disconnected.
        accept_retry_s: How long no client is accepted when descriptors have run out.
    """

    max_clients: int
    idle_timeout_s: float
    input_timeout_s: float
    output_timeout_s: float
    transaction_idle_timeout_s: float
    transaction_timeout_s: float
    drain_timeout_s: float
    max_output_bytes: int
    max_batches_in_flight: int
    max_held_bytes: int
    auth_timeout_s: float = 10.0
    linger_timeout_s: float = 1.0
    last_calls_timeout_s: float = 1.0
    accept_retry_s: float = 1.0

    def sweep_interval_s(self) -> float:
        """Return how often to check timeouts: a quarter of the shortest, between 20 ms and a second."""
        timeouts = (
            self.idle_timeout_s,
            self.input_timeout_s,
            self.output_timeout_s,
            self.transaction_idle_timeout_s,
            self.transaction_timeout_s,
            self.auth_timeout_s,
        )
        return min(1.0, max(0.02, min((timeout / 4 for timeout in timeouts if timeout), default=1.0)))

    def timeout_reason(self, connection: BaseConnection, idle_s: float, now_s: float, connected_s: float) -> str:
        """Return why a connection must be closed; empty if it may continue.

        Args:
            connection: The connection.
            idle_s: Time since the last input.
            now_s: Seconds of the loop's clock, which is also that of the sessions.
            connected_s: When it was accepted, by that clock.
        """
        if connection.peer.user is None:
            is_late = (
                0 < self.auth_timeout_s <= now_s - connected_s
                or (connection.mid_request and 0 < self.input_timeout_s <= idle_s)
                or 0 < self.idle_timeout_s <= idle_s
            )
            return TOO_LATE if is_late else ""
        session = connection.session
        if session.expired:
            return "The transaction was ended: the values kept for its snapshot outgrew max_history_bytes."
        if session.depth and 0 < self.transaction_timeout_s <= now_s - session.started_at_s:
            return f"The transaction was ended: it lasted transaction_timeout_s = {self.transaction_timeout_s:g}."
        if session.depth and 0 < self.transaction_idle_timeout_s <= idle_s:
            return (
                "The transaction was ended: nothing came for "
                f"transaction_idle_timeout_s = {self.transaction_idle_timeout_s:g}."
            )
        if connection.mid_request and 0 < self.input_timeout_s <= idle_s:
            return f"The request was not finished: nothing came for input_timeout_s = {self.input_timeout_s:g}."
        if 0 < self.idle_timeout_s <= idle_s:
            return f"Nothing came for idle_timeout_s = {self.idle_timeout_s:g}."
        return ""
