"""The part of the key space that is reserved, and how clients' keys avoid it.

Stored keys from FF up to but excluding FF FF are for the server itself. A client's key that begins with FF, which is in
no UTF-8, is stored with another FF before it, which keeps the order of keys. Sessions do this; what is outside of them
sees clients' keys, and engines see stored ones.
"""

from collections.abc import Iterable
from typing import Final

from kvs.domain.commit import Conflict, KeyRange, ReadSet
from kvs.domain.values import Key, Value

RESERVED_BYTE: Final = 0xFF
RESERVED: Final = b"\xff"
ESCAPED: Final = b"\xff\xff"


def stored_key(key: Key) -> Key:
    """Return the form in which a client's key, or a prefix of one, is stored."""
    return RESERVED + key if len(key) > 0 and key[0] == RESERVED_BYTE else key


def stored_keys(keys: list[Key]) -> list[Key]:
    """Return the forms in which clients' keys are stored."""
    for key in keys:
        if key[0] == RESERVED_BYTE:
            return [stored_key(each) for each in keys]
    return keys


def stored_entries(entries: dict[Key, Value]) -> dict[Key, Value]:
    """Return entries with their keys as they are stored."""
    for key in entries:
        if key[0] == RESERVED_BYTE:
            return {stored_key(each): value for each, value in entries.items()}
    return entries


def with_whole_ranges(conflict: Conflict, reads: Iterable[ReadSet]) -> Conflict:
    """Return a conflict with ranges as they were read: across the reserved part, where :func:`without_reserved` cuts.

    Args:
        conflict: What has changed, by stored keys.
        reads: What the transaction has read.
    """
    if not conflict.ranges:
        return conflict
    read = [each for each_set in reads for each in each_set.ranges]
    below = [low for low, high in read if high == RESERVED]
    above = [high for low, high in read if low == ESCAPED]
    if not below or not above:
        return conflict
    whole = KeyRange(below[0], above[0])
    ranges = dict.fromkeys(whole if each.high == RESERVED or each.low == ESCAPED else each for each in conflict.ranges)
    return Conflict(conflict.keys, tuple(ranges))


def clients_conflict(conflict: Conflict) -> Conflict:
    """Return a conflict with clients' keys."""
    ranges = [KeyRange(clients_key(low), None if high is None else clients_key(high)) for low, high in conflict.ranges]
    return Conflict(tuple([clients_key(key) for key in conflict.keys]), tuple(ranges))


def clients_key(key: Key) -> Key:
    """Return the client's key that is stored in this form; or the same for the bound of a range."""
    return key[1:] if key.startswith(ESCAPED) else key


def clients_keys(keys: list[Key]) -> list[Key]:
    """Return the clients' keys that are stored in these forms, in order."""
    return [clients_key(key) for key in keys] if keys and keys[-1] >= ESCAPED else keys


def without_reserved(keys: KeyRange) -> list[KeyRange]:
    """Return a range of stored keys without the reserved part."""
    low, high = keys
    if low >= ESCAPED or (high is not None and high <= RESERVED):
        return [keys]
    return [KeyRange(low, RESERVED), KeyRange(ESCAPED, high)]
