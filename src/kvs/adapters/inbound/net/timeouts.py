"""Limits of all clients together: how many there may be, and how long each may be silent."""

from dataclasses import dataclass

from kvs.adapters.inbound.protocol.connection import Connection


@dataclass(frozen=True)
class ServerLimits:
    """What all clients together may do, and for how long. Those without a default are settings of the same names.

    A timeout of 0 is none.

    Attributes:
        linger_timeout_s: Longest wait for a client to close after it has taken the last reply. A plain close with
            unread input makes the kernel reset the connection, and the last reply is lost with it.
        last_calls_timeout_s: Longest wait, at the stop, for calls in flight whose clients are gone.
        accept_retry_s: How long no client is accepted when descriptors have run out.
    """

    max_clients: int
    idle_timeout_s: float
    input_timeout_s: float
    output_timeout_s: float
    transaction_idle_timeout_s: float
    transaction_timeout_s: float
    drain_timeout_s: float
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
        )
        return min(1.0, max(0.02, min((timeout / 4 for timeout in timeouts if timeout), default=1.0)))

    def timeout_reason(self, connection: Connection, idle_s: float, now_s: float) -> str:
        """Return why a connection has to be ended; empty if it may go on.

        Args:
            connection: The connection.
            idle_s: How long nothing has come.
            now_s: Seconds of the loop's clock, which is the sessions' as well.
        """
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
