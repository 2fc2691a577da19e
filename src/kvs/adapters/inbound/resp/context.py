"""The state of a RESP connection beyond its session, and the state that all of them share."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, final

from kvs.adapters.inbound.protocol.clients import ClientRegistry
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.protocol.peer import Peer
from kvs.adapters.inbound.protocol.run_loop import ANY_THREAD
from kvs.adapters.inbound.protocol.security import Security
from kvs.adapters.inbound.protocol.tracking import Tracking
from kvs.adapters.inbound.resp.cursors import Cursors, Place
from kvs.adapters.inbound.resp.figures import RespFigures
from kvs.adapters.inbound.resp.limits import RespLimits
from kvs.adapters.inbound.resp.parameter import Parameter
from kvs.adapters.inbound.resp.replies import RESP2, RespVersion
from kvs.application.disposal import Disposal
from kvs.domain.errors import ResultTooLargeError
from kvs.ports.topology import Topology

if TYPE_CHECKING:
    from kvs.adapters.inbound.resp.command import RespCommand
    from kvs.adapters.inbound.resp.tracking import ClientTracking
    from kvs.domain.errors import KvsError

REPLIES_ON: Final = 0
REPLIES_OFF: Final = 1
SKIP_NEXT_REPLY: Final = 2
SKIP_THIS_REPLY: Final = 3
"""Modes of CLIENT REPLY: ``SKIP_NEXT_REPLY`` becomes ``SKIP_THIS_REPLY`` when the next command arrives."""


LONG_QUEUE: Final = 1000
"""Commands from which a queue is freed in parts."""


@final
class ServerContext:
    """State shared by all connections.

    Attributes:
        clients: The connected clients.
        cursors: The cursors of SCAN.
        parameters: The parameters of CONFIG GET, by name.
        clock: Seconds since 1970, for TIME.
        run_id: Random ID of this run of the server.
        uptime_clock: Monotonic seconds, the clock of the clients.
        started_s: When this was made, by that clock.
        disposal: Frees long queues.
        observation: Records every request.
        tracking: The clients that track keys.
        security: What users may run.
        changeable: The parameters of CONFIG SET that can change, by name.
        topology: The servers of the data set; None: there is only this one.
        figures: Those of the fast path.
        counts_at_reset: What figures had been at the last CONFIG RESETSTAT, by name.
    """

    def __init__(
        self,
        clients: ClientRegistry,
        parameters: dict[bytes, bytes],
        clock: Callable[[], float],
        uptime_clock: Callable[[], float],
        disposal: Disposal,
        observation: Observation,
        tracking: Tracking,
        security: Security,
        changeable: Mapping[bytes, Parameter] | None = None,
        topology: Topology | None = None,
    ) -> None:
        self.clients = clients
        self.cursors = Cursors()
        self.parameters = parameters
        self.clock = clock
        self.uptime_clock = uptime_clock
        self.started_s = uptime_clock()
        self.disposal = disposal
        self.observation = observation
        self.tracking = tracking
        self.security = security
        self.figures = RespFigures(observation)
        self.changeable: Mapping[bytes, Parameter] = {} if changeable is None else changeable
        self.counts_at_reset: dict[str, int] = {}
        self.topology = topology
        self.run_id = secrets.token_hex(20) if topology is None else topology.ours.id


@final
class ClientContext:
    """State of one connection.

    Attributes:
        limits: Limits of requests and replies.
        shared: State shared by all connections.
        protocol: The version of the protocol.
        peer: Who the client is.
        library: The client's library, as it has set it.
        library_version: The version of that.
        no_evict: Whether the client has set NO-EVICT, which has no effect.
        reply_mode: The mode of CLIENT REPLY.
        last_command: Name of the last command that was run or queued.
        queue: The requests since MULTI; None outside.
        queued_commands: Their commands.
        queue_bytes: Memory of the queue.
        queue_protocol: The version of the protocol at MULTI.
        queue_generation: That of the user's grants at MULTI.
        dirty: A command was refused, so EXEC will fail.
        monitoring: The client sees the commands of all.
        tracking: What the client tracks; None: nothing.
        channels: Those that the client has subscribed to.
        patterns: Patterns of channels that it has subscribed to.
        stale: A message that follows the reply: some of what the command has read may be out of date.
        closing: The connection ends after the reply to this command.
        last_cursor: The cursor that SCAN returned last, and where it is: it stays valid here whatever others do.
        wanted_thread: Where the suspended command has to continue.
        abort_reason: Why the gate refused EXEC.
    """

    __slots__ = (
        "abort_reason",
        "channels",
        "closing",
        "dirty",
        "last_command",
        "last_cursor",
        "library",
        "library_version",
        "limits",
        "monitoring",
        "no_evict",
        "patterns",
        "peer",
        "protocol",
        "queue",
        "queue_bytes",
        "queue_generation",
        "queue_protocol",
        "queued_commands",
        "reply_mode",
        "shared",
        "stale",
        "tracking",
        "wanted_thread",
    )

    def __init__(self, limits: RespLimits, shared: ServerContext, peer: Peer) -> None:
        self.limits: Final = limits
        self.shared: Final = shared
        self.peer: Final = peer
        self.protocol: RespVersion = RESP2
        self.library = b""
        self.library_version = b""
        self.no_evict = False
        self.reply_mode = REPLIES_ON
        self.last_command = b"NULL"
        self.queue: list[list[bytes]] | None = None
        self.queued_commands: list[RespCommand] = []
        self.queue_bytes = 0
        self.queue_protocol: RespVersion = RESP2
        self.queue_generation = 0
        self.dirty = False
        self.closing = False
        self.monitoring = False
        self.tracking: ClientTracking | None = None
        self.channels: list[bytes] = []
        self.patterns: list[bytes] = []
        self.stale = b""
        self.last_cursor: tuple[int, Place] | None = None
        self.wanted_thread = ANY_THREAD
        self.abort_reason: KvsError | None = None

    def runs_at_once(self) -> bool:
        """Return whether commands are run and their replies sent: not queued, suppressed or refused."""
        return self.queue is None and self.reply_mode == REPLIES_ON and not self.subscriptions()

    def subscriptions(self) -> int:
        """Return the number of channels and patterns that the client has subscribed to."""
        return len(self.channels) + len(self.patterns)

    def end_tracking(self) -> None:
        """Forget what the client tracks."""
        if self.tracking is not None:
            self.shared.tracking.remove(self.tracking.tracker)
            self.tracking = None

    def withhold(self) -> None:
        """Drop a reply that CLIENT REPLY suppresses."""
        if self.reply_mode == SKIP_NEXT_REPLY:
            self.reply_mode = SKIP_THIS_REPLY
        elif self.reply_mode == SKIP_THIS_REPLY:
            self.reply_mode = REPLIES_ON

    def discard(self) -> None:
        """Drop the queue that MULTI began."""
        queue, self.queue = self.queue, None
        self.queued_commands = []
        if queue is not None and len(queue) > LONG_QUEUE:
            self.shared.disposal.add(queue)
        self.queue_bytes = 0
        self.dirty = False


def check_reply(context: ClientContext, parts: Sequence[bytes]) -> None:
    """Check the length of a reply before its parts, which may repeat many times, are joined.

    Raises:
        LimitError: It is longer than allowed.
    """
    if sum([len(part) for part in parts]) > context.limits.max_reply_bytes:
        raise ResultTooLargeError(context.limits.max_reply_bytes)
