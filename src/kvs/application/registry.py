"""All sessions of a server: what each may hold, which are open, and what those that have ended did."""

from collections.abc import Callable, Mapping
from typing import final

from structlog.typing import FilteringBoundLogger

from kvs.application.memory_budget import ClientsBudget
from kvs.application.session import EngineSession
from kvs.ports.session import Totals
from kvs.ports.storage import Storage


@final
class SessionLimits:
    """What one session may hold; see the settings of the same names."""

    __slots__ = ("max_transaction_bytes", "max_transaction_depth")

    def __init__(self, max_transaction_bytes: int, max_transaction_depth: int) -> None:
        self.max_transaction_bytes = max_transaction_bytes
        self.max_transaction_depth = max_transaction_depth


@final
class EngineSessions:
    """Opens sessions on one engine, and knows those that are open. Implements ``SessionFactory``.

    Args:
        storage: The engine.
        limits: What one session may hold.
        budget: What all clients together may hold.
        clock: Monotonic seconds.
        about: What the server says of itself in INFO: version, build, engine.
        log: For engines that break their contract.
        log_events_dropped: Returns how many events could not be logged.
    """

    __slots__ = (
        "_about",
        "_ended",
        "_log_events_dropped",
        "_next_id",
        "_open",
        "_opened_at_s",
        "budget",
        "clock",
        "limits",
        "log",
        "storage",
    )

    def __init__(
        self,
        storage: Storage,
        limits: SessionLimits,
        budget: ClientsBudget,
        clock: Callable[[], float],
        about: Mapping[str, str],
        log: FilteringBoundLogger,
        log_events_dropped: Callable[[], int] = lambda: 0,
    ) -> None:
        self.storage = storage
        self.limits = limits
        self.budget = budget
        self.clock = clock
        self.log = log
        self._about = about
        self._log_events_dropped = log_events_dropped
        self._opened_at_s = clock()
        self._next_id = 1
        self._open: dict[int, EngineSession] = {}
        self._ended = Totals()

    def open(self, budget: ClientsBudget | None = None) -> EngineSession:
        """Open a session.

        Args:
            budget: What to charge in place of the budget of all clients.
        """
        session = EngineSession(self._next_id, self, self.budget if budget is None else budget)
        self._next_id += 1
        self._open[session.id] = session
        return session

    def closed(self, session: EngineSession) -> None:
        """Forget a session, but not what it did."""
        if self._open.pop(session.id, None) is not None:
            self._ended.committed += session.totals.committed
            self._ended.conflicted += session.totals.conflicted
            self._ended.aborted += session.totals.aborted

    def info(self) -> dict[str, object]:
        """Return figures about the server, without those of the engine. O(number of sessions)."""
        now_s = self.clock()
        committed, conflicted, aborted = self._ended.committed, self._ended.conflicted, self._ended.aborted
        transactions = 0
        oldest_s = now_s
        for session in self._open.values():
            committed += session.totals.committed
            conflicted += session.totals.conflicted
            aborted += session.totals.aborted
            if session.depth:
                transactions += 1
                oldest_s = min(oldest_s, session.started_at_s)
        return {
            **self._about,
            "uptime_s": round(now_s - self._opened_at_s, 3),
            "clients": len(self._open),
            "clients_bytes": self.budget.used_bytes,
            "open_transactions": transactions,
            "oldest_snapshot_s": round(now_s - oldest_s, 3),
            "commits": committed,
            "conflicts": conflicted,
            "aborts": aborted,
            "log_events_dropped": self._log_events_dropped(),
        }
