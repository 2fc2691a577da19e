"""Grants as rules of ACL SETUSER: the part of them that selectors have, too."""

import re
from typing import Final, final

from kvs.adapters.inbound.resp.acl_categories import BITS, AclCategories
from kvs.domain.grants import EVERY_CATEGORY, READ, WRITE, Grant
from kvs.domain.values import Key

SYNTAX: Final = "Syntax error"
UNKNOWN: Final = "Unknown command or category name in ACL"
AFTER_ALL_KEYS: Final = (
    "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try "
    "'resetkeys' to start with an empty list of patterns"
)
NO_PREFIX: Final = "Only prefixes of keys can be granted: a pattern ends in *, and has no other special character"
NO_CHANNELS: Final = "Channels cannot be restricted: only &*, allchannels and resetchannels are accepted"
NO_ARGUMENT: Final = "Allowing a command with its first argument only is not supported"

ACCESS: Final = {b"~": READ | WRITE, b"%R~": READ, b"%W~": WRITE, b"%RW~": READ | WRITE, b"%WR~": READ | WRITE}
"""What a rule about keys grants, by how it begins."""

IGNORED: Final = frozenset({b"sanitize-payload", b"skip-sanitize-payload", b"&*", b"allchannels", b"resetchannels"})
"""Rules about what there is not: RESTORE, and channels that belong to clients."""

_PATTERN: Final = re.compile(rb"((?:[^*?\[\]\\]|\\.)*)\*", re.DOTALL)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_SPECIAL: Final = re.compile(rb"[*?\[\]\\]")


class RuleError(ValueError):
    """Raised for a rule that is wrong, or does not fit; the message says why, in Redis's words if it has any."""


@final
class GrantDraft:
    """A grant that rules change.

    Args:
        grant: As it is.
        categories: What commands there are.
    """

    def __init__(self, grant: Grant, categories: AclCategories) -> None:
        self._known = categories
        self._categories = grant.categories
        self._reads = list(grant.reads)
        self._writes = list(grant.writes)
        self._added = set(grant.added)
        self._removed = set(grant.removed)

    def grant(self) -> Grant:
        """Return the grant."""
        added, removed = frozenset(self._added), frozenset(self._removed)
        return Grant(self._categories, tuple(self._reads), tuple(self._writes), added, removed)

    def apply(self, rule: bytes) -> None:
        """Apply a rule.

        Raises:
            RuleError: It is none, or does not fit.
        """
        word = rule.lower()
        if word in IGNORED:
            return
        if word == b"allkeys":
            self._reads, self._writes = [b""], [b""]
        elif word == b"resetkeys":
            self._reads, self._writes = [], []
        elif word in (b"allcommands", b"nocommands"):
            self._allow_all(allowed=word == b"allcommands")
        elif word[:2] in (b"+@", b"-@"):
            self._allow_category(word[2:], allowed=word[:1] == b"+")
        elif word[:1] in (b"+", b"-"):
            self._allow_command(word[1:], allowed=word[:1] == b"+")
        elif word[:1] == b"&":
            raise RuleError(NO_CHANNELS)
        else:
            self._allow_keys(rule)

    def _allow_keys(self, rule: bytes) -> None:
        start, tilde, pattern = rule.partition(b"~")
        access = ACCESS.get(start.upper() + tilde)
        if access is None:
            raise RuleError(SYNTAX)
        if b"" in self._reads and b"" in self._writes:
            if pattern == b"*":
                return
            raise RuleError(AFTER_ALL_KEYS)
        prefix = prefix_of(pattern)
        if access == READ | WRITE and prefix == b"":
            self._reads, self._writes = [b""], [b""]
            return
        for prefixes, bit in ((self._reads, READ), (self._writes, WRITE)):
            if access & bit and prefix not in prefixes:
                prefixes.append(prefix)

    def _allow_all(self, *, allowed: bool) -> None:
        self._categories = EVERY_CATEGORY if allowed else 0
        self._added.clear()
        self._removed.clear()

    def _allow_category(self, category: bytes, *, allowed: bool) -> None:
        if category == b"all":
            self._allow_all(allowed=allowed)
            return
        names = self._known.granted.get(category)
        if names is None:
            raise RuleError(UNKNOWN)
        bit = BITS.get(category, 0)
        if not bit:
            self._allow_names(names, allowed=allowed)
        else:
            self._categories = self._categories | bit if allowed else self._categories & ~bit
            gaining, losing = (self._added, self._removed) if allowed else (self._removed, self._added)
            losing.difference_update(names)
            # A command that is named counts more than a category.
            for container in [name for name in losing if self._known.subcommands.get(name)]:
                subcommands = self._known.subcommands[container]
                if subcommands <= names:
                    losing.discard(container)
                else:
                    gaining.update(subcommands & names)

    def _allow_command(self, name: bytes, *, allowed: bool) -> None:
        known = self._known
        if name not in known.names:
            container = name.partition(b"|")[0]
            raise RuleError(NO_ARGUMENT if known.subcommands.get(container) == frozenset() else UNKNOWN)
        subcommands = known.subcommands.get(name, frozenset())
        self._added.difference_update(subcommands)
        self._removed.difference_update(subcommands)
        self._allow_names(frozenset({name}), allowed=allowed)

    def _allow_names(self, names: frozenset[bytes], *, allowed: bool) -> None:
        gaining, losing = (self._added, self._removed) if allowed else (self._removed, self._added)
        gaining.update(names)
        losing.difference_update(names)


def prefix_of(pattern: bytes) -> Key:
    """Return the prefix that a pattern of keys stands for.

    Raises:
        RuleError: It stands for something else.
    """
    match = _PATTERN.fullmatch(pattern)
    if match is None:
        raise RuleError(NO_PREFIX)
    return _ESCAPED.sub(rb"\1", match[1])


def pattern_of(prefix: Key) -> bytes:
    """Return the pattern of all keys that begin with a prefix."""
    return _SPECIAL.sub(rb"\\\g<0>", prefix) + b"*"


def keys_of(grant: Grant) -> list[bytes]:
    """Return rules for the keys of a grant."""
    writes = frozenset(grant.writes)
    both = {prefix: None for prefix in grant.reads if prefix in writes}
    rules = [b"~" + pattern_of(prefix) for prefix in both]
    rules += [b"%R~" + pattern_of(prefix) for prefix in grant.reads if prefix not in both]
    rules += [b"%W~" + pattern_of(prefix) for prefix in grant.writes if prefix not in both]
    return [b"~*"] if b"~*" in rules else rules


def channels_of(grant: Grant) -> list[bytes]:
    """Return rules for the channels of a grant: who may run commands about channels may use all of them."""
    return [b"&*"] if grant.categories & BITS[b"pubsub"] else []


def commands_of(grant: Grant, categories: AclCategories) -> list[bytes]:
    """Return rules for the commands of a grant; the first one is about all commands."""
    lacking = [name for name, bit in BITS.items() if not grant.categories & bit]
    if len(lacking) < len(BITS) // 2:
        rules = [b"+@all", *[b"-@" + name for name in lacking]]
    else:
        rules = [b"-@all", *[b"+@" + name for name, bit in BITS.items() if grant.categories & bit]]
    groups: list[bytes] = []
    single: list[bytes] = []
    for sign, names in ((b"+", grant.added), (b"-", grant.removed)):
        left = set(names)
        for category, commands in sorted(categories.granted.items(), key=lambda item: -len(item[1])):
            if category not in BITS and len(commands) > 1 and commands <= left:
                groups.append(sign + b"@" + category)
                left -= commands
        single += [sign + name for name in sorted(left)]
    # The name of a command is about its subcommands, too, so it stands before what is about these.
    rules += [rule for rule in single if b"|" not in rule]
    return rules + groups + [rule for rule in single if b"|" in rule]
