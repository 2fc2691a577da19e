"""The journal in etcd: one entry for each batch, fenced, one after the other."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, final

from kvs.adapters.storage.etcd.backlog import Backlog
from kvs.adapters.storage.etcd.client.errors import (
    ClusterChangedError,
    EtcdError,
    InvalidRequestError,
    NoSpaceError,
    RequestTooLargeError,
)
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import absent, get, put, value_is
from kvs.adapters.storage.etcd.entry import digest_of, encode_entry
from kvs.adapters.storage.etcd.layout import EMPTY, Head, Keys, encoded
from kvs.adapters.storage.etcd.lead import Keeper, Lead
from kvs.adapters.storage.etcd.rows import EtcdBatch
from kvs.adapters.storage.journal_writer import Batch, Journal
from kvs.override import override

FIRST_PAUSE_S: Final = 0.01
LONGEST_PAUSE_S: Final = 0.25


class JournalFailedError(Exception):
    """Raised when a batch cannot be made durable; the message says why."""


@final
class EtcdJournal(Journal):
    """Appends entries as long as the lead lasts.

    A batch whose outcome is unknown is sent again, the same bytes, until it is found applied or the lead is lost: that
    it is not there proves nothing while the first request may still be on its way.

    Args:
        client: Calls etcd.
        keys: The names of keys.
        lead: The fence.
        keeper: Keeps the lead.
        head: The last entry.
        backlog: Receives what is durable, for the next checkpoint; if there is too much of it, batches wait.
        commit_timeout_s: How long one batch, or each part of a large one, is tried, but while etcd is full: then until
            it has room.
        reads: ``lease``: reads are answered while the right to read lasts; ``quorum``: each tick asks etcd.

    Attributes:
        head: The last entry.
        figures: What returns further figures for people.
    """

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        lead: Lead,
        keeper: Keeper,
        head: Head,
        backlog: Backlog,
        commit_timeout_s: float,
        reads: str,
    ) -> None:
        self.head = head
        self.figures: Sequence[Callable[[], Mapping[str, int]]] = ()
        self._client = client
        self._keys = keys
        self._lead = lead
        self._keeper = keeper
        self._backlog = backlog
        self._commit_timeout_s = commit_timeout_s
        self._give_up_s = math.inf
        self._asks_always = reads == "quorum"

    @override
    def begin(self) -> EtcdBatch:
        return EtcdBatch()

    @override
    def needs_confirmation(self) -> bool:
        return self._asks_always or not self._lead.may_read

    @override
    def append(self, batch: Batch) -> None:
        assert isinstance(batch, EtcdBatch)  # noqa: S101  # for mypy: it is what begin() has returned
        if not (batch.written or batch.clears):
            self._repeat([self._follows()], [], None)
            return
        self._backlog.wait_for_room(self._check_wait)
        keys, head = self._keys, self.head
        entry, parts = encode_entry(batch, head, self._lead.term, self._lead.formats.writes)
        for at, part in enumerate(parts):
            self._repeat([], [put(keys.part(head.number + 1, self._lead.term, at), part)], None)
        new = Head(head.number + 1, digest_of(entry))
        name = keys.entry(new.number)
        self._repeat([self._follows(), absent(name)], [put(name, entry), put(keys.head, encoded(new))], new)
        self.head = new
        size = len(entry) + sum(map(len, parts))
        self._backlog.add(batch.written, new, batch.horizon_ms, size, clears=batch.clears)

    @override
    def check(self) -> None:
        self._keeper.loop_turns()
        self._lead.check()

    @override
    def retire(self) -> None:
        self._keeper.begin_release()

    @override
    def stats(self) -> Mapping[str, int]:
        found = {"term": self._lead.term, "journal_entries": self.head.number}
        for figures in self.figures:
            found.update(figures())
        return found

    def end_soon(self) -> None:
        """From now on, also wait for room no longer than for any commit: the server is to end. By any thread."""
        self._give_up_s = time.monotonic() + self._commit_timeout_s

    def _follows(self) -> bytes:
        """Compare: the last entry is the last that this server knows."""
        keys, head = self._keys, self.head
        return absent(keys.head) if head == EMPTY else value_is(keys.head, encoded(head))

    def _check_wait(self) -> None:
        if time.monotonic() > self._give_up_s:
            self._lead.lose("the server ends, and there is no room for its last commits")
        if self._backlog.trouble:
            self._lead.lose(f"the journal is full, and no checkpoint can be written: {self._backlog.trouble}")
        self._lead.check()

    def _repeat(self, compares: list[bytes], then: list[tuple[bytes, ...]], new: Head | None) -> None:
        """Run a fenced transaction until it is known to have been applied.

        Args:
            compares: What must hold besides the fence.
            then: What is done.
            new: The head that it makes; None: it may be applied again.

        Raises:
            LeadLostError: The lead is lost; it may have been applied.
            JournalFailedError: It cannot be applied, or not in time.
        """
        keys, lead = self._keys, self._lead
        deadline_s = time.monotonic() + self._commit_timeout_s
        pause_s, patience_s = FIRST_PAUSE_S, lead.lease_s
        look = [get(keys.leader), get(keys.head)]  # linearizable, and so is a transaction that writes nothing, by these
        while True:
            sent = lead.sending()
            left_s = deadline_s - time.monotonic()
            try:
                result = self._client.txn(
                    [*lead.fence, *compares], then, look, min(patience_s, max(left_s, FIRST_PAUSE_S)), urgent=True
                )
            except (RequestTooLargeError, InvalidRequestError) as error:
                lead.lose(str(error))
                raise JournalFailedError(f"etcd: does not take an entry: {error}") from error
            except ClusterChangedError as error:
                lead.lose(str(error))
                raise JournalFailedError(f"etcd: {error}") from error
            except EtcdError as error:
                if isinstance(error, NoSpaceError):
                    deadline_s = min(time.monotonic() + self._commit_timeout_s, self._give_up_s)
                    left_s = deadline_s - time.monotonic()
                if lead.lost or left_s <= 0:
                    lead.lose(f"a commit was not confirmed in time: {type(error).__name__}: {error}")
                    lead.check()
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                patience_s *= 2  # a proposal that its leader has taken along is lost, and one that is large takes time
                continue
            revision = lead.judge(result, b"" if new is None else encoded(new))
            if new is not None:
                lead.head_revision = max(lead.head_revision, revision)
            # What an earlier sending has written, a successor may know since then: so this one gives no right.
            lead.answered(sent, result, wrote=result.succeeded and new is not None)
            lead.check()  # also if it was applied: nobody may be told by one who has given up
            return
