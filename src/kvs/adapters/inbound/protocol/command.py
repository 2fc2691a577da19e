"""The declaration of a command, the same in all protocols, so that one gate and one run loop serve them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from kvs.domain.grants import READ
from kvs.domain.values import Key
from kvs.ports.session import Session, Steps

WholeReply: TypeAlias = bytes | list[bytes]
"""A reply in one, or in pieces that are sent without being copied."""

Reply: TypeAlias = "bytes | list[bytes] | Steps[bytes] | Steps[WholeReply]"
"""The reply of a handler, or a generator that returns it, and yields between shares of work."""

Locality: TypeAlias = Callable[[Session, list[bytes]], bool]
"""Returns whether a request needs no call of the engine, given the session and the arguments."""

Uses: TypeAlias = Callable[[list[bytes]], list[tuple[int, Key]]]
"""Returns the ranges of keys that a request uses: whether it reads or writes each, or both, and its prefix."""

# Kinds of arguments. Keys, prefixes and values have limits; values, contents and secrets are not shown to others, nor
# what cannot be a user's name.
KEY: Final = "key"
PREFIX: Final = "prefix"
VALUE: Final = "value"
CONTENT: Final = "content"
"""What a client sends of its own that is no whole value: a number to add, a bit to set, a text to be echoed."""

SECRET: Final = "secret"  # noqa: S105  # a kind of argument
USER: Final = "user"
OTHER: Final = "other"

# What a server that stands by does with a command.
RELAYED: Final = 0
"""It is the leader's: the client is relayed to it, with this request and all that follow."""

BEGINS: Final = 1
"""The same. If there is no leader, the connection is closed: what follows would be run without what this begins."""

ANSWERED: Final = 2
"""It is about the server or the connection, and answered."""

SLOW_COST: Final = 50
"""Units of work of a command that takes tens of microseconds."""


def no_range(_: list[bytes]) -> list[tuple[int, Key]]:
    """Return nothing: the command uses the keys that are named, if any."""
    return []


def reads_all_keys(_: list[bytes]) -> list[tuple[int, Key]]:
    """Return the range of all keys, to be read."""
    return [(READ, b"")]


def nowhere(_: Session, __: list[bytes]) -> bool:
    """Return False: the command always calls the engine."""
    return False


def everywhere(_: Session, __: list[bytes]) -> bool:
    """Return True: the command never calls the engine."""
    return True


def in_transaction(session: Session, _: list[bytes]) -> bool:
    """Return whether a transaction is open: a blind write or a nested START touches only its stack."""
    return session.depth > 0


def in_frame(session: Session, _: list[bytes]) -> bool:
    """Return whether COMMIT or ROLLBACK ends anything but the outermost frame."""
    return session.depth != 1


def of_pending_key(session: Session, arguments: list[bytes]) -> bool:
    """Return whether the transaction has a pending write of the first key."""
    return len(arguments) > 1 and session.is_pending(arguments[1])


def without_snapshot(session: Session, _: list[bytes]) -> bool:
    """Return whether the session holds no snapshot."""
    return not session.holds_snapshot


@dataclass(eq=False)
class Command:
    """An entry in a protocol's table of commands.

    Attributes:
        name: Name, in the case in which the protocol documents it.
        arity: Number of arguments, including the name; negative: so many or more.
        arguments: Kind of each argument after the name: ``KEY``, ``PREFIX``, ``VALUE``, ``CONTENT``, ``SECRET``,
            ``USER`` or ``OTHER``.
        repeated: How many of the last of ``arguments`` repeat, as the pairs of MSET do.
        cost: Units of work in addition to those that the handler charges.
        is_local: Returns whether a request needs no call of the engine, and so no worker if the engine blocks.
        on_loop: It is about connections, which belong to the loop: no worker may run it.
        usage: Message for a wrong number of arguments.
        empty_key: Message for an empty key.
        runs_when_full: It runs even when all clients together hold ``max_clients_bytes``: it frees memory or reports.
        is_fast: Its duration hardly depends on anything.
        is_hidden: MONITOR never shows it: it is about the server, or may have a secret.
        in_slow_log: It is in the slow log; the commands that it runs would be there twice.
        on_standby: What a server that stands by does with it: ``RELAYED``, ``BEGINS`` or ``ANSWERED``.
        grant_name: Name by which grants know it: that of RESP, in both protocols.
        categories: Its categories in grants, as bits: see :mod:`kvs.domain.grants`.
        ranges: Returns the ranges of keys that a request uses.
        is_open: Everyone may run it, also before authentication.
        contents: Words, in capitals, that have a content so many arguments behind them, wherever they are.
        ends_transaction: It is COMMIT, which makes writes take effect that were allowed before.
    """

    name: bytes
    arity: int
    arguments: tuple[str, ...]
    repeated: int
    usage: str
    empty_key: str
    cost: int
    is_local: Locality
    on_loop: bool
    runs_when_full: bool
    grant_name: bytes
    categories: int
    ranges: Uses
    is_fast: bool = False
    is_hidden: bool = False
    in_slow_log: bool = True
    on_standby: int = RELAYED
    is_open: bool = False
    ends_transaction: bool = False
    contents: tuple[tuple[bytes, int], ...] = ()

    def uses_of(self, _: list[bytes]) -> list[tuple[int, Key]]:
        """Return how a request with the right number of arguments uses keys: whether it reads or writes, and the key.

        Raises:
            UsageError: The request does not tell which of its arguments are keys.
        """
        return []

    def takes(self, number: int) -> bool:
        """Return whether a number of arguments, including the name, is allowed."""
        return number == self.arity if self.arity > 0 else number >= -self.arity

    def declares(self, at: int) -> bool:
        """Return whether the kind of the argument at a position is declared."""
        return self.repeated > 0 or at <= len(self.arguments)

    def kind_of(self, at: int) -> str:
        """Return the kind of the argument at a position; that of the first after the name is 1."""
        arguments = self.arguments
        if at <= len(arguments):
            return arguments[at - 1]
        if not self.repeated:
            return OTHER
        first = len(arguments) - self.repeated
        return arguments[first + (at - 1 - first) % self.repeated]
