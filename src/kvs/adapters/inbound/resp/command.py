"""Commands of RESP."""

from collections.abc import Callable
from typing import Final, TypeAlias, final

from kvs.adapters.inbound.protocol.command import (
    RELAYED,
    SECRET,
    Command,
    Locality,
    Reply,
    Uses,
    no_range,
    nowhere,
)
from kvs.adapters.inbound.resp.commands.catalogue import ABOUT, About
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.domain.grants import CATEGORY_NAMES, CONNECTION, READ, WRITE
from kvs.domain.values import Key
from kvs.override import override
from kvs.ports.session import Session

ARGUMENTS_PER_UNIT: Final = 4
"""Arguments of one request per unit of work."""

# How a command is handled after MULTI.
QUEUED: Final = 0
"""It is queued, as part of the transaction that EXEC runs."""

IMMEDIATE: Final = 1
"""It is run at once."""

REFUSED: Final = 2
"""It is refused, and EXEC will refuse the whole queue."""

AFTER_EXEC: Final = 3
"""It is queued, and run after the transaction has been applied: it is about connections, not about data, and a
transaction may be run more than once."""

FlagsOfKey: TypeAlias = Callable[[list[bytes]], tuple[str, ...]]
"""Returns how a request uses its key, in Redis's words, where that depends on its arguments."""

WRITES: Final = ("insert", "update", "delete")
"""What Redis calls the ways to change a key."""

OWN: Final = frozenset(
    {
        *("client", "object", "object|help", "memory", "memory|help", "time", "info"),
        *("acl", "acl|cat", "acl|genpass", "acl|help", "acl|whoami", "sentinel|help"),
        *("config", "config|help", "latency", "latency|help", "slowlog", "slowlog|help"),
    }
)
"""Commands without a category of Redis that grants know: they show nothing of other clients alone."""

Handler: TypeAlias = Callable[[Session, ClientContext, list[bytes]], Reply]
"""Runs a command, given the arguments with its name first; returns the reply, or a generator of it."""


@final
class RespCommand(Command):
    """A command of RESP.

    Attributes:
        about: Its entry in the catalogue.
        run: Runs it.
        first_key: Position of its first key; 0: it has none.
        last_key: Position of its last key; negative: counted from the end.
        key_step: Step from one key to the next.
        multi_policy: How it is handled after MULTI.
        reads_keys: It has keys, and only reads them.
        may_monitor: A client that sees the commands of all may run it: it touches no keys.
        subcommands: Subcommands by name; None: it has none.
        flags_of_key: Returns how a request uses its key, where that depends on it; None: it does not.
    """

    def __init__(
        self,
        name: str,
        run: Handler,
        arguments: tuple[str, ...] = (),
        repeated: int = 0,
        *,
        cost: int = 0,
        multi_policy: int = QUEUED,
        is_local: Locality = nowhere,
        on_loop: bool = False,
        runs_when_full: bool = False,
        on_standby: int = RELAYED,
        subcommands: "dict[bytes, RespCommand] | None" = None,
        ranges: Uses = no_range,
        flags_of_key: FlagsOfKey | None = None,
        contents: tuple[tuple[bytes, int], ...] = (),
    ) -> None:
        about = ABOUT[name]
        super().__init__(
            name.encode(),
            about.arity,
            arguments,
            repeated,
            usage=f"wrong number of arguments for '{name}' command",
            empty_key="a key cannot be empty",
            cost=cost,
            is_local=is_local,
            on_loop=on_loop,
            runs_when_full=runs_when_full,
            grant_name=name.encode(),
            categories=_categories(name, about),
            ranges=ranges,
            is_fast="fast" in about.flags,
            is_hidden="admin" in about.flags or SECRET in arguments,
            in_slow_log="skip_slowlog" not in about.flags,
            on_standby=on_standby,
            is_open="no_auth" in about.flags,
            ends_transaction=name == "commit",
            contents=contents,
        )
        keys = about.key_range
        self.about: Final = about
        self.run: Final = run
        self.first_key: Final = keys[0]
        self.last_key: Final = keys[1]
        self.key_step: Final = keys[2]
        self.multi_policy: Final = multi_policy
        self.reads_keys: Final = "readonly" in about.flags and len(about.keys) > 0
        self.may_monitor: Final = not {"readonly", "write"} & set(about.flags)
        self.subcommands: Final = subcommands
        self.flags_of_key: Final = flags_of_key

    def cost_of(self, arguments: list[bytes]) -> int:
        """Return the units of work to charge for a request that was queued, before it runs."""
        return self.cost + len(arguments) // ARGUMENTS_PER_UNIT

    def keys(self, arguments: list[bytes]) -> list[Key]:
        """Return the keys among the arguments."""
        return [arguments[at] for keys in self.about.keys for at in keys.places(arguments)]

    @override
    def uses_of(self, request: list[bytes]) -> list[tuple[int, Key]]:
        uses: list[tuple[int, Key]] = []
        for keys in self.about.keys:
            access = access_of(keys.flags if self.flags_of_key is None else self.flags_of_key(request))
            uses += [(access, request[at]) for at in keys.places(request)]
        return uses


def access_of(flags: tuple[str, ...]) -> int:
    """Return whether a key is read or written, or both, given how a command uses it.

    In Redis, who may only write a key may ask whether it exists. Here that is reading.
    """
    reads = "access" in flags or "RO" in flags
    writes = any(flag in flags for flag in WRITES)
    return READ * reads | WRITE * writes


def _categories(name: str, about: About) -> int:
    """Return the categories that grants know; 0: none is declared."""
    categories = CONNECTION if name in OWN else 0
    for category in about.categories:
        categories |= CATEGORY_NAMES.get(category, 0)
    return categories
