"""What watches the requests of all connections of a server."""

from collections.abc import Callable
from time import perf_counter, time
from typing import TYPE_CHECKING, Final, final

from kvs.adapters.inbound.protocol.audit import Audit
from kvs.adapters.inbound.protocol.command import Command
from kvs.adapters.inbound.protocol.latency import COMMAND, FAST_COMMAND, LatencyMonitor
from kvs.adapters.inbound.protocol.monitors import Monitors
from kvs.adapters.inbound.protocol.peer import Peer
from kvs.adapters.inbound.protocol.slow_log import OFF, SlowLog
from kvs.adapters.inbound.protocol.statistics import NS_PER_S, Statistics

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler

FAST_NS: Final = 1_000_000
"""A threshold of the slow log below which each request is measured by itself. Those of fast paths take microseconds."""


@final
class Observation:
    """Records every request, in any protocol, except those that fast paths count by themselves.

    Args:
        timer: Monotonic seconds, to measure requests.
        clock: Seconds since 1970.
        slowlog_log_slower_than: See the setting.
        slowlog_max_len: See the setting.
        audit: The audit log; None: there is none.

    Attributes:
        timer: See above.
        audit: See above.
        statistics: Counts the requests.
        slow_log: Has those that took long.
        latency: Notes what has held the server up.
        monitors: See all of them.
        sees_all: It records each request by itself, so fast paths are off.
    """

    def __init__(
        self,
        timer: Callable[[], float] = perf_counter,
        clock: Callable[[], float] = time,
        slowlog_log_slower_than: int = OFF,
        slowlog_max_len: int = 128,
        audit: Audit | None = None,
    ) -> None:
        self.timer = timer
        self.audit: Final = audit
        self.statistics = Statistics(timer)
        self.slow_log = SlowLog(clock, slowlog_log_slower_than, slowlog_max_len)
        self.latency = LatencyMonitor(clock)
        self.monitors = Monitors(clock)
        self.sees_all = False
        self.decide()

    def decide(self) -> None:
        """Decide whether fast paths are off, after a change."""
        audits_all = self.audit is not None and self.audit.all_commands
        self.sees_all = audits_all or self.slow_log.threshold_ns < FAST_NS or len(self.monitors) > 0

    def ran(self, peer: Peer, command: Command, request: list[bytes], duration_s: float, error: bytes) -> int:
        """Note that a client's command has been run, and the code of the error that answers it, if any.

        Returns:
            Units of work, if it took any that matter.
        """
        duration_ns: i64 = int(duration_s * NS_PER_S)
        self.statistics.ran(command.name, duration_ns, error)
        if duration_ns >= self.slow_log.threshold_ns and command.in_slow_log:
            self.slow_log.add(peer, command, request, duration_ns)
        if duration_ns >= self.latency.threshold_ns:
            self.latency.add(FAST_COMMAND if command.is_fast else COMMAND, duration_ns)
        units = 0 if self.audit is None else self.audit.ran(peer, command, request, error)
        if self.sees_all and len(self.monitors) and not command.is_hidden:
            units += self.monitors.show(peer, command, request)
        return units

    def refused(self, peer: Peer, command: Command | None, request: list[bytes], error: bytes) -> int:
        """Note that a request has not been run, and the code of the error that answers it; empty if it is queued.

        Returns:
            Units of work, as of :meth:`ran`.
        """
        self.statistics.refused(b"" if command is None else command.name, error)
        return 0 if self.audit is None else self.audit.refused(peer, command, request, error)

    def use_workers(self) -> None:
        """Be safe for several threads."""
        self.statistics.use_workers()
        self.monitors.use_workers()

    def listen(self, number: int, push: Callable[[bytes], None]) -> None:
        """Show all commands to a client, by the number of its session."""
        self.monitors.add(number, push)
        self.decide()

    def end_listening(self, number: int) -> None:
        """Show no more commands to a client, if any have been."""
        self.monitors.remove(number)
        self.decide()
