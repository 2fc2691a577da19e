"""What a command in RESP is, and what it is run with: the session, and what the conversation knows besides."""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, final

from kvs.adapters.inbound.clients import Clients
from kvs.adapters.inbound.resp.cursors import Cursors
from kvs.adapters.inbound.resp.limits import RespLimits
from kvs.adapters.inbound.resp.replies import RESP2, Dialect
from kvs.domain.values import Key
from kvs.ports.inbound import Session

SLOW_COST: Final = 50
"""What a command that takes tens of microseconds counts for, in requests, against ``max_tick_requests``."""

ARGUMENTS_PER_COST: Final = 4
"""So many arguments of one request count for another."""

COPIED_BYTES_PER_COST: Final = 1 << 14
"""So many bytes that are copied count for another."""

QUEUED: Final = 0
AT_ONCE: Final = 1
REFUSED: Final = 2


@final
class Shared:
    """What all conversations have in common.

    Attributes:
        clients: Who is connected.
        cursors: Of SCAN.
        parameters: What CONFIG GET tells, by name.
        clock: Seconds since 1970, for TIME.
        uptime_clock: Monotonic seconds, the clock of the clients.
    """

    __slots__ = ("clients", "clock", "cursors", "parameters", "uptime_clock")

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
        queue: The commands since MULTI, with their arguments; None outside.
        queue_bytes: What they hold.
        spoiled: One was refused, and EXEC will refuse all.
        closing: The conversation is over, behind the reply to this command.
        scanning: The cursor that was looked up for a SCAN that is not answered, or was given last; and its key.
    """

    __slots__ = (
        "closing",
        "dialect",
        "extra_cost",
        "library",
        "library_version",
        "limits",
        "name",
        "queue",
        "queue_bytes",
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
        self.queue: list[tuple[Command, list[bytes]]] | None = None
        self.queue_bytes = 0
        self.spoiled = False
        self.closing = False
        self.extra_cost = 0
        self.scanning: tuple[int, Key] | None = None

    def take_extra_cost(self) -> int:
        """Return what the last command counts for beyond what could be told before, and forget it."""
        cost, self.extra_cost = self.extra_cost, 0
        return cost

    def end_queue(self) -> None:
        """Leave what MULTI began."""
        self.queue = None
        self.queue_bytes = 0
        self.spoiled = False


Handler: TypeAlias = Callable[[Session, Peer, list[bytes]], bytes]
"""Runs a command, given the arguments with its name first, and returns the reply.

It asks the session once at most, for only the last question may have no answer yet; and whatever else it changes, it
changes behind that.
"""


@final
class Command:
    """A command.

    Attributes:
        name: In small letters.
        run: Runs it.
        arity: Number of arguments, its name among them; negative: so many or more.
        flags: As COMMAND tells them.
        first_key: Place of its first key; 0: it has none.
        last_key: Place of its last key; negative: counted from the end.
        key_step: From one key to the next.
        group: As COMMAND DOCS tells it.
        summary: Likewise.
        cost: What it counts for against ``max_tick_requests``.
        in_queue: Whether, after MULTI, it is ``QUEUED``, run ``AT_ONCE``, or ``REFUSED``.
        runs_always: Whether it runs even when the clients hold all the memory they may: to free some, or tell of it.
    """

    __slots__ = (
        "arity",
        "cost",
        "first_key",
        "flags",
        "group",
        "in_queue",
        "key_step",
        "last_key",
        "name",
        "run",
        "runs_always",
        "summary",
    )

    def __init__(
        self,
        name: str,
        run: Handler,
        arity: int,
        flags: str,
        keys: tuple[int, int, int],
        group: str,
        summary: str,
        *,
        cost: int = 1,
        in_queue: int = QUEUED,
        runs_always: bool = False,
    ) -> None:
        self.name: Final = name.encode()
        self.run: Final = run
        self.arity: Final = arity
        self.flags: Final = flags.encode().split()
        self.first_key: Final = keys[0]
        self.last_key: Final = keys[1]
        self.key_step: Final = keys[2]
        self.group: Final = group.encode()
        self.summary: Final = summary.encode()
        self.cost: Final = cost
        self.in_queue: Final = in_queue
        self.runs_always: Final = runs_always

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
