"""What the connections of all protocols do alike: replies that wait, the end, and what is held meanwhile."""

from abc import abstractmethod
from typing import Final

from structlog.typing import FilteringBoundLogger

from kvs.adapters.inbound.protocol.connection import Connection, Facts
from kvs.application.memory_budget import ClientsBudget
from kvs.domain.errors import KvsError, LimitError
from kvs.ports.session import Session

CHARGE_STEP_BYTES: Final = 4096
"""What a connection may hold more or less than the budget knows: telling it of every reply would cost 5 % of a GET."""


class Conversation(Connection):
    """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""

    __slots__ = ("_budget", "_charged_bytes", "_input_ended", "_log", "_out", "_out_bytes", "_share")

    def __init__(self, session: Session, budget: ClientsBudget, log: FilteringBoundLogger) -> None:
        super().__init__(session)
        self._budget = budget
        self._log = log
        self._charged_bytes = 0
        self._input_ended = False
        self._share = 0  # how many requests may be run in this tick
        self._out: list[bytes] = []
        self._out_bytes = 0

    # What a protocol provides.

    @abstractmethod
    def _error_reply(self, error: KvsError) -> bytes:
        """Return the reply that tells of an error."""

    @abstractmethod
    def _input_held_bytes(self) -> int:
        """Return what is held of requests that have not been run."""

    @abstractmethod
    def _forget_input(self) -> None:
        """Let go of all that."""

    # What it gets.

    def held_bytes(self) -> int:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        return self._input_held_bytes() + self._out_bytes

    def facts(self) -> Facts:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        return Facts(self._input_held_bytes(), self._out_bytes)

    def take_output(self) -> bytes:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        out = self._out
        if not out:
            return b""
        self._out = []
        self._out_bytes = 0
        if self._charged_bytes:
            self._charge()
        return out[0] if len(out) == 1 else b"".join(out)

    def fail(self, error: KvsError) -> None:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        if not self.closing:
            self._reply(self._error_reply(error))
            self._stop()

    def close(self) -> None:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        self._out.clear()
        self._out_bytes = 0
        self._stop()

    def _reply(self, reply: bytes) -> None:
        self._out.append(reply)
        self._out_bytes += len(reply)

    def _stop(self) -> None:
        """Take no more input, and forget what there is of it; what is due is still sent."""
        self.closing = True
        self.backlog = False
        self._forget_input()
        self.session.close()
        self._charge()

    def _charge(self) -> None:
        """Tell the budget what this connection holds now, when that has changed by enough to matter."""
        held = self._input_held_bytes() + self._out_bytes
        change = held - self._charged_bytes
        if change > CHARGE_STEP_BYTES or change < -CHARGE_STEP_BYTES or self.closing:
            self._budget.used_bytes += change
            self._charged_bytes = held

    def _refusal(self) -> LimitError:
        return LimitError(
            f"The clients together hold max_clients_bytes = {self._budget.limit_bytes} or more; until that has gone "
            "down only what gives some back or tells of it runs: COMMIT, ROLLBACK, INFO, PING and the like."
        )
