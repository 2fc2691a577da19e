"""Keeps etcd from getting full: watches its size, refuses writes in time, and gives back what is of no use any more.

etcd refuses every put at its quota, also those of checkpoints, heartbeats and elections, until an operator acts. So
writes are refused before: the rest is kept for deletes and checkpoints.

What counts is what is in use, or could be. Its file never shrinks by itself, but free pages of it are used again.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Thread
from typing import Final, NamedTuple, final

from kvs.adapters.storage.etcd.checkpoints import Checkpoints
from kvs.adapters.storage.etcd.client.answers import Status
from kvs.adapters.storage.etcd.client.endpoints import Endpoint
from kvs.adapters.storage.etcd.client.errors import CompactedError, EtcdError
from kvs.adapters.storage.etcd.client.requests import NOSPACE
from kvs.adapters.storage.etcd.lead import TAKEN
from kvs.adapters.storage.etcd.steps import Steps
from kvs.log_type import FilteringBoundLogger

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

COMPACT_TIMEOUT_S: Final = 5.0
RECOVERY_TIMEOUT_S: Final = 120.0
"""For a compaction that is answered when all has been removed, and for a defragmentation."""


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
        self._recovered = 0  # the revision as of which all was done that makes room
        self._compacted_s = time.monotonic()
        self._recover_due_s = 0.0
        self._recovery_s = FIRST_RECOVERY_S
        self._failing = False
        self._stopping = steps.stopping
        self._runner = Thread(target=self._run, name="kvs-space", daemon=True)

    def start(self) -> None:
        self._runner.start()

    def stop(self) -> None:
        """Have the thread end: soon, or when its client is closed, if it waits for a member."""
        self._stopping.set()
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
        revision = self._checkpoints.forgettable
        due = hurries or now_s - self._compacted_s >= COMPACTION_S
        if due and revision > self._compacted and self._revision():
            self._compact(revision)

    def _run(self) -> None:
        written = self._checkpoints.written
        while not self._ends:
            written.wait(LOOK_S)
            written.clear()
            try:
                self.look()
                self._failing = False
            except EtcdError as error:
                if not (self._failing or self._ends):
                    self._failing = True
                    self._log.warning("etcd_unavailable", reason=f"{type(error).__name__}: {error}")

    @property
    def _ends(self) -> bool:
        return self._stopping.is_set() or bool(self._lead.lost)

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

    def _revision(self) -> int:
        """Return the revision of etcd, at which this server leads; or 0: a successor may need the history."""
        found = self._client.range(self._leader)
        if not found.kvs or found.kvs[0].create_revision != self._lead.term:
            self._lead.lose(TAKEN)
            return 0
        return found.header.revision

    def _compact(self, revision: int, *, physical: bool = False) -> None:
        """Have etcd forget what was before a revision; a physical compaction is answered when that is removed."""
        timeout_s = RECOVERY_TIMEOUT_S if physical else COMPACT_TIMEOUT_S
        with suppress(CompactedError):  # by a call whose answer was lost, or by another user
            self._client.compact(revision, physical=physical, timeout_s=timeout_s)
        self._compacted, self._compacted_s = revision, time.monotonic()

    def _recover(self) -> None:
        """Make room in an etcd that refuses every put, and end the alarm.

        While there is an alarm, no checkpoint can be written; so all history is forgotten. Members are defragmented one
        after the other, as each answers nothing meanwhile; what is in use of their files they do not tell before. What
        fails, or is not answered in time, is done again.
        """
        client, revision = self._client, self._revision()
        if revision > self._recovered:
            self._recover_due_s = time.monotonic() + self._recovery_s
            self._recovery_s = min(2 * self._recovery_s, LONGEST_RECOVERY_S)
            self._compact(revision, physical=True)
            done = [
                self._defragment(endpoint, status)
                for endpoint, status in self._statuses()
                if status.db_size_bytes >= FULL_SHARE * self._quota_bytes and not self._lead.lost
            ]
            if all(done):
                self._recovered = revision
            self._usage = self._measure()
        if self._usage.size < USABLE_SHARE * self._quota_bytes:
            for alarm in client.alarms():
                if alarm.kind == NOSPACE:
                    client.disarm(alarm)
            self._usage = self._measure()
            self._judge()

    def _defragment(self, endpoint: Endpoint, status: Status) -> bool:
        """Have a member give back the space that it does not use; return whether it says that it has."""
        member = str(endpoint)
        try:
            self._client.defragment(endpoint, timeout_s=RECOVERY_TIMEOUT_S)
        except EtcdError as error:
            if not self._ends:
                self._log.warning("etcd_not_defragmented", member=member, reason=f"{type(error).__name__}: {error}")
            return False
        self._log.info("etcd_defragmented", member=member, former_bytes=status.db_size_bytes)
        return True
