"""Texts that all protocols share."""

import json
from typing import Final

from kvs.adapters.inbound.protocol.errors import FramingLostError, ProtocolViolationError
from kvs.domain.commit import Conflict
from kvs.domain.errors import KvsError, TimedOutError
from kvs.domain.grants import Grants

EXCERPT_BYTES: Final = 64
"""Maximum length of a key or verb quoted in a message."""


def quoted(text: bytes) -> str:
    """Return client bytes in quotes, cut to a bounded length, for a message."""
    return json.dumps(excerpt(text), ensure_ascii=False)


def excerpt(text: bytes) -> str:
    """Return client bytes, cut to a bounded length, for a field of the log, which quotes them itself."""
    cut = text[:EXCERPT_BYTES].decode(errors="backslashreplace")
    return cut + "..." if len(text) > EXCERPT_BYTES else cut


def printable(text: str) -> str:
    """Return text in ASCII, without control characters, for a log field; bytes that are not UTF-8 as escapes."""
    return text.encode(errors="surrogateescape").decode("latin-1").encode("unicode_escape").decode()


def conflict_message(conflict: Conflict, grants: Grants) -> str:
    """Return the message for a rejected COMMIT, which names only what the user may read."""
    changed = [quoted(key) for key in conflict.keys if grants.may_read(key)]
    prefixes = dict.fromkeys(each.prefix for each in conflict.ranges)  # several pages may share one
    changed += [
        f"the keys under {quoted(prefix)}" if prefix else "the set of keys"
        for prefix in prefixes
        if grants.may_read(prefix)
    ]
    return f"{', '.join(changed) or 'Something'} changed since START. Nothing was applied; retry from START."


def is_fatal(error: KvsError) -> bool:
    """Return whether the connection closes after the reply that reports an error."""
    return isinstance(error, ProtocolViolationError | TimedOutError | FramingLostError)


def sentence(text: str, more: str = "") -> str:
    """Return a text as a sentence, and another one behind it, if it is not empty."""
    return f"{text[:1].upper()}{text[1:]}.{more and ' '}{more}"
