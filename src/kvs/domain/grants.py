"""What a user may run: commands by category and by name, on keys by prefix.

A user has one or more grants. All of one request, its command and every key and range, must be within one and the same
grant. A prefix is bytes and nothing more: ``user:1`` also covers ``user:10``, so a prefix should end in a delimiter.
"""

from bisect import bisect_right
from typing import Final, final

from kvs.domain.values import Key

# Categories of commands; READ and WRITE are also how a command uses a key. Bits, to be combined.
READ: Final = 1
"""It tells about keys or values."""

WRITE: Final = 2
"""It changes keys or values."""

TRANSACTION: Final = 4
"""It begins, ends or describes a transaction of this client."""

CONNECTION: Final = 8
"""It is about the client's own connection, or about nothing that others have."""

PUBSUB: Final = 16
"""It is about channels."""

ADMIN: Final = 32
"""It is about the server, about other clients, or about users."""

EVERY_CATEGORY: Final = READ | WRITE | TRANSACTION | CONNECTION | PUBSUB | ADMIN

CATEGORY_NAMES: Final = {
    "read": READ,
    "write": WRITE,
    "transaction": TRANSACTION,
    "connection": CONNECTION,
    "pubsub": PUBSUB,
    "admin": ADMIN,
}

EVERY_KEY: Final[tuple[Key, ...]] = (b"",)
"""The prefixes of a grant on all keys."""

MAX_GRANTS: Final = 64
"""Maximum number of grants of one user; a request may be compared with each."""

MAX_PREFIXES: Final = 1024
"""Maximum number of prefixes of all grants of a user, for reading and for writing."""

FEW_PREFIXES: Final = 8
"""So many are compared one after the other."""


@final
class Grant:
    """Commands, and the keys that they may use. Immutable.

    A command is within the grant if it is in ``added``, or if it is not in ``removed`` and all its categories are in
    ``categories``: a command that both writes and administers needs both. A subcommand, such as ``config|get``, is
    looked up by its own name first, and then by that of its command.

    Args:
        categories: Bits of the allowed categories.
        reads: Prefixes of the keys that may be read.
        writes: Prefixes of the keys that may be written.
        added: Commands allowed by name, in lower case.
        removed: Commands refused by name, in lower case.

    Attributes:
        unrestricted: It allows everything.
    """

    __slots__ = (
        "_read_starts",
        "_write_starts",
        "added",
        "categories",
        "reads",
        "removed",
        "unrestricted",
        "writes",
    )

    def __init__(
        self,
        categories: int,
        reads: tuple[Key, ...] = (),
        writes: tuple[Key, ...] = (),
        added: frozenset[bytes] = frozenset(),
        removed: frozenset[bytes] = frozenset(),
    ) -> None:
        self.categories: Final = categories
        self.reads: Final = EVERY_KEY if b"" in reads else tuple(dict.fromkeys(reads))
        self.writes: Final = EVERY_KEY if b"" in writes else tuple(dict.fromkeys(writes))
        self._read_starts: Final = _starts(self.reads)
        self._write_starts: Final = _starts(self.writes)
        self.added: Final = added
        self.removed: Final = removed - added
        self.unrestricted: Final = (
            categories == EVERY_CATEGORY and not self.removed and self.reads == EVERY_KEY and self.writes == EVERY_KEY
        )

    def allows_command(self, name: bytes, categories: int) -> bool:
        """Return whether a command is within the grant, whatever its keys.

        Args:
            name: Its name in lower case; of a subcommand, ``command|subcommand``.
            categories: Its categories; at least one.
        """
        added, removed = self.added, self.removed
        if added or removed:
            if name in added:
                return True
            if name in removed:
                return False
            bar = name.find(b"|")
            if bar >= 0:
                command = name[:bar]
                if command in added:
                    return True
                if command in removed:
                    return False
        return categories & ~self.categories == 0

    def covers(self, access: int, prefix: Key) -> bool:
        """Return whether a key, or all keys that begin with a prefix, may be used.

        Args:
            access: READ, WRITE or both.
            prefix: The key or the prefix.
        """
        return (not access & READ or _begins_with_one(prefix, self.reads, self._read_starts)) and (
            not access & WRITE or _begins_with_one(prefix, self.writes, self._write_starts)
        )

    def allows(self, name: bytes, categories: int, keys: list[tuple[int, Key]], ranges: list[tuple[int, Key]]) -> bool:
        """Return whether all of a request is within the grant; see :meth:`Grants.allows`."""
        if self.unrestricted:
            return True
        if not self.allows_command(name, categories):
            return False
        for access, key in keys:
            if not self.covers(access, key):
                return False
        for access, prefix in ranges:
            if not self.covers(access, prefix):
                return False
        return True

    def may(self, access: int, key: Key) -> bool:
        """Return whether some command may use a key: one of a category called like the access, or one by name."""
        return (self.categories & access == access or len(self.added) > 0) and self.covers(access, key)

    def _parts(self) -> tuple[object, ...]:
        return (self.categories, frozenset(self.reads), frozenset(self.writes), self.added, self.removed)

    def __eq__(self, other: object) -> bool:
        return type(other) is Grant and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def __repr__(self) -> str:
        return f"Grant{self._parts()!r}"


def _starts(prefixes: tuple[Key, ...]) -> list[Key]:
    """Return many prefixes in order, without those that begin with another one; of few nothing."""
    starts: list[Key] = []
    if len(prefixes) > FEW_PREFIXES:
        for prefix in sorted(prefixes):
            if not starts or not prefix.startswith(starts[-1]):
                starts.append(prefix)
    return starts


def _begins_with_one(key: Key, prefixes: tuple[Key, ...], starts: list[Key]) -> bool:
    """Return whether a key begins with one of these prefixes; the only one that it can is the last not above it."""
    if not starts:
        return key.startswith(prefixes)
    at = bisect_right(starts, key)
    return at > 0 and key.startswith(starts[at - 1])


@final
class Grants:
    """All that a user may run. Immutable.

    Args:
        grants: The grants; none: nothing is allowed.

    Attributes:
        grants: The grants.
        unrestricted: Everything is allowed, so nothing needs to be asked.
        size: Number of prefixes.
    """

    __slots__ = ("grants", "size", "unrestricted")

    def __init__(self, *grants: Grant) -> None:
        self.grants: Final = tuple(grants)
        self.unrestricted: Final = any(grant.unrestricted for grant in grants)
        self.size: Final = sum([len(grant.reads) + len(grant.writes) for grant in grants])

    def allows(self, name: bytes, categories: int, keys: list[tuple[int, Key]], ranges: list[tuple[int, Key]]) -> bool:
        """Return whether a request is allowed: whether all of it is within one grant.

        Args:
            name: Name of the command in lower case; of a subcommand, ``command|subcommand``.
            categories: Its categories.
            keys: How it uses each of its keys, and the key.
            ranges: The same of each range of keys, given by its prefix; the empty one is that of all keys.

        Complexity: O(grants * (keys + ranges) * log(prefixes)), each of which is a comparison of bytes.
        """
        for grant in self.grants:
            if grant.allows(name, categories, keys, ranges):
                return True
        return False

    def refused(
        self, name: bytes, categories: int, keys: list[tuple[int, Key]], ranges: list[tuple[int, Key]]
    ) -> Key | None:
        """Return a key, or the prefix of a range, for which a request is not allowed; None if it is."""
        if self.allows(name, categories, keys, ranges):
            return None
        used = keys + ranges
        for access, key in used:
            if not self.allows_key(name, categories, access, key):
                return key
        return used[0][1] if used else b""  # each for itself is allowed, but not all by one grant

    def allows_command(self, name: bytes, categories: int) -> bool:
        """Return whether a command is allowed on some keys at least, or has none."""
        for grant in self.grants:
            if grant.allows_command(name, categories):
                return True
        return False

    def allows_key(self, name: bytes, categories: int, access: int, key: Key) -> bool:
        """Return whether a command is allowed to use one key."""
        for grant in self.grants:
            if grant.allows_command(name, categories) and grant.covers(access, key):
                return True
        return False

    def may_read(self, key: Key) -> bool:
        """Return whether a key may be read by some command, and so be named to the user."""
        for grant in self.grants:
            if grant.may(READ, key):
                return True
        return False

    def may_write(self, key: Key) -> bool:
        """Return whether a key may be written by some command, as COMMIT asks of what is pending."""
        for grant in self.grants:
            if grant.may(WRITE, key):
                return True
        return False

    def prefixes(self) -> tuple[Key, ...]:
        """Return all prefixes of the grants, each once, for texts to the user."""
        found: dict[Key, None] = {}
        for grant in self.grants:
            for prefix in (*grant.reads, *grant.writes):
                found[prefix] = None
        return tuple(found)

    def __eq__(self, other: object) -> bool:
        return type(other) is Grants and self.grants == other.grants

    def __hash__(self) -> int:
        return hash(self.grants)

    def __repr__(self) -> str:
        return f"Grants{self.grants!r}"


EVERYTHING: Final = Grants(Grant(EVERY_CATEGORY, EVERY_KEY, EVERY_KEY))
"""The grants of a user without restrictions."""

NOTHING: Final = Grants()
"""The grants of a new user."""
