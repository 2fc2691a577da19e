"""Reading the data of a namespace: the checkpoint, then the journal behind it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, final

from kvs.adapters.storage.etcd.backlog import Backlog
from kvs.adapters.storage.etcd.chunks import Chunk, decode_index, read_place
from kvs.adapters.storage.etcd.client.answers import KeyValue
from kvs.adapters.storage.etcd.client.errors import CompactedError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.entry import decode_entry, decode_rows, digest_of
from kvs.adapters.storage.etcd.formats import refusal_of
from kvs.adapters.storage.etcd.layout import EMPTY, Checkpoint, Head, Keys, LayoutError, decoded

if TYPE_CHECKING:
    from kvs.domain.values import Key, Value

KEYS_PER_PAGE: Final = 16
"""Keys read in one answer: each has up to a megabyte."""

MAX_READINGS: Final = 5


@final
class Recovery:
    """The data as of the head of a namespace.

    Attributes:
        data: What is stored.
        head: The last entry.
        horizon_ms: The server's time as of the last entry.
        pointer: The key ``checkpoint``, if there is one.
        chunks: The chunks of the checkpoint.

    Raises:
        LayoutError: Something is missing, damaged, or of another version.
        EtcdError: etcd does not answer.
    """

    def __init__(self, client: EtcdClient, keys: Keys) -> None:
        self.data: dict[Key, Value] = {}
        self.head = EMPTY
        self.horizon_ms = 0
        self.pointer: KeyValue | None = None
        self.chunks: list[Chunk] = []
        self._changed: set[Key] = set()  # by entries behind the checkpoint
        self._cleared = False  # by one of these
        self._size = 0  # of these
        self._client = client
        self._keys = keys

    def read(self) -> None:
        """Read everything, as of one revision: a newer one, if another user of etcd has the history forgotten."""
        for _ in range(MAX_READINGS - 1):
            try:
                self._read()
            except CompactedError:
                self._forget()
            else:
                return
        self._read()

    def _forget(self) -> None:
        self.data.clear()
        self.head = EMPTY
        self.horizon_ms = 0
        self.pointer = None
        self.chunks = []
        self._changed.clear()
        self._cleared = False
        self._size = 0

    def _read(self) -> None:
        client, keys = self._client, self._keys
        found = client.range(keys.head)
        revision = found.header.revision
        end = decoded(keys.head, found.kvs[0].value, Head) if found.kvs else EMPTY
        pointer = client.range(keys.checkpoint, revision=revision).kvs
        if pointer:
            self.pointer = pointer[0]
            self._read_checkpoint(decoded(keys.checkpoint, pointer[0].value, Checkpoint), revision)
        first = keys.entry(self.head.number + 1)
        for entry in self._pages(first, keys.end(keys.entries), revision):
            self._apply(entry, revision)
        if self.head != end:
            raise LayoutError(
                f"{keys.prefix.decode()}: the journal ends with entry {self.head.number}, and its head is {end.number}"
            )

    def backlog(self, max_bytes: int) -> Backlog:
        """Return what no checkpoint has yet."""
        backlog = Backlog(self.head, self.horizon_ms, max_bytes)
        start = 0 if self.pointer is None else decoded(self._keys.checkpoint, self.pointer.value, Checkpoint).number
        if self.head.number > start:
            rows = ((key, self.data.get(key)) for key in self._changed)
            entries = self.head.number - start
            backlog.add(rows, self.head, self.horizon_ms, self._size, clears=self._cleared, entries=entries)
        return backlog

    def _read_checkpoint(self, checkpoint: Checkpoint, revision: int) -> None:
        client, keys, where = self._client, self._keys, self._keys.checkpoint.decode()
        if refusal := refusal_of(checkpoint.format):
            raise LayoutError(f"{where}: {refusal}")
        self.chunks = decode_index(read_place(client, keys, checkpoint.index, revision), where)
        last = None
        for chunk in self.chunks:
            rows = decode_rows(read_place(client, keys, chunk.place, revision), where)
            if len(rows) != chunk.rows or not rows or rows[0][0] != chunk.first:
                raise LayoutError(f"{where}: lists a chunk of {chunk.rows} keys that has {len(rows)}, or other ones")
            if last is not None and chunk.first <= last:
                raise LayoutError(f"{where}: lists chunks that are not in order")
            for key, value in rows:
                if value is None:
                    raise LayoutError(f"{where}: lists a chunk that has a key without a value")
                self.data[key] = value
            last = rows[-1][0]
        if len(self.chunks) != checkpoint.chunks or len(self.data) != checkpoint.keys:
            said = f"{checkpoint.chunks} chunks with {checkpoint.keys} keys"
            raise LayoutError(f"{where}: says {said}, and there are {len(self.chunks)} with {len(self.data)}")
        self.head = Head(checkpoint.number, checkpoint.digest)
        self.horizon_ms = checkpoint.horizon_ms

    def _apply(self, found: KeyValue, revision: int) -> None:
        keys, where = self._keys, found.key.decode()
        header = decode_entry(found.value, self.head, where)
        if found.key != keys.entry(header.number):
            raise LayoutError(f"{where}: has entry {header.number}")
        rows = header.rows
        if header.parts:
            first = keys.part(header.number, header.term, 0)
            last = keys.part(header.number, header.term, header.parts)
            parts = [part.value for part in self._pages(first, last, revision)]
            if len(parts) != header.parts:
                raise LayoutError(f"{where}: has {header.parts} parts, and there are {len(parts)}")
            rows = b"".join(parts)
        if header.clears:
            self.data.clear()
            self._changed.clear()
            self._cleared = True
        for key, value in decode_rows(rows, where):
            self._changed.add(key)
            if value is None:
                self.data.pop(key, None)
            else:
                self.data[key] = value
        self._size += len(found.value) + (len(rows) if header.parts else 0)
        self.head = Head(header.number, digest_of(found.value))
        self.horizon_ms = max(self.horizon_ms, header.horizon_ms)

    def _pages(self, first: bytes, end: bytes, revision: int) -> Iterator[KeyValue]:
        """Yield the keys of a range."""
        more = True
        while more:
            page = self._client.range(first, end, limit=KEYS_PER_PAGE, revision=revision)
            yield from page.kvs
            more = page.more
            if page.kvs:
                first = page.kvs[-1].key + b"\0"
