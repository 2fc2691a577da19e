"""Keeps etcd from getting full: watches its size, refuses writes in time, and gives back what is of no use any more.

etcd refuses every put at its quota, also those of checkpoints, heartbeats and elections, until an operator acts. So
writes are refused before: the rest is kept for deletes and checkpoints.

What counts is what is in use, or could be. Its file never shrinks by itself, but free pages of it are used again.
"""

import time
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Final, NamedTuple, final

from structlog.typing import FilteringBoundLogger

from kvs.adapters.storage.etcd.checkpoints import Checkpoints
from kvs.adapters.storage.etcd.client.answers import Status
from kvs.adapters.storage.etcd.client.endpoints import Endpoint
from kvs.adapters.storage.etcd.client.errors import CompactedError, EtcdError
from kvs.adapters.storage.etcd.client.requests import NOSPACE
from kvs.adapters.storage.etcd.steps import Steps

LOOK_S: Final = 1.0
STATUS_TIMEOUT_S: Final = 1.0

STOP_S: Final = 0.1

FULL_SHARE: Final = 0.8
"""Share of the quota from which on writes are refused."""

COPIES: Final = 4
"""Of the data and the journal: two generations, one that is being written, and one that is history. They may share
chunks, until something is written to each chunk; so what is in use does not tell."""

ROOM_SHARE: Final = 0.7
"""Share below which they are accepted again."""

USABLE_SHARE: Final = 0.95
"""Share that the file must be below for an alarm to be ended: the next put would raise it again."""

HASTE_SHARE: Final = 0.5
"""Share from which on the history is compacted as soon as possible."""

COMPACTION_S: Final = 60.0
"""Least interval of compactions otherwise."""

FIRST_RECOVERY_S: Final = 2.0
LONGEST_RECOVERY_S: Final = 60.0
"""Least interval of attempts to end an alarm; it doubles with each."""

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
        steps: Calls etcd, under the lead.
        checkpoints: Hurry when etcd is full, and say which history is of no use any more.
        quota_bytes: The quota of etcd's members.
        refuse: Has the engine refuse writes with a text, or accept them again if that is empty.
        log: The log.
        compacts: Whether to compact etcd's history, and to make room in a full etcd; else somebody else does.
    """

    def __init__(
        self,
        steps: Steps,
        checkpoints: Checkpoints,
        quota_bytes: int,
        refuse: Callable[[str], None],
        log: FilteringBoundLogger,
        *,
        compacts: bool,
    ) -> None:
        self._client = steps.client
        self._lead = steps.lead
        self._leader = steps.keys.leader
        self._checkpoints = checkpoints
        self._quota_bytes = quota_bytes
        self._refuse = refuse
        self._compacts = compacts
        self._log = log
        self._usage = Usage(0, 0, alarm=False)
        self._full = False
        self._compacted = 0  # the revision
        self._compacted_s = time.monotonic()
        self._recover_due_s = 0.0
        self._recovery_s = FIRST_RECOVERY_S
        self._failing = False
        self._stopping = False
        self._runner = Thread(target=self._run, name="kvs-space", daemon=True)

    def start(self) -> None:
        self._runner.start()

    def stop(self) -> None:
        """Have the thread end: soon, or when its client is closed, if it waits for a member."""
        self._stopping = True
        self._checkpoints.written.set()
        self._runner.join(STOP_S)

    def stats(self) -> dict[str, int]:
        """Return figures for people. By any thread."""
        usage = self._usage
        return {"etcd_bytes": usage.size, "etcd_used_bytes": usage.used, "etcd_quota_bytes": self._quota_bytes}

    def look(self) -> None:
        """Look once, and do what is needed.

        Raises:
            EtcdError: It could not be done.
        """
        now_s = time.monotonic()
        self._usage = self._measure()
        self._judge()
        if not self._compacts:
            return
        if self._usage.alarm:
            if now_s >= self._recover_due_s:
                self._recover()
            return
        self._recovery_s = FIRST_RECOVERY_S
        hurries = self._usage.used >= HASTE_SHARE * self._quota_bytes
        if hurries or now_s - self._compacted_s >= COMPACTION_S:
            self._compact(self._checkpoints.forgettable)

    def _run(self) -> None:
        written = self._checkpoints.written
        while not (self._stopping or self._lead.lost):
            written.wait(LOOK_S)
            written.clear()
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
        usage, data_bytes = self._usage, self._checkpoints.data_bytes
        share = ROOM_SHARE if self._full else FULL_SHARE
        full = usage.alarm or max(usage.used, COPIES * data_bytes) >= share * self._quota_bytes
        news = full != self._full
        self._full = self._checkpoints.hurried = full
        self._refuse(
            f"etcd is full: of quota_bytes = {self._quota_bytes}, {usage.used} are in use; the data and the journal "
            f"have {data_bytes}, and there must be room for {COPIES} times that. Deletes are not refused."
            if full
            else ""
        )
        if news and full:
            self._log.warning("etcd_full", alarm=usage.alarm, used_bytes=usage.used, data_bytes=data_bytes)
        elif news:
            self._log.info("etcd_has_room", used_bytes=usage.used, data_bytes=data_bytes)

    def _compact(self, revision: int, *, physical: bool = False) -> bool:
        """Have etcd forget what was before a revision; return whether that is news."""
        if revision <= self._compacted:
            return False
        self._compacted, self._compacted_s = revision, time.monotonic()
        try:
            self._client.compact(revision, physical=physical)
        except CompactedError:
            return False
        return True

    def _recover(self) -> None:
        """Make room in an etcd that refuses every put, and end the alarm.

        While there is an alarm, no checkpoint can be written; so all history is forgotten. Members are defragmented one
        after the other, as each answers nothing meanwhile; what is in use of their files they do not tell before.
        """
        client = self._client
        if self._compact(client.range(self._leader).header.revision, physical=True):
            self._recover_due_s = time.monotonic() + self._recovery_s
            self._recovery_s = min(2 * self._recovery_s, LONGEST_RECOVERY_S)
            for endpoint, status in self._statuses():
                if status.db_size_bytes >= FULL_SHARE * self._quota_bytes and not self._lead.lost:
                    self._defragment(endpoint, status)
            self._usage = self._measure()
        if self._usage.size < USABLE_SHARE * self._quota_bytes:
            for alarm in client.alarms():
                if alarm.kind == NOSPACE:
                    client.disarm(alarm)
            self._usage = self._measure()
            self._judge()

    def _defragment(self, endpoint: Endpoint, status: Status) -> None:
        member = str(endpoint)
        try:
            self._client.defragment(endpoint, timeout_s=DEFRAGMENT_TIMEOUT_S)
        except EtcdError as error:
            self._log.warning("etcd_not_defragmented", member=member, reason=f"{type(error).__name__}: {error}")
        else:
            self._log.info("etcd_defragmented", member=member, former_bytes=status.db_size_bytes)
