"""What all clients together may do: how many there may be, and for how long each may be silent."""

from typing import Final, final

from structlog.typing import FilteringBoundLogger

from kvs.adapters.inbound.protocol.connection import Connection

FD_RESERVE: Final = 32
"""Descriptors that are not for clients: standard streams, listeners, the loop's own, the engine's, refused clients."""


@final
class ServerLimits:
    """What all clients together may do, and for how long; see the settings of the same names. 0 is no timeout."""

    __slots__ = (
        "drain_timeout_s",
        "idle_timeout_s",
        "input_timeout_s",
        "max_clients",
        "output_timeout_s",
        "transaction_idle_timeout_s",
        "transaction_timeout_s",
    )

    def __init__(
        self,
        max_clients: int,
        idle_timeout_s: float,
        input_timeout_s: float,
        output_timeout_s: float,
        transaction_idle_timeout_s: float,
        transaction_timeout_s: float,
        drain_timeout_s: float,
    ) -> None:
        self.max_clients = max_clients
        self.idle_timeout_s = idle_timeout_s
        self.input_timeout_s = input_timeout_s
        self.output_timeout_s = output_timeout_s
        self.transaction_idle_timeout_s = transaction_idle_timeout_s
        self.transaction_timeout_s = transaction_timeout_s
        self.drain_timeout_s = drain_timeout_s

    def sweep_every_s(self) -> float:
        """Return how often to look: a quarter of the shortest timeout, between 20 ms and a second."""
        timeouts = (
            self.idle_timeout_s,
            self.input_timeout_s,
            self.output_timeout_s,
            self.transaction_idle_timeout_s,
            self.transaction_timeout_s,
        )
        return min(1.0, max(0.02, min((timeout / 4 for timeout in timeouts if timeout), default=1.0)))

    def overdue(self, connection: Connection, idle_s: float, now_s: float) -> str:
        """Return why a conversation is to be ended; nothing if it may go on.

        Args:
            connection: The conversation.
            idle_s: For how long nothing has come.
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


def clients_allowed(wanted: int, log: FilteringBoundLogger) -> int:
    """Raise the limit on descriptors as far as needed and allowed; return how many clients then fit."""
    import resource  # noqa: PLC0415  # Unix only

    needed = wanted + FD_RESERVE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < needed:
            allowed = max(1, soft - FD_RESERVE)
            log.warning("max_clients_lowered", max_clients=allowed, wanted=wanted, open_files_limit=soft)
            return allowed
    return wanted
