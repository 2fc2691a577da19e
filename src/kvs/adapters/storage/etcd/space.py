"""Keeps etcd from getting full: watches its size, refuses writes in time, and gives back what is of no use any more.

etcd refuses every put at its quota, also those of checkpoints, heartbeats and elections, until an operator acts. So
writes are refused before: the rest is kept for deletes and checkpoints.

What counts is what is in use. Its file never shrinks by itself, but free pages of it are used again.
"""

import time
from collections.abc import Callable, Sequence
from threading import Event, Thread
from typing import Final, NamedTuple, final

from structlog.typing import FilteringBoundLogger

from kvs.adapters.storage.etcd.client.answers import Status
from kvs.adapters.storage.etcd.client.endpoints import Endpoint
from kvs.adapters.storage.etcd.client.errors import EtcdError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import NOSPACE
from kvs.adapters.storage.etcd.layout import Keys
from kvs.adapters.storage.etcd.lead import Lead

LOOK_S: Final = 1.0
STATUS_TIMEOUT_S: Final = 1.0

FULL_SHARE: Final = 0.8
"""Share of the quota in use from which on writes are refused."""

ROOM_SHARE: Final = 0.7
"""Share below which they are accepted again."""

USABLE_SHARE: Final = 0.95
"""Share that the file must be below for an alarm to be ended: the next put would raise it again."""

HASTE_SHARE: Final = 0.5
"""Share from which on the history is compacted as soon as possible."""

COMPACTION_S: Final = 60.0
"""Least interval of compactions otherwise."""

RECOVERY_S: Final = 10.0
"""Least interval of attempts to end an alarm."""

DEFRAGMENT_TIMEOUT_S: Final = 120.0


class Usage(NamedTuple):
    """What the member with the most has in its file, and what of it is in use; and whether any raised the alarm."""

    size: int
    used: int
    alarm: bool


@final
class Space:
    """The thread.

    Args:
        client: Calls etcd.
        keys: The names of keys.
        lead: Nothing is done without it.
        quota_bytes: The quota of etcd's members.
        refuse: Has the engine refuse writes with a text, or accept them again if that is empty.
        log: The log.
    """

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        lead: Lead,
        quota_bytes: int,
        refuse: Callable[[str], None],
        log: FilteringBoundLogger,
    ) -> None:
        self._client = client
        self._keys = keys
        self._lead = lead
        self._quota_bytes = quota_bytes
        self._forgettable: Callable[[], int] | None = None
        self._refuse = refuse
        self._log = log
        self._usage = Usage(0, 0, alarm=False)
        self._full = False
        self._compacted = 0  # the revision
        self._compacted_s = time.monotonic()
        self._recovered_s = -RECOVERY_S
        self._failing = False
        self._stopping = Event()
        self._runner = Thread(target=self._run, name="kvs-space", daemon=True)

    def compacts(self, forgettable: Callable[[], int]) -> None:
        """From the start on, also compact etcd's history, and make room in a full etcd.

        Args:
            forgettable: Returns a revision before which nobody reads any more.
        """
        self._forgettable = forgettable

    def start(self) -> None:
        self._runner.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._runner.join()

    def stats(self) -> dict[str, int]:
        """Return figures for people. By any thread."""
        usage = self._usage
        return {"etcd_bytes": usage.size, "etcd_used_bytes": usage.used, "etcd_quota_bytes": self._quota_bytes}

    def look(self) -> None:
        """Look once, and do what is needed.

        Raises:
            EtcdError: It could not be done.
        """
        client, now_s = self._client, time.monotonic()
        self._usage = self._measure()
        self._judge()
        if self._forgettable is None:
            return
        if self._usage.alarm and now_s - self._recovered_s >= RECOVERY_S:
            self._recovered_s = now_s
            self._recover()
            return
        revision = self._forgettable()
        hurries = self._usage.used >= HASTE_SHARE * self._quota_bytes
        if revision > self._compacted and (hurries or now_s - self._compacted_s >= COMPACTION_S):
            self._compacted, self._compacted_s = revision, now_s
            client.compact(revision)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S) and not self._lead.lost:
            try:
                self.look()
                self._failing = False
            except EtcdError as error:
                if not self._failing:
                    self._failing = True
                    self._log.warning("etcd_unavailable", reason=f"{type(error).__name__}: {error}")

    def _measure(self) -> Usage:
        statuses = self._statuses()
        size = max((status.db_size_bytes for _, status in statuses), default=self._usage.size)
        used = max((status.db_used_bytes for _, status in statuses), default=self._usage.used)
        return Usage(size, used, any("NOSPACE" in error for _, status in statuses for error in status.errors))

    def _statuses(self) -> Sequence[tuple[Endpoint, Status]]:
        """Return what the members say that answer."""
        found: list[tuple[Endpoint, Status]] = []
        for endpoint in self._client.endpoints:
            try:
                found.append((endpoint, self._client.status(endpoint, timeout_s=STATUS_TIMEOUT_S)))
            except EtcdError:  # a member that is down does not count
                continue
        return found

    def _judge(self) -> None:
        """Refuse writes, or accept them again."""
        usage, share = self._usage, ROOM_SHARE if self._full else FULL_SHARE
        full = usage.alarm or usage.used >= share * self._quota_bytes
        if full and not self._full:
            self._log.warning("etcd_full", alarm=usage.alarm, used_bytes=usage.used, quota_bytes=self._quota_bytes)
        elif self._full and not full:
            self._log.info("etcd_has_room", used_bytes=usage.used, quota_bytes=self._quota_bytes)
        self._full = full
        self._refuse(
            f"etcd is full: {usage.used} bytes are in use of quota_bytes = {self._quota_bytes}"
            f"{', and it has raised its alarm' if usage.alarm else ''}. Deletes are not refused."
            if full
            else ""
        )

    def _recover(self) -> None:
        """Make room in an etcd that refuses every put, and end the alarm.

        While there is an alarm, no checkpoint can be written; so all history is forgotten. Members are defragmented one
        after the other, as each answers nothing meanwhile.
        """
        client = self._client
        revision = client.range(self._keys.leader).header.revision
        client.compact(revision, physical=True)
        self._compacted = max(self._compacted, revision)
        for endpoint, status in self._statuses():
            if status.db_size_bytes >= FULL_SHARE * self._quota_bytes and not self._lead.lost:
                client.defragment(endpoint, timeout_s=DEFRAGMENT_TIMEOUT_S)
                self._log.info("etcd_defragmented", member=str(endpoint), former_bytes=status.db_size_bytes)
        self._usage = self._measure()
        if self._usage.size < USABLE_SHARE * self._quota_bytes:
            for alarm in client.alarms():
                if alarm.kind == NOSPACE:
                    client.disarm(alarm)
            self._usage = self._measure()
            self._judge()
