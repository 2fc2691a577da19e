"""Writes checkpoints beside the load, and has the journal cut: a thread of the leader.

A checkpoint is of the data as of an entry that is durable. Its chunks are written first, then the pointer, fenced by
the term and by the pointer before. Two generations are kept, the newest and the one before; the journal is cut to the
older. A step whose outcome is unknown is repeated until it is known, so nothing that may still arrive contradicts what
is done next. What a leader leaves behind that was killed at any step is deleted at the first checkpoint of the next.

If the former checkpoint is damaged, as this thread finds out or another server says that reads it, all chunks are
written anew from memory, which is whole. They are a base like those of a former checkpoint: what is durable by then and
has changed since is merged with them. Until the new one is complete, everything stays that there was.
"""

import math
import time
from random import Random
from threading import Event, Thread
from typing import Final, final

from kvs.adapters.storage.etcd.backlog import Backlog, Span
from kvs.adapters.storage.etcd.chunks import Chunk, decode_chunk, encode_chunk, encode_index, names_of, read_place
from kvs.adapters.storage.etcd.client.answers import KeyValue
from kvs.adapters.storage.etcd.client.requests import absent, put, value_is
from kvs.adapters.storage.etcd.disposal import Disposal
from kvs.adapters.storage.etcd.entry import digest_of
from kvs.adapters.storage.etcd.layout import MAX_VALUE_BYTES, Checkpoint, Former, LayoutError, Place, decoded, encoded
from kvs.adapters.storage.etcd.merge import Gathered, merge
from kvs.adapters.storage.etcd.repair import Repair
from kvs.adapters.storage.etcd.rows import stored_of
from kvs.adapters.storage.etcd.steps import LONGEST_PAUSE_S, Steps, StoppedError
from kvs.adapters.storage.etcd.stored import StoredRow
from kvs.log_type import FilteringBoundLogger

LOOK_S: Final = 0.1

SMALLEST_SHARE: Final = 8
LARGEST_SHARE: Final = 2
"""A checkpoint begins when the journal behind the last one has half the size of its data, but has between an eighth and
half of ``max_journal_bytes``: so etcd gets about three times what clients write, or more if the journal is small."""

IDLE_S: Final = 30.0
"""After so long without a commit, a checkpoint is made of whatever there is."""

HURRIED_IDLE_S: Final = 1.0
"""The same, while etcd is full."""

HURRIED_CHECKPOINTS: Final = 3
"""So many are written without anything new while etcd is full: then neither the journal nor chunks nor history are left
of what has been deleted."""

CHECKPOINTS_PER_SWEEP: Final = 64

DAMAGED_PAUSE_S: Final = 30.0
"""Time between two repairs, at the least: who finds each checkpoint damaged may be damaged itself."""


@final
class Checkpoints:
    """The thread.

    Args:
        steps: Calls etcd.
        backlog: What no checkpoint has yet.
        pointer: The key ``checkpoint``, if there is one.
        chunks: Its chunks.
        max_bytes: Size of the journal at which commits wait.
        log: The log.
        idle_s: When a checkpoint is made of whatever there is.
        repair: For a former checkpoint that is damaged; None: without one it must be whole.

    Attributes:
        hurried: Set while etcd is full.
        written: Set when one has been written.
        forgettable: A revision before which nobody reads any more: that of the end of the last cut but one.
    """

    def __init__(
        self,
        steps: Steps,
        backlog: Backlog,
        pointer: KeyValue | None,
        chunks: list[Chunk],
        max_bytes: int,
        log: FilteringBoundLogger,
        idle_s: float = IDLE_S,
        repair: Repair | None = None,
    ) -> None:
        self.hurried = False
        self.written: Final = Event()
        self.forgettable = 0
        self._steps = steps
        self._backlog = backlog
        self._disposal = Disposal(steps, backlog.gathering.head.number)
        self._pointer = b"" if pointer is None else pointer.value
        self._latest = None if pointer is None else decoded(steps.keys.checkpoint, pointer.value, Checkpoint)
        self._chunks = chunks
        self._names: set[bytes] = set()
        if self._latest is not None:
            self._names = self._names_of(self._latest.index, chunks)
        self._former_names: set[bytes] | None = None  # of the one before; None: not known
        self._cut_revision = 0 if pointer is None else pointer.mod_revision
        self._max_bytes = max_bytes
        self._log = log
        self._idle_s = idle_s
        self._repair = repair
        self._damage = ""  # of the former one
        self._complained_s = -math.inf  # when others have said so last
        self._random = Random()  # noqa: S311  # not for secrets
        self._next_at = 0
        self._written_bytes = 0
        self._loose: list[bytes] = []  # what was written since, and no pointer refers to
        self._sweep_in = 0  # checkpoints
        self._without_news = 0  # checkpoints in a row that had nothing new
        self._written_s = time.monotonic()
        self._seen = (0, self._written_s)  # the last entry, and since when it is the last
        self._runner = Thread(target=self._run, name="kvs-checkpoint", daemon=True)

    def start(self) -> None:
        self._runner.start()

    def stop(self) -> None:
        """Stop after the current step, and wait for the thread to end."""
        self._steps.stopping.set()
        self._runner.join()

    @property
    def data_bytes(self) -> int:
        """Bytes of the newest checkpoint and of the journal behind it."""
        return self._backlog.size + (0 if self._latest is None else self._latest.size)

    def stats(self) -> dict[str, int]:
        """Return figures for people. By any thread."""
        return {
            "journal_bytes": self._backlog.size,
            "checkpoint_entry": 0 if self._latest is None else self._latest.number,
            "checkpoint_age_s": int(time.monotonic() - self._written_s),
        }

    def write(self) -> None:
        """Write a checkpoint of what is durable, and delete what is of no use any more.

        Raises:
            StoppedError: The server ends, or has lost the lead.
            LayoutError: The former checkpoint is damaged.
        """
        steps, disposal = self._steps, self._disposal
        steps.begin()
        started_s, self._written_bytes, self._loose = time.monotonic(), 0, []
        base = self._copy(self._repair) if self._damage and self._repair is not None else self._chunks
        span, former, names_before = self._backlog.take(), self._latest, self._names
        span.settle(steps.pace)
        self._without_news = 0 if span.entries else self._without_news + 1
        chunks = self._merge([] if span.cleared else base, span)
        index = self._put(span.head.number, encode_index(chunks))
        latest = self._point_to(span, chunks, index)
        if self._damage:
            self._damage, self._former_names = "", None  # so that what is left of the base is swept
        self._backlog.give_back(steps.pace)
        if former is not None:
            disposal.cut(former.number)
        if self._former_names is None or not self._sweep_in:
            disposal.sweep(self._names | names_before)
            self._sweep_in = CHECKPOINTS_PER_SWEEP
        else:
            disposal.delete(sorted(self._former_names - names_before - self._names))
        self._sweep_in -= 1
        self._former_names = names_before
        self.forgettable, self._cut_revision = self._cut_revision, steps.fenced([]).header.revision
        self.written.set()
        self._backlog.trouble = ""
        steps.succeed()
        self._log.info(
            "checkpoint_written",
            entry=latest.number,
            keys=latest.keys,
            bytes=latest.size,
            written_bytes=self._written_bytes,
            seconds=round(time.monotonic() - started_s, 3),
        )

    def _run(self) -> None:
        steps = self._steps
        while not steps.stopping.wait(LOOK_S) and not steps.lead.lost:
            if self._is_damaged() or self._is_due():
                try:
                    self.write()
                except StoppedError:
                    return
                except Exception as error:  # noqa: BLE001  # the data are safe in the journal
                    if not self._give_up(error):
                        return

    def _give_up(self, error: Exception) -> bool:
        """Leave nothing of a checkpoint that has failed, and make a pause; return whether to go on."""
        steps, pause_s = self._steps, LONGEST_PAUSE_S
        self._former_names = None
        if isinstance(error, LayoutError):
            if self._repair is not None and not self._damage:
                pause_s = 0.0
            else:
                self._backlog.trouble, pause_s = str(error), DAMAGED_PAUSE_S
            self._damage = str(error)
        steps.warn(error)
        try:
            self._disposal.delete(self._loose)
        except StoppedError:  # the next leader finds it
            return False
        return not steps.stopping.wait(pause_s)

    def _is_damaged(self) -> bool:
        """Return whether the newest checkpoint is known to be damaged, and can be repaired."""
        if self._repair is None or self._latest is None:
            return False
        if not self._damage:
            self._listen(self._repair, self._latest)
        return self._damage != ""

    def _listen(self, repair: Repair, latest: Checkpoint) -> None:
        """Look whether a server cannot read the newest checkpoint."""
        now_s = time.monotonic()
        complaint = repair.complaint(latest.index)
        if complaint and now_s - self._complained_s >= DAMAGED_PAUSE_S:
            self._damage, self._complained_s = complaint, now_s
            self._log.warning("checkpoint_damaged", entry=latest.number, reason=complaint)

    def _is_due(self) -> bool:
        gathering, now_s = self._backlog.gathering, time.monotonic()
        if self._seen[0] != gathering.head.number:
            self._seen = (gathering.head.number, now_s)
        idle_s = now_s - self._seen[1]
        if not self._backlog.size:
            return self.hurried and self._latest is not None and self._without_news < HURRIED_CHECKPOINTS
        data_size = 0 if self._latest is None else self._latest.size
        enough = min(max(data_size // 2, self._max_bytes // SMALLEST_SHARE), self._max_bytes // LARGEST_SHARE)
        return self._backlog.size >= enough or idle_s >= (HURRIED_IDLE_S if self.hurried else self._idle_s)

    def _merge(self, base: list[Chunk], span: Span) -> list[Chunk]:
        """Write what differs from a base, and return all chunks."""
        chunks: list[Chunk] = []
        for part in merge(base, span.changes, self._read, self._steps.pace, self._random):
            chunks.append(part if isinstance(part, Chunk) else self._write_chunk(span.head.number, part))
            self._steps.pace()
        return chunks

    def _copy(self, repair: Repair) -> list[Chunk]:
        """Write all that memory has, and return the chunks: a base for what is durable from then on."""
        chunks: list[Chunk] = []
        gathered, number = Gathered(), self._backlog.gathering.head.number
        for page in repair.pages():
            for key, value in page:
                if gathered.add(key, stored_of(value)):
                    chunks.append(self._write_chunk(number, gathered.split()))
            self._steps.pace()
        if gathered.rows:
            chunks.append(self._write_chunk(number, gathered.take()))
        return chunks

    def _write_chunk(self, number: int, rows: list[StoredRow]) -> Chunk:
        data = encode_chunk(rows)
        return Chunk(self._put(number, data), rows[0][0], len(rows), len(data))

    def _read(self, chunk: Chunk) -> list[StoredRow]:
        steps = self._steps
        data = steps.until_answered(lambda: read_place(steps.client, steps.keys, chunk.place))
        return decode_chunk(data, steps.keys.checkpoint.decode())

    def _put(self, number: int, data: bytes) -> Place:
        """Write something under a name that was never used."""
        steps = self._steps
        pieces = [data[at : at + MAX_VALUE_BYTES] for at in range(0, len(data), MAX_VALUE_BYTES)]
        place = Place(number, steps.lead.term, self._next_at, len(pieces), digest_of(data))
        self._next_at += len(pieces)
        self._loose += names_of(place, steps.keys)
        for name, piece in zip(names_of(place, steps.keys), pieces, strict=True):
            began_s = time.monotonic()
            steps.fenced([put(name, piece)])
            steps.yield_disk(time.monotonic() - began_s)
        self._written_bytes += len(data)
        return place

    def _point_to(self, span: Span, chunks: list[Chunk], index: Place) -> Checkpoint:
        """Make this the newest checkpoint."""
        keys, former = self._steps.keys, self._latest
        latest = Checkpoint(
            span.head.number,
            span.head.digest,
            span.horizon_ms,
            index,
            len(chunks),
            sum(chunk.rows for chunk in chunks),
            sum(chunk.size for chunk in chunks),
            self._steps.lead.formats.writes,
            former=None if former is None else Former(former.number, former.index, former.digest, former.horizon_ms),
        )
        pointer = encoded(latest)
        follows = value_is(keys.checkpoint, self._pointer) if self._pointer else absent(keys.checkpoint)
        self._loose = []  # from here on, the pointer may refer to it
        self._steps.fenced([put(keys.checkpoint, pointer)], follows, pointer)
        self._latest, self._pointer, self._chunks = latest, pointer, chunks
        self._names = self._names_of(index, chunks)
        self._written_s = time.monotonic()
        return latest

    def _names_of(self, index: Place, chunks: list[Chunk]) -> set[bytes]:
        places = [index, *(chunk.place for chunk in chunks)]
        return {name for place in places for name in names_of(place, self._steps.keys)}
