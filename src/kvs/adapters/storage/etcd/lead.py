"""The lead: who may write, and until when it may answer reads.

*The term.* The key ``leader`` is under the leader's lease; its create revision is the term. Whatever a leader writes is
*fenced*: it compares that revision. So nothing that a former leader has sent can be applied once another has the lead.

*The right to read.* A lease of etcd only brings an election about; no read relies on it, for a leader of etcd that is
stuck may go on confirming leases that its successor lets expire. Instead each fenced write that was sent at a moment
and has been applied gives the right to answer reads until that moment + lease - margin. A successor serves nothing
until lease + margin after it has learned of the last of those writes.

The keeper is a thread that writes heartbeats and renews the lease, as long as the loop of the server turns.
"""

import time
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Final, final

from kvs.adapters.storage.etcd.client.errors import EtcdError, LeaseNotFoundError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import create_revision_is, delete, put
from kvs.adapters.storage.etcd.layout import Heartbeat, Keys, encoded
from kvs.ports.candidate import LeadLostError

MARGIN_SHARE: Final = 0.1
"""Margin for clocks that run at different speeds, as a share of the lease."""

BEATS_PER_LEASE: Final = 4


CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock_s() -> float:
    """Return seconds of a clock that also counts the time for which the machine was suspended."""
    return time.clock_gettime(CLOCK)


@final
class Lead:
    """The lead of one term. Thread-safe.

    Args:
        keys: The names of keys.
        server_id: This server.
        term: The create revision of ``leader``.
        lease: Number of the lease.
        lease_s: Its time.

    Attributes:
        lost: Why the lead was lost; empty before.
    """

    def __init__(self, keys: Keys, server_id: str, term: int, lease: int, lease_s: float) -> None:
        self.server_id: Final = server_id
        self.term: Final = term
        self.lease: Final = lease
        self.lease_s: Final = lease_s
        self.lost = ""
        self._keys = keys
        self._margin_s = lease_s * MARGIN_SHARE
        self._right_until_s = 0.0
        self._changing = Lock()

    @property
    def fence(self) -> list[bytes]:
        """The compare of every write."""
        return [create_revision_is(self._keys.leader, self.term)]

    @property
    def may_read(self) -> bool:
        """Whether what this server knows is still the newest."""
        return clock_s() < self._right_until_s and not self.lost

    def confirm(self, sent_s: float) -> None:
        """Note that a fenced write was applied.

        Args:
            sent_s: When it was sent, at the earliest, by :func:`clock_s`.
        """
        with self._changing:
            self._right_until_s = max(self._right_until_s, sent_s + self.lease_s - self._margin_s)

    def lose(self, reason: str) -> None:
        """Give up: this server is no leader any more, or cannot know that it is."""
        self.lost = self.lost or reason

    def check(self) -> None:
        """Raise if the lead is lost.

        Raises:
            LeadLostError: It is.
        """
        if self.lost:
            raise LeadLostError(f"etcd: this server has lost the lead: {self.lost}")


@final
class Keeper:
    """Keeps the lead: heartbeats, the lease, and the search for a loop that hangs.

    Args:
        client: Calls etcd.
        keys: The names of keys.
        lead: What is kept.
        time_ms: Returns the server's time.
    """

    def __init__(self, client: EtcdClient, keys: Keys, lead: Lead, time_ms: Callable[[], int]) -> None:
        self._client = client
        self._keys = keys
        self._lead = lead
        self._time_ms = time_ms
        self._wake: Callable[[], None] | None = None
        self._seen_s = clock_s()
        self._stopping = Event()
        self._runner = Thread(target=self._run, name="kvs-lead", daemon=True)
        self._runner.start()

    def watch_loop(self, wake: Callable[[], None]) -> None:
        """From now on, keep the lead only while the loop turns.

        Args:
            wake: Has the loop call :meth:`loop_turns` soon.
        """
        self._seen_s = clock_s()
        self._wake = wake

    def loop_turns(self) -> None:
        """Note that the loop is alive."""
        self._seen_s = clock_s()

    def release(self) -> None:
        """Give up the lead, so that another server can take it at once. The engine answers nothing any more."""
        self.stop()
        lead, keys = self._lead, self._keys
        if lead.lost:
            return
        lead.lose("it was released")
        last = encoded(Heartbeat(lead.term, self._time_ms(), released=True))
        try:
            self._client.txn(lead.fence, [put(keys.alive, last), delete(keys.leader)])
            self._client.revoke(lead.lease)
        except EtcdError:
            pass  # the lease ends by itself

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._runner.join()

    def _run(self) -> None:
        lead = self._lead
        interval_s = lead.lease_s / BEATS_PER_LEASE
        while not (self._stopping.wait(interval_s) or lead.lost):
            if self._wake is not None:
                self._wake()
                if clock_s() - self._seen_s > lead.lease_s / 2:
                    continue  # a server that answers nothing must not keep the lead
            self._beat(interval_s)
        if lead.lost and self._wake is not None:
            self._wake()

    def _beat(self, timeout_s: float) -> None:
        lead, keys = self._lead, self._keys
        beat = put(keys.alive, encoded(Heartbeat(lead.term, self._time_ms())))
        sent_s = clock_s()
        try:
            if not self._client.txn(lead.fence, [beat], timeout_s=timeout_s).succeeded:
                lead.lose("another server has taken it, or its lease has ended")
                return
            lead.confirm(sent_s)
            self._client.keep_alive_once(lead.lease, timeout_s=timeout_s)
        except LeaseNotFoundError:
            lead.lose("its lease has ended")
        except EtcdError:
            pass  # the right to read ends by itself, and so does the lease
