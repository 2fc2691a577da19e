"""How a server is, for those who probe it."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

from kvs.ports.topology import Topology

if TYPE_CHECKING:
    from kvs.adapters.inbound.net.collector import Collector

LOADING: Final = "the engine is loading"
CHANGING: Final = "the server changes its role"
SERVING: Final = ""
DRAINING: Final = "the server is stopping"
NO_LEADER: Final = "there is no leader"
SILENT: Final = "nothing is heard of the leader, which cannot answer: etcd is not there, or not for it"

TURNED_LATELY_S: Final = 5.0
"""Time since the last known turn of the loop up to which it is alive; a turn is noted at least once a second."""


@final
class Health:
    """The state of a server, in all its turns.

    Concurrency: written by the main thread, which is that of the loop; read by any.

    Args:
        clock: Monotonic seconds.

    Attributes:
        collector: Collects the figures of the server that runs; None: none does.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.collector: Collector | None = None
        self._clock = clock
        self._state = LOADING
        self._turned_s = -1.0  # no loop runs
        self._topology: Topology | None = None

    def begin(self, collector: "Collector", topology: Topology | None) -> None:
        """Note that a server listens."""
        self._topology = topology
        self.collector = collector
        self.turned()
        self._state = SERVING

    def turned(self) -> None:
        """Note that the loop has turned."""
        self._turned_s = self._clock()

    def drain(self) -> None:
        """Note that the server is stopping."""
        self._state = DRAINING

    def end(self, *, goes_on: bool) -> None:
        """Note that no loop runs any more.

        Args:
            goes_on: Whether another server follows in this process.
        """
        self._turned_s = -1.0
        self.collector = None
        self._state = CHANGING if goes_on else DRAINING

    @property
    def turned_lately(self) -> bool:
        """Whether the loop has turned lately, or none runs: the main thread loads, or changes the server's role."""
        turned_s = self._turned_s
        return turned_s < 0 or self._clock() - turned_s <= TURNED_LATELY_S

    def not_ready(self) -> list[str]:
        """Return why clients should not be sent here; nothing if they should."""
        topology = self._topology
        reasons = [self._state] if self._state else []
        if self._state == SERVING and topology is not None and not topology.has_leader:
            reasons.append(NO_LEADER if topology.leader is None else SILENT)
        return reasons
