"""KEYS of the line protocol: a page of keys, some of which the protocol may be unable to show.

Keys that are not UTF-8 are skipped and counted. A page ends with a key that can be typed at the end of a line, which
the request for the next page needs.
"""

from functools import partial
from typing import Final

from kvs.adapters.inbound.line import replies
from kvs.adapters.inbound.protocol.errors import EncodingError
from kvs.domain.values import Key
from kvs.ports.session import COPIED_BYTES_PER_UNIT, Session, Steps

PAGE_KEYS: Final = 1000
"""Maximum number of keys that one KEYS lists."""

REQUEST: Final = b"KEYS %b %b"
REQUEST_OVERHEAD_BYTES: Final = len(REQUEST % (b"", b""))

NEXT_PAGE: Final = b"There are more; go on with: "

NO_NEXT_PAGE: Final = (
    b"There are more, but no line can go on from any of these keys: each has a line feed, is all blanks, ends in a "
    b"carriage return, or is too long. A longer prefix lists fewer; RESP lists all."
)

NO_PATTERN: Final = b"KEYS and COUNT take a prefix, not a pattern: leave out the * to find what begins with the rest."
"""The hint when no key begins with a prefix that ends in ``*``."""

BLANKS: Final = b" \t"


def can_end(room_bytes: int, key: Key) -> bool:
    """Return whether a line with so many bytes left can request the keys after a key."""
    return len(key) <= room_bytes and b"\n" not in key and not key.endswith(b"\r") and key.strip(BLANKS) != b""


def list_keys(session: Session, prefix: Key, after: Key, max_line_bytes: int) -> Steps[list[bytes]]:
    """Return the reply to KEYS.

    Args:
        session: The session to list.
        prefix: The prefix of all keys of the page.
        after: The page begins after this key.
        max_line_bytes: Longest line.
    """
    room_bytes = max_line_bytes - len(prefix) - REQUEST_OVERHEAD_BYTES
    page = yield from session.keys(prefix, after, PAGE_KEYS + 1)
    message: bytes | None = None
    more = len(page) > PAGE_KEYS
    if more:
        del page[PAGE_KEYS:]
        message = _next_page(prefix, page[-1])
    elif not page and prefix.endswith(b"*"):
        message = NO_PATTERN
    if not more or can_end(room_bytes, page[-1]):
        try:
            return (yield from replies.list_steps(page, message, session.work))
        except EncodingError:
            pass  # some keys cannot be shown
    return (yield from session.view(partial(_list_shown, prefix, after, room_bytes)))


def _list_shown(prefix: Key, after: Key, room_bytes: int, session: Session) -> Steps[list[bytes]]:
    """Return the reply if some keys cannot be shown, or the page cannot end where it is full."""
    work = session.work
    page: list[Key] = []
    end = 0  # length of the longest page that can end there
    hidden = hidden_in_page = hidden_before_end = 0
    while True:
        keys = yield from session.keys(prefix, after, PAGE_KEYS + 1)
        for key in keys:
            work.left -= 1 + len(key) // COPIED_BYTES_PER_UNIT
            if work.left <= 0:
                yield
            if not replies.is_utf8(key):
                hidden += 1
            elif len(page) < PAGE_KEYS:
                page.append(key)
                hidden_in_page = hidden
                if can_end(room_bytes, key):
                    end = len(page)
                    hidden_before_end = hidden
            elif end:
                del page[end:]
                message = _message(hidden_before_end, _next_page(prefix, page[-1]))
                return (yield from replies.list_steps(page, message, work))
            else:
                message = _message(hidden_in_page, NO_NEXT_PAGE)
                return (yield from replies.list_steps(page, message, work))
        if len(keys) <= PAGE_KEYS:
            return (yield from replies.list_steps(page, _message(hidden), work))
        after = keys[-1]


def _message(hidden: int, more: bytes = b"") -> bytes | None:
    if not hidden:
        return more or None
    are = b"key is" if hidden == 1 else b"keys are"
    message = b"%d %b not UTF-8 and cannot be shown." % (hidden, are)
    return message + b" " + more if more else message


def _next_page(prefix: Key, last: Key) -> bytes:
    return NEXT_PAGE + REQUEST % (prefix, last)
