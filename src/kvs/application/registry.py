"""All open sessions of a server, and the counters of closed ones."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, final

from kvs.addresses import format_address
from kvs.application.changes import ChangeFeed
from kvs.application.conflict_keys import ConflictKeys
from kvs.application.disposal import Disposal
from kvs.application.expiry import Expiry
from kvs.application.figures import ABORTS, ENGINE_FAILED, Reading, Sources, for_info
from kvs.application.memory_budget import MemoryBudget
from kvs.application.session import EngineSession
from kvs.application.slot import SessionContext, SessionLimits
from kvs.log_type import FilteringBoundLogger
from kvs.ports.session import LookupCounters, Session, TransactionCounters
from kvs.ports.storage import Storage
from kvs.ports.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Generator

SESSIONS_PER_STEP: Final = 250
"""Sessions looked at between two steps: 0.1 ms."""


@final
class SessionRegistry:
    """Opens sessions on one engine and tracks them.

    Args:
        storage: The engine.
        limits: Limits of one session.
        budget: Memory budget of all clients.
        clock: Monotonic seconds.
        about: The server's version, build and engine, for INFO.
        log: For engines that break their contract.
        disposal: Frees large transactions.
        expiry: The server's time, and what is due.
        changes: What commits change.
        log_events_dropped: Returns how many events could not be logged.
        memory_figures: Returns the allocator's figures.
        audit_figures: Returns those of the audit log.
        records: Whether the engine stores records.
        topology: The servers of the data set; None: there is only this one.
        sources: Further figures; None: there are none.
        wall_clock: The clock of the machine, in seconds since 1970.

    Attributes:
        conflict_keys: What conflicts have been about.
    """

    def __init__(
        self,
        storage: Storage,
        limits: SessionLimits,
        budget: MemoryBudget,
        clock: Callable[[], float],
        about: Mapping[str, str],
        log: FilteringBoundLogger,
        disposal: Disposal,
        expiry: Expiry,
        changes: ChangeFeed,
        log_events_dropped: Callable[[], int] = lambda: 0,
        memory_figures: Callable[[], Mapping[str, int]] = dict,
        audit_figures: Callable[[], Mapping[str, int]] = dict,
        topology: Topology | None = None,
        sources: Sources | None = None,
        wall_clock: Callable[[], float] = time.time,
        *,
        records: bool,
    ) -> None:
        self.conflict_keys: Final = ConflictKeys()
        self._context = SessionContext(
            storage, records, limits, clock, log, self.info, self._closed, disposal, expiry, changes, self.conflict_keys
        )
        self._budget = budget
        self._expiry = expiry
        self._clock = clock
        self._wall_clock = wall_clock
        self._about = about
        self._log_events_dropped = log_events_dropped
        self._memory_figures = memory_figures
        self._audit_figures = audit_figures
        self._topology = topology
        self._sources = Sources() if sources is None else sources
        self._opened_at_s = clock()
        self._next_id = 1
        self._open: dict[int, Session] = {}
        self._ended = TransactionCounters()
        self._ended_lookups = LookupCounters()

    def open(self, budget: MemoryBudget | None = None) -> EngineSession:
        """Open a session.

        Args:
            budget: Charged instead of the budget of all clients.
        """
        session = EngineSession(self._next_id, self._context, self._budget if budget is None else budget)
        self._next_id += 1
        self._open[session.id] = session
        return session

    def info(self) -> Reading:
        """Return the server's figures of one value, without those of the engine. O(number of sessions).

        A worker may call it while others use their sessions: the figures may be of different moments.
        """
        steps = self.steps()
        while True:
            try:
                next(steps)
            except StopIteration as end:
                figures: Reading = end.value
                return for_info(figures)

    def steps(self) -> "Generator[None, None, Reading]":
        """Return the server's figures, without those of the engine; yield after some sessions.

        Counters never go back from one call to the next: sessions that end meanwhile are still in the list.
        """
        ended, ended_lookups = self._ended, self._ended_lookups
        committed, conflicted, aborted = ended.committed, ended.conflicted, ended.aborted
        engine_aborts = ended.engine_aborts
        hits, misses = int(ended_lookups.hits), int(ended_lookups.misses)
        transactions = open_bytes = largest_bytes = 0
        now_s = oldest_s = self._clock()
        sessions = list(self._open.values())
        for at, session in enumerate(sessions, 1):
            counters, lookups = session.counters, session.lookups
            committed += counters.committed
            conflicted += counters.conflicted
            aborted += counters.aborted
            engine_aborts += counters.engine_aborts
            hits += int(lookups.hits)
            misses += int(lookups.misses)
            if session.depth:
                transactions += 1
                oldest_s = min(oldest_s, session.started_at_s)
                held_bytes = session.held_bytes
                open_bytes += held_bytes
                largest_bytes = max(largest_bytes, held_bytes)
            if at % SESSIONS_PER_STEP == 0:
                yield
        others = self._sources.read()
        told = others.get(ABORTS)
        by_reason = {**(told if isinstance(told, dict) else {}), ENGINE_FAILED: engine_aborts}
        return {
            **self._about,
            **({} if self._topology is None else _roles(self._topology)),
            "uptime_s": round(now_s - self._opened_at_s, 3),
            "clients": len(sessions),
            "clients_bytes": self._budget.used_bytes,
            "max_clients_bytes": self._budget.limit_bytes,
            "open_transactions": transactions,
            "oldest_snapshot_s": round(max(0.0, now_s - oldest_s), 3),
            "transactions_bytes": open_bytes,
            "largest_transaction_bytes": largest_bytes,
            "commits": committed,
            "conflicts": conflicted,
            "aborts": aborted,
            "keyspace_hits": hits,
            "keyspace_misses": misses,
            "expired_keys": self._expiry.deleted,
            "expiry_lag_s": self._expiry.lag_ms / 1000,
            "server_time_ahead_ms": self._expiry.ahead_ms(self._wall_clock()),
            "log_events_dropped": self._log_events_dropped(),
            **self._audit_figures(),
            **self._memory_figures(),
            **others,
            ABORTS: by_reason,
        }

    def _closed(self, session: Session) -> None:
        """Remove a session, and keep its counters."""
        if self._open.pop(session.id, None) is not None:
            self._ended.committed += session.counters.committed
            self._ended.conflicted += session.counters.conflicted
            self._ended.aborted += session.counters.aborted
            self._ended.engine_aborts += session.counters.engine_aborts
            self._ended_lookups.hits += session.lookups.hits
            self._ended_lookups.misses += session.lookups.misses


def _roles(topology: Topology) -> dict[str, object]:
    leader = topology.leader
    return {
        "role": "leader" if topology.leads else "standby",
        "leader": None if leader is None else format_address((leader.host, leader.port)),
        "clock_ahead_ms": topology.clock_ahead_ms,
    }
