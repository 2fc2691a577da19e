"""Entries of the journal: a batch each, chained by their digests.

An entry is MessagePack: its header and its rows, or, of one too large for a request, the number of its parts, which
together have the rows. A row is a key and a value, null if the key is deleted; a value that is more than bytes is an
array of payload, kind and deadline.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from kvs.adapters.storage.etcd.formats import refusal_of
from kvs.adapters.storage.etcd.layout import MAX_VALUE_BYTES, Head, LayoutError
from kvs.adapters.storage.etcd.rows import EtcdBatch, rows_of, stored_of
from kvs.adapters.storage.etcd.stored import StoredRow
from kvs.adapters.storage.journal_writer import Row
from kvs.domain.codec import DamagedValueError
from kvs.domain.values import Key

DIGEST_BYTES: Final = 16


class Header(msgspec.Struct, frozen=True, array_like=True):
    """The head of an entry.

    Attributes:
        format: Of the entry.
        number: Its number; the first is 1.
        term: Of the leader that wrote it.
        before: Digest of the entry before.
        horizon_ms: The server's time.
        clears: Whether everything before it is deleted.
        parts: Number of parts that have its rows; 0: it has them itself.
        rows: The rows, encoded; empty if they are in parts.
    """

    format: int
    number: int
    term: int
    before: str
    horizon_ms: int
    clears: bool
    parts: int
    rows: bytes


_encode: Final = msgspec.msgpack.Encoder().encode
_encode_rows: Final = msgspec.msgpack.Encoder(enc_hook=stored_of).encode  # bytes need no look
_decode_header: Final = msgspec.msgpack.Decoder(Header).decode
_decode_rows: Final = msgspec.msgpack.Decoder(list[StoredRow]).decode
_decode_plain_rows: Final = msgspec.msgpack.Decoder(list[tuple[Key, bytes | None]]).decode


def digest_of(entry: bytes) -> str:
    """Return the digest of an entry, by which the next one and the head refer to it."""
    return blake2b(entry, digest_size=DIGEST_BYTES).hexdigest()


def encode_rows(rows: Sequence[Row]) -> bytes:
    """Return rows as an entry has them."""
    return _encode_rows(rows)


def decode_rows(data: bytes, where: str) -> list[Row]:
    """Return the rows of an entry or a chunk.

    Raises:
        LayoutError: They are damaged.
    """
    try:
        rows: list[Row] = [*_decode_plain_rows(data)]  # as nearly always
    except msgspec.ValidationError:
        pass
    except msgspec.MsgspecError as error:
        raise LayoutError(f"{where}: is damaged: {error}") from None
    else:
        return rows
    try:
        return rows_of(_decode_rows(data))
    except (msgspec.MsgspecError, DamagedValueError) as error:
        raise LayoutError(f"{where}: is damaged: {error}") from None


def encode_entry(batch: EtcdBatch, head: Head, term: int, in_format: int) -> tuple[bytes, list[bytes]]:
    """Return the entry of a batch that follows a head, and its parts, if it is too large."""
    rows = encode_rows(batch.written)
    parts: list[bytes] = []
    if len(rows) > MAX_VALUE_BYTES:
        parts = [rows[at : at + MAX_VALUE_BYTES] for at in range(0, len(rows), MAX_VALUE_BYTES)]
        rows = b""
    header = Header(in_format, head.number + 1, term, head.digest, batch.horizon_ms, batch.clears, len(parts), rows)
    return _encode(header), parts


def decode_entry(entry: bytes, head: Head, where: str) -> Header:
    """Return the header of the entry that follows a head.

    Raises:
        LayoutError: It is damaged, of another version, or does not follow.
    """
    try:
        header = _decode_header(entry)
    except msgspec.MsgspecError as error:
        raise LayoutError(f"{where}: is damaged: {error}") from None
    if refusal := refusal_of(header.format):
        raise LayoutError(f"{where}: {refusal}")
    if (header.number, header.before) != (head.number + 1, head.digest):
        raise LayoutError(f"{where}: does not follow entry {head.number}")
    return header
