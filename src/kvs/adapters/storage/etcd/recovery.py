"""Reading the data of a namespace: the checkpoint, then the journal behind it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, final

from kvs.adapters.storage.etcd.client.answers import KeyValue
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.entry import decode_entry, decode_rows, digest_of
from kvs.adapters.storage.etcd.layout import EMPTY, Checkpoint, Head, Keys, LayoutError, decoded

if TYPE_CHECKING:
    from kvs.domain.values import Key, Value

KEYS_PER_PAGE: Final = 16
"""Keys read in one answer: each has up to a megabyte."""


@final
class Recovery:
    """The data as of the head of a namespace.

    Attributes:
        data: What is stored.
        head: The last entry.
        horizon_ms: The server's time as of the last entry.
        checkpoint: The checkpoint from which it began, if there is one.
        changed: The keys that entries behind the checkpoint have written.
        cleared: Whether one of these entries has deleted everything.

    Raises:
        LayoutError: Something is missing, damaged, or of another version.
        EtcdError: etcd does not answer.
    """

    def __init__(self, client: EtcdClient, keys: Keys) -> None:
        self.data: dict[Key, Value] = {}
        self.head = EMPTY
        self.horizon_ms = 0
        self.checkpoint: Checkpoint | None = None
        self.changed: set[Key] = set()
        self.cleared = False
        self._client = client
        self._keys = keys

    def read(self) -> None:
        """Read everything, as of one revision."""
        client, keys = self._client, self._keys
        found = client.range(keys.head)
        revision = found.header.revision
        end = decoded(keys.head, found.kvs[0].value, Head) if found.kvs else EMPTY
        pointer = client.range(keys.checkpoint, revision=revision).kvs
        if pointer:
            self.checkpoint = decoded(keys.checkpoint, pointer[0].value, Checkpoint)
            self._read_checkpoint(self.checkpoint, revision)
        first = keys.entry(self.head.number + 1)
        for entry in self._pages(first, keys.end(keys.entries), revision):
            self._apply(entry, revision)
        if self.head != end:
            raise LayoutError(
                f"{keys.prefix.decode()}: the journal ends with entry {self.head.number}, and its head is {end.number}"
            )

    def _read_checkpoint(self, checkpoint: Checkpoint, revision: int) -> None:
        keys, number, term = self._keys, checkpoint.number, checkpoint.term
        chunks = 0
        for chunk in self._pages(keys.chunk(number, term, 0), keys.chunk(number, term, 10**6), revision):
            where = chunk.key.decode()
            for key, value in decode_rows(chunk.value, where):
                if value is None:
                    raise LayoutError(f"{where}: has a key without a value")
                self.data[key] = value
            chunks += 1
        if chunks != checkpoint.chunks or len(self.data) != checkpoint.keys:
            said = f"{checkpoint.chunks} chunks with {checkpoint.keys} keys"
            there = f"{chunks} with {len(self.data)}"
            raise LayoutError(f"{keys.checkpoint.decode()}: says {said}, and there are {there}")
        self.head = Head(number, checkpoint.digest)
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
            self.changed.clear()
            self.cleared = True
        for key, value in decode_rows(rows, where):
            self.changed.add(key)
            if value is None:
                self.data.pop(key, None)
            else:
                self.data[key] = value
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
