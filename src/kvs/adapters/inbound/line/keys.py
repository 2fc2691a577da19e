"""KEYS of the line protocol: a page of keys, among which there may be some that no line can carry.

Keys that are not UTF-8 are passed over and counted. A page ends with a key that can be typed as the end of a line, as
whoever asks for the next page has to.
"""

from functools import partial
from typing import Final, final

from kvs.adapters.inbound.line import replies
from kvs.application.operations import AtOnce, FindKeys
from kvs.domain.errors import EncodingError
from kvs.domain.values import Key
from kvs.ports.session import Session

PAGE_KEYS: Final = 1000
"""Most keys that one KEYS lists."""

MAX_PAGE_BYTES: Final = PAGE_KEYS << 20
"""Most that the keys of a page may hold: as many of the longest that any setting allows, so that all can be listed."""

REQUEST: Final = b"KEYS %b %b"
BARE_REQUEST_BYTES: Final = len(REQUEST % (b"", b""))

NEXT_PAGE: Final = b"There are more; go on with: "

NO_NEXT_PAGE: Final = (
    b"There are more, but no line can go on from any of these keys: each has a line feed, is all blanks, ends in a "
    b"carriage return, or is too long. A longer prefix lists fewer; RESP lists all."
)

BLANKS: Final = b" \t"


def can_end(room_bytes: int, key: Key) -> bool:
    """Return whether a line, of which so many bytes are left, can ask for what follows a key."""
    return len(key) <= room_bytes and b"\n" not in key and not key.endswith(b"\r") and key.strip(BLANKS) != b""


@final
class KeysPage(AtOnce):
    """The unit that makes the reply to KEYS.

    Args:
        prefix: What all keys of the page begin with.
        after: They come after this key.
        max_line_bytes: Longest line.
    """

    __slots__ = ("_after", "_find", "_prefix", "_room_bytes")

    def __init__(self, prefix: Key, after: Key, max_line_bytes: int) -> None:
        self._prefix = prefix
        self._after = after
        self._room_bytes = max_line_bytes - len(prefix) - BARE_REQUEST_BYTES
        self._find: FindKeys | None = None

    def __eq__(self, other: object) -> bool:
        """Compare what is asked, of the same server."""
        return isinstance(other, KeysPage) and (self._prefix, self._after) == (other._prefix, other._after)

    def __hash__(self) -> int:
        """Follow ``__eq__``."""
        return hash((self._prefix, self._after))

    def at_once(self, session: Session) -> bytes | None:
        """Return the reply, if there is nothing to pass over and the page ends where it is full."""
        page = session.keys(self._prefix, self._after, PAGE_KEYS + 1)
        message: bytes | None = None
        if len(page) > PAGE_KEYS:
            del page[PAGE_KEYS:]
            if not can_end(self._room_bytes, page[-1]):
                return None
            message = self._next_page(page[-1])
        try:
            return _reply(page, message)
        except EncodingError:
            return None

    def __call__(self, session: Session) -> bytes:
        """Return the reply.

        Raises:
            Unfinished: It has done a share, and goes on when it is called again.
        """
        if self._find is None:
            ends = partial(can_end, self._room_bytes)
            self._find = FindKeys(self._prefix, self._after, replies.is_utf8, PAGE_KEYS, MAX_PAGE_BYTES, ends)
        found = self._find(session)
        page = found.keys
        messages: list[bytes] = []
        if found.passed_over:
            are = b"key is" if found.passed_over == 1 else b"keys are"
            messages.append(b"%d %b not UTF-8 and cannot be shown." % (found.passed_over, are))
        if found.more and found.end:
            del page[found.end :]
            messages.append(self._next_page(page[-1]))
        elif found.more:
            messages.append(NO_NEXT_PAGE)
        return _reply(page, b" ".join(messages) if messages else None)

    def _next_page(self, last: Key) -> bytes:
        return NEXT_PAGE + REQUEST % (self._prefix, last)


def _reply(page: list[Key], message: bytes | None) -> bytes:
    return replies.result_json(b"[%b]" % b", ".join([replies.quoted(key) for key in page]), message)
