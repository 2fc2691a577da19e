"""What a command in RESP is, and what it is run with: the session, and what the conversation knows besides."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias, final

from kvs.adapters.inbound.net.registry import Clients
from kvs.adapters.inbound.resp.commands.catalogue import ABOUT
from kvs.adapters.inbound.resp.cursors import Cursors
from kvs.adapters.inbound.resp.limits import RespLimits
from kvs.adapters.inbound.resp.replies import RESP2, Dialect
from kvs.application.operations import reply_too_large
from kvs.domain.values import Key
from kvs.ports.session import Session

SLOW_COST: Final = 50
"""What a command that takes tens of microseconds counts for, in requests, against ``max_tick_requests``."""

ARGUMENTS_PER_COST: Final = 4
"""So many arguments of one request count for another."""

COPIED_BYTES_PER_COST: Final = 1 << 14
"""So many bytes that are copied count for another."""

QUEUED: Final = 0
"""After MULTI, a command is queued, and is part of the transaction that EXEC runs."""

AT_ONCE: Final = 1
"""It is run at once."""

REFUSED: Final = 2
"""It is refused, and spoils the queue."""

BEHIND: Final = 3
"""It is queued, but run only when the transaction has been applied: it is about connections, which belong to the thread
that serves them, and a transaction may be run by another, and more than once."""

REPLIES_ON: Final = 0
REPLIES_OFF: Final = 1
SKIP_NEXT_REPLY: Final = 2
SKIP_THIS_REPLY: Final = 3
"""What CLIENT REPLY has made of the replies: the next one is this one as soon as its command has come."""


@final
class Shared:
    """What all conversations have in common.

    Attributes:
        clients: Who is connected.
        cursors: Of SCAN.
        parameters: What CONFIG GET tells, by name.
        clock: Seconds since 1970, for TIME.
        run_id: Of this server, from its start to its end.
        uptime_clock: Monotonic seconds, the clock of the clients.
    """

    __slots__ = ("clients", "clock", "cursors", "parameters", "run_id", "uptime_clock")

    def __init__(
        self,
        clients: Clients,
        parameters: Mapping[bytes, bytes],
        clock: Callable[[], float],
        uptime_clock: Callable[[], float],
    ) -> None:
        self.clients = clients
        self.cursors = Cursors()
        self.parameters = parameters
        self.clock = clock
        self.uptime_clock = uptime_clock
        self.run_id = secrets.token_hex(20)


@final
class Peer:
    """What a conversation knows besides its session.

    Attributes:
        limits: Bounds of what is sent and answered.
        shared: What all conversations have in common.
        dialect: The version of the protocol.
        extra_cost: What the last command counts for beyond what could be told before.
        name: Given by the client to itself.
        library: Likewise: what it is built with.
        library_version: Likewise.
        no_evict: Whether the client has asked not to be evicted. Nobody ever is.
        reply_mode: What becomes of replies.
        last_command: Name of the last command that was run or queued.
        queue: The commands since MULTI, with their arguments; None outside.
        queue_bytes: What they hold.
        queue_dialect: The version of the protocol when it began.
        spoiled: One was refused, and EXEC will refuse all.
        answered: Replies to a queue that has been applied, while what is run behind it has not been.
        closing: The conversation is over, behind the reply to this command.
        scanning: The cursor that was looked up for a SCAN that is not answered, or was given last; and its key.
    """

    __slots__ = (
        "answered",
        "closing",
        "dialect",
        "extra_cost",
        "last_command",
        "library",
        "library_version",
        "limits",
        "name",
        "no_evict",
        "queue",
        "queue_bytes",
        "queue_dialect",
        "reply_mode",
        "scanning",
        "shared",
        "spoiled",
    )

    def __init__(self, limits: RespLimits, shared: Shared) -> None:
        self.limits: Final = limits
        self.shared: Final = shared
        self.dialect: Dialect = RESP2
        self.name = b""
        self.library = b""
        self.library_version = b""
        self.no_evict = False
        self.reply_mode = REPLIES_ON
        self.last_command = b"NULL"
        self.queue: list[tuple[Command, list[bytes]]] | None = None
        self.queue_bytes = 0
        self.queue_dialect: Dialect = RESP2
        self.spoiled = False
        self.answered: list[bytes] | None = None
        self.closing = False
        self.extra_cost = 0
        self.scanning: tuple[int, Key] | None = None

    def take_extra_cost(self) -> int:
        """Return what the last command counts for beyond what could be told before, and forget it."""
        cost, self.extra_cost = self.extra_cost, 0
        return cost

    def is_plain(self) -> bool:
        """Return whether a command is run and answered as soon as it has come."""
        return self.queue is None and self.reply_mode == REPLIES_ON

    def withhold(self) -> None:
        """Drop a reply that is not wanted."""
        if self.reply_mode == SKIP_NEXT_REPLY:
            self.reply_mode = SKIP_THIS_REPLY
        elif self.reply_mode == SKIP_THIS_REPLY:
            self.reply_mode = REPLIES_ON

    def end_queue(self) -> None:
        """Leave what MULTI began."""
        self.queue = None
        self.queue_bytes = 0
        self.spoiled = False
        self.answered = None


def check_reply(peer: Peer, parts: Sequence[bytes]) -> None:
    """Refuse a reply that is longer than one may be, before its parts, which may be the same many times, are joined.

    Raises:
        LimitError: It is.
    """
    if sum([len(part) for part in parts]) > peer.limits.max_reply_bytes:
        raise reply_too_large(peer.limits.max_reply_bytes)


Handler: TypeAlias = Callable[[Session, Peer, list[bytes]], bytes]
"""Runs a command, given the arguments with its name first, and returns the reply.

It asks the session once at most, for only the last question may have no answer yet; and whatever else it changes, it
changes behind that.
"""


@final
class Command:
    """A command that is run; what else is known of it is in the catalogue.

    Attributes:
        name: In small letters; that of a subcommand has the name of its container before it: ``client|list``.
        about: What the catalogue says.
        run: Runs it.
        arity: Number of arguments, its name among them; negative: so many or more.
        first_key: Place of its first key; 0: it has none.
        last_key: Place of its last key; negative: counted from the end.
        key_step: From one key to the next.
        cost: What it counts for against ``max_tick_requests``.
        in_queue: What becomes of it after MULTI: ``QUEUED``, ``AT_ONCE``, ``REFUSED`` or ``BEHIND``.
        runs_always: Whether it runs even when the clients hold all the memory they may: to free some, or tell of it.
        subcommands: By their names alone; None: it is no container.
    """

    __slots__ = (
        "about",
        "arity",
        "cost",
        "first_key",
        "in_queue",
        "key_step",
        "last_key",
        "name",
        "run",
        "runs_always",
        "subcommands",
    )

    def __init__(
        self,
        name: str,
        run: Handler,
        *,
        cost: int = 1,
        in_queue: int = QUEUED,
        runs_always: bool = False,
        subcommands: "dict[bytes, Command] | None" = None,
    ) -> None:
        about = ABOUT[name]
        keys = about.key_range
        self.name: Final = name.encode()
        self.about: Final = about
        self.run: Final = run
        self.arity: Final = about.arity
        self.first_key: Final = keys[0]
        self.last_key: Final = keys[1]
        self.key_step: Final = keys[2]
        self.cost: Final = cost
        self.in_queue: Final = in_queue
        self.runs_always: Final = runs_always
        self.subcommands: Final = subcommands

    def takes(self, number: int) -> bool:
        """Return whether so many arguments are right, its name among them."""
        return number == self.arity if self.arity > 0 else number >= -self.arity

    def cost_of(self, arguments: list[bytes]) -> int:
        """Return what it counts for with these arguments."""
        return self.cost + len(arguments) // ARGUMENTS_PER_COST

    def keys_end(self, number: int) -> int:
        """Return the place behind its last key, given the number of arguments."""
        return (self.last_key if self.last_key > 0 else number + self.last_key) + 1

    def keys(self, arguments: list[bytes]) -> list[Key]:
        """Return those of the arguments that are keys."""
        return arguments[self.first_key : self.keys_end(len(arguments)) : self.key_step] if self.first_key else []
