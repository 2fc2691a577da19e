"""What a checkpoint is made of: chunks of rows in the order of keys, and an index that lists them.

A chunk, once written, never changes. The next checkpoint writes those anew whose rows have changed, and lists the
others again.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.entry import digest_of
from kvs.adapters.storage.etcd.layout import Keys, LayoutError, Place
from kvs.adapters.storage.etcd.stored import StoredRow
from kvs.domain.values import Key

PIECES_PER_PAGE: Final = 16
"""Pieces read in one answer: each has up to a megabyte."""

PIECES_TOGETHER: Final = 8
"""Pieces of several places that are read in one answer: nearly always a megabyte in all, which Python copies in 0.2 ms.
To read 128 KiB takes a round trip of a millisecond or more, as long as it takes to do something with them."""


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
    """Return what is at a place. The errors are those of :func:`read_places`."""
    (data,) = read_places(client, keys, [place], revision)
    return data


def read_places(client: EtcdClient, keys: Keys, places: Sequence[Place], revision: int = 0) -> Iterator[bytes]:
    """Yield what is at each of these places.

    Raises:
        LayoutError: Something of it is missing, or it is not what was written.
        EtcdError: etcd does not answer.
    """
    for group in _neighbours(places):
        first, end = next(names_of(group[0], keys)), _end_of(group[-1], keys)
        found: dict[bytes, bytes] = {}
        more = True
        while more:
            page = client.range(first, end, limit=PIECES_PER_PAGE, revision=revision)
            found.update((piece.key, piece.value) for piece in page.kvs)
            more = page.more and bool(page.kvs)
            if more:
                first = page.kvs[-1].key + b"\0"
        for place in group:
            yield _joined(place, keys, found)


def _end_of(place: Place, keys: Keys) -> bytes:
    return keys.chunk(place.number, place.term, place.at + place.pieces)


def _neighbours(places: Sequence[Place]) -> Iterator[list[Place]]:
    """Yield places in groups, each of which is one range of a few keys."""
    group: list[Place] = []
    pieces = 0
    for place in places:
        if group:
            last = group[-1]
            adjoins = (place.number, place.term, place.at) == (last.number, last.term, last.at + last.pieces)
            if not adjoins or pieces + place.pieces > PIECES_TOGETHER:
                yield group
                group, pieces = [], 0
        group.append(place)
        pieces += place.pieces
    if group:
        yield group


def _joined(place: Place, keys: Keys, found: Mapping[bytes, bytes]) -> bytes:
    names = list(names_of(place, keys))
    pieces = [found[name] for name in names if name in found]
    if len(pieces) != place.pieces:
        raise LayoutError(f"{names[0].decode()}: has {place.pieces} pieces, and there are {len(pieces)}")
    data = b"".join(pieces)
    if digest_of(data) != place.digest:
        raise LayoutError(f"{names[0].decode()}: is damaged: its digest is not that which the checkpoint names")
    return data
