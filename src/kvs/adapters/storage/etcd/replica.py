"""The data of a namespace in the memory of a server that does not lead: the checkpoint, then the journal behind it.

It is brought up to date by *passes*. A pass looks where the journal ends, and reads up to there, all as of one
revision. Nothing is applied but entries of the journal, each behind the one before by its digest, so what is here is
never ahead of what is stored. Whatever does not fit (a gap, as the journal was cut meanwhile; an end before what is
here; another digest) has everything thrown away, and read again from the checkpoint, in the same pass.

If the newest checkpoint is damaged, the one before is read, and the journal behind that, which is kept for it.

A pass is done in steps, none of which takes long but for waiting for etcd.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from operator import lt
from typing import Final, final

from kvs.adapters.storage.etcd.backlog import Backlog
from kvs.adapters.storage.etcd.chunks import Chunk, decode_index, read_place, read_places
from kvs.adapters.storage.etcd.client.answers import KeyValue
from kvs.adapters.storage.etcd.client.errors import CompactedError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import get
from kvs.adapters.storage.etcd.entry import decode_entry, decode_rows, digest_of
from kvs.adapters.storage.etcd.formats import refusal_of
from kvs.adapters.storage.etcd.layout import EMPTY, Checkpoint, Former, Head, Keys, LayoutError, Place, decoded
from kvs.adapters.storage.etcd.unwritten import Unwritten
from kvs.adapters.storage.journal_writer import Row
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.log_type import FilteringBoundLogger

KEYS_PER_PAGE: Final = 16
"""Keys read in one answer: each has up to a megabyte."""

MAX_READINGS: Final = 5

STEP_ROWS: Final = 500
"""Rows applied in a step: less than a millisecond."""


@final
class Replica:
    """The data; see the module docstring. One thread at a time calls it.

    Args:
        client: Calls etcd.
        keys: The names of keys.
        memory: An unused engine, which gets the data; it serves nobody yet.
        log: For what is thrown away.
        complain: Called with the name of a damaged checkpoint's index; empty: no damage of the newest one is known.

    Attributes:
        memory: The data as of ``head``, between passes.
        head: The last entry applied.
        horizon_ms: The server's time as of that entry.
        revision: Of etcd, as of which the last pass has read everything; 0: there was none.
    """

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        memory: MemoryStorage,
        log: FilteringBoundLogger,
        complain: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.memory: Final = memory
        self.head = EMPTY
        self.horizon_ms = 0
        self.revision = 0
        self._client = client
        self._keys = keys
        self._log = log
        self._complain = complain
        self._pointer: KeyValue | None = None  # the newest checkpoint
        self._index: Place | None = None  # of the checkpoint behind which everything is in ``_unwritten``
        self._unwritten = Unwritten(0)
        self._whole = False  # memory is as of head
        self._pass: Iterator[None] | None = None  # the one under way

    def advance(self) -> bool:
        """Do a step of a pass, the first one if none is under way; return whether there are more.

        Raises:
            LayoutError: What is stored is incomplete, damaged, or of another version.
            CompactedError: etcd has forgotten the revision, as another user has had it do: the next pass reads on.
            EtcdError: etcd does not answer.
        """
        if self._pass is None:
            self._pass = self._steps()
        try:
            next(self._pass)
        except StopIteration:
            self._pass = None
        except BaseException:
            self._pass = None
            raise
        return self._pass is not None

    def catch_up(self, revision: int, check: Callable[[], None]) -> None:
        """Make passes until everything is here as of a revision, or of a later one. The errors are those of a step.

        Args:
            revision: Of etcd.
            check: Called between steps; raises to give up.
        """
        readings = 0
        while self.revision < revision:
            check()
            try:
                self.advance()
            except CompactedError:
                readings += 1
                if readings == MAX_READINGS:
                    raise

    def checkpoint(self) -> tuple[KeyValue | None, list[Chunk]]:
        """Return the key ``checkpoint``, if there is one, and the chunks behind which the backlog begins.

        The server has the lead, so that there will be no newer one, and a pass has been made since.
        """
        try:
            return self._pointer, self._chunks(0)
        except LayoutError as error:  # of the index: the checkpoint before may have a sound one
            self._discard(str(error))
            deque(self._steps(), maxlen=0)
            return self._pointer, self._chunks(0)

    def backlog(self, max_bytes: int) -> Backlog:
        """Return what no checkpoint has yet."""
        backlog, unwritten = Backlog(self.head, self.horizon_ms, max_bytes), self._unwritten
        entries = self.head.number - unwritten.start
        if entries:
            backlog.begin(unwritten.changes, entries, unwritten.size, clears=unwritten.cleared > 0)
        return backlog

    def _steps(self) -> Iterator[None]:
        """Make a pass."""
        keys = self._keys
        found = self._client.txn([], [get(keys.head), get(keys.checkpoint)])  # linearizable
        revision = found.header.revision
        head, pointer = (one.kvs[0] if one is not None and one.kvs else None for one in found.ranges)
        end = EMPTY if head is None else decoded(keys.head, head.value, Head)
        if not self._whole:
            yield from self._load(pointer, revision)
            yield from self._follow(end, revision)
        else:
            try:
                if pointer is not None and pointer != self._pointer:
                    self._pointer = pointer
                    checkpoint = decoded(keys.checkpoint, pointer.value, Checkpoint)
                    self._unwritten.cut(checkpoint.number)
                    self._index = checkpoint.index
                    self._complain("")
                yield from self._follow(end, revision)
            except LayoutError as error:
                self._discard(str(error))
                yield from self._load(pointer, revision)
                yield from self._follow(end, revision)
        self.revision = revision

    def _discard(self, reason: str) -> None:
        self._whole = False
        self._log.warning("replica_discarded", reason=reason)

    def _load(self, pointer: KeyValue | None, revision: int) -> Iterator[None]:
        """Read a checkpoint, in place of what there is."""
        self._pointer, self._index = pointer, None
        checkpoint = None if pointer is None else decoded(self._keys.checkpoint, pointer.value, Checkpoint)
        if checkpoint is None:
            yield from self._empty()
        else:
            if refusal := refusal_of(checkpoint.format):
                raise LayoutError(f"{self._keys.checkpoint.decode()}: {refusal}")
            try:
                yield from self._load_chunks(checkpoint, revision)
                self._check_size(checkpoint)
                self._complain("")
            except LayoutError as error:
                self._complain(checkpoint.index.name)
                former = checkpoint.former
                if former is None or not former.digest:
                    raise
                self._report_damage(checkpoint.number, former.number, error)
                yield from self._load_chunks(former, revision)
        self._whole = True

    def _report_damage(self, entry: int, former: int, error: LayoutError) -> None:
        self._log.warning("checkpoint_damaged", entry=entry, former=former, reason=str(error))

    def _empty(self) -> Iterator[None]:
        """Forget what there is."""
        self._whole = False
        self.memory.clear()
        while self.memory.has_work:
            self.memory.sync()
            yield
        self.head, self.horizon_ms = EMPTY, 0
        self._unwritten = Unwritten(0)

    def _load_chunks(self, checkpoint: Checkpoint | Former, revision: int) -> Iterator[None]:
        yield from self._empty()
        where = self._keys.checkpoint.decode()
        self.memory.begin(checkpoint.horizon_ms)
        self._index = checkpoint.index
        chunks = self._chunks(revision)
        last = b""
        places = [chunk.place for chunk in chunks]
        for chunk, data in zip(chunks, read_places(self._client, self._keys, places, revision), strict=True):
            rows = decode_rows(data, where)
            if len(rows) != chunk.rows or not rows or rows[0][0] != chunk.first:
                raise LayoutError(f"{where}: lists a chunk of {chunk.rows} keys that has {len(rows)}, or other ones")
            yield
            for part in _parts(rows):
                names = [last, *(key for key, _ in part)]
                if not all(map(lt, names, names[1:])):
                    raise LayoutError(f"{where}: lists chunks that are not in order")
                self.memory.load([(key, value) for key, value in part if value is not None])
                last = names[-1]
                yield
        self.head, self.horizon_ms = Head(checkpoint.number, checkpoint.digest), checkpoint.horizon_ms
        self._unwritten = Unwritten(checkpoint.number)

    def _check_size(self, checkpoint: Checkpoint) -> None:
        found = self.memory.count(b"")
        if found != checkpoint.keys:
            where = self._keys.checkpoint.decode()
            raise LayoutError(f"{where}: says {checkpoint.keys} keys, and there are {found}")

    def _chunks(self, revision: int) -> list[Chunk]:
        if self._index is None:
            return []
        where = self._keys.checkpoint.decode()
        return decode_index(read_place(self._client, self._keys, self._index, revision), where)

    def _follow(self, end: Head, revision: int) -> Iterator[None]:
        """Apply the entries that follow, up to the end."""
        keys = self._keys
        if end.number > self.head.number:
            for found in self._pages(keys.entry(self.head.number + 1), keys.entry(end.number + 1), revision):
                yield from self._apply(found, revision)
        if self.head != end:
            raise LayoutError(
                f"{keys.prefix.decode()}: the journal ends with entry {self.head.number}, and its head is {end.number}"
            )

    def _apply(self, found: KeyValue, revision: int) -> Iterator[None]:
        keys, where, unwritten = self._keys, found.key.decode(), self._unwritten
        header = decode_entry(found.value, self.head, where)
        number, data, size = header.number, header.rows, len(found.value)
        if found.key != keys.entry(number):
            raise LayoutError(f"{where}: has entry {number}")
        if header.parts:
            first, last = (keys.part(number, header.term, at) for at in (0, header.parts))
            parts = [part.value for part in self._pages(first, last, revision)]
            if len(parts) != header.parts:
                raise LayoutError(f"{where}: has {header.parts} parts, and there are {len(parts)}")
            data = b"".join(parts)
            size += len(data)
        rows = decode_rows(data, where)
        yield
        self._whole = False
        if header.clears:
            self.memory.clear()
            unwritten.clear(number)
        if header.clears or self.head == EMPTY:
            self.memory.begin(header.horizon_ms)
        for part in _parts(rows):
            self.memory.apply(part)
            unwritten.add(number, part)
            yield
        unwritten.add(number, (), size)
        self.head = Head(number, digest_of(found.value))
        self.horizon_ms = max(self.horizon_ms, header.horizon_ms)
        self._whole = True
        while self.memory.has_work:
            self.memory.sync()
            yield

    def _pages(self, first: bytes, end: bytes, revision: int) -> Iterator[KeyValue]:
        """Yield the keys of a range."""
        more = True
        while more:
            page = self._client.range(first, end, limit=KEYS_PER_PAGE, revision=revision)
            yield from page.kvs
            more = page.more
            if page.kvs:
                first = page.kvs[-1].key + b"\0"


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    return (rows[at : at + STEP_ROWS] for at in range(0, len(rows), STEP_ROWS))
