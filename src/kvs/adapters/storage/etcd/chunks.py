"""What a checkpoint is made of: chunks of rows in the order of keys, and an index that lists them.

A chunk, once written, never changes. The next checkpoint writes those anew whose rows have changed, and lists the
others again.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.entry import digest_of
from kvs.adapters.storage.etcd.layout import Keys, LayoutError, Place
from kvs.adapters.storage.etcd.stored import StoredRow
from kvs.domain.values import Key

PIECES_PER_PAGE: Final = 16
"""Pieces read in one answer: each has up to a megabyte."""


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """A chunk, as the index lists it.

    Attributes:
        place: Where it is.
        first: Its first key.
        rows: Number of its rows.
        size: Its bytes.
    """

    place: Place
    first: Key
    rows: int
    size: int


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_index: Final = msgspec.msgpack.Decoder(list[Chunk]).decode
_decode_rows: Final = msgspec.msgpack.Decoder(list[StoredRow]).decode


def encode_index(chunks: Sequence[Chunk]) -> bytes:
    return _encode(chunks)


def decode_index(data: bytes, where: str) -> list[Chunk]:
    """Return the chunks that an index lists.

    Raises:
        LayoutError: It is none.
    """
    try:
        return _decode_index(data)
    except msgspec.MsgspecError as error:
        raise LayoutError(f"{where}: is no list of chunks: {error}") from None


def encode_chunk(rows: Sequence[StoredRow]) -> bytes:
    return _encode(rows)


def decode_chunk(data: bytes, where: str) -> list[StoredRow]:
    """Return the rows of a chunk.

    Raises:
        LayoutError: They are damaged.
    """
    try:
        return _decode_rows(data)
    except msgspec.MsgspecError as error:
        raise LayoutError(f"{where}: is damaged: {error}") from None


def names_of(place: Place, keys: Keys) -> Iterator[bytes]:
    """Yield the keys that a place consists of."""
    for at in range(place.at, place.at + place.pieces):
        yield keys.chunk(place.number, place.term, at)


def read_place(client: EtcdClient, keys: Keys, place: Place, revision: int = 0) -> bytes:
    """Return what is at a place.

    Raises:
        LayoutError: Something of it is missing, or it is not what was written.
        EtcdError: etcd does not answer.
    """
    first = where = keys.chunk(place.number, place.term, place.at)
    end = keys.chunk(place.number, place.term, place.at + place.pieces)
    pieces: list[bytes] = []
    while len(pieces) < place.pieces:
        page = client.range(first, end, limit=PIECES_PER_PAGE, revision=revision).kvs
        if not page:
            break
        pieces += [piece.value for piece in page]
        first = page[-1].key + b"\0"
    if len(pieces) != place.pieces:
        raise LayoutError(f"{where.decode()}: has {place.pieces} pieces, and there are {len(pieces)}")
    data = b"".join(pieces)
    if digest_of(data) != place.digest:
        raise LayoutError(f"{where.decode()}: is damaged: its digest is not that which the checkpoint names")
    return data
