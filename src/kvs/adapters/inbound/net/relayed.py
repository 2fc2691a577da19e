"""A connection whose requests are the leader's: its bytes go there, and those of the leader to the client.

It takes the place of a connection that has come upon such a request, and gives it back if the leader cannot be reached.
Whatever bounds a client bounds it, too: a client that does not read its replies, or a leader that does not read
requests, is not read from. How long a client may be silent is for the leader to say.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

from kvs.adapters.inbound.net.reasons import CLOSED_BY_LEADER
from kvs.adapters.inbound.net.upstream import Upstream
from kvs.adapters.inbound.protocol.base_connection import UNBOUNDED, BaseConnection, no_wake
from kvs.adapters.inbound.protocol.client_info import ClientInfo
from kvs.adapters.inbound.protocol.client_state import ClientState
from kvs.adapters.inbound.protocol.connection import CHARGE_STEP_BYTES, Connection
from kvs.application.memory_budget import MemoryBudget
from kvs.domain.errors import KvsError
from kvs.override import override
from kvs.ports.session import COPIED_BYTES_PER_UNIT

if TYPE_CHECKING:
    import asyncio


@final
class RelayedConnection(BaseConnection):
    """A relayed connection. It is busy until it is connected.

    Args:
        former: The connection that has come upon the request.
        budget: Memory budget of all clients.
        closed: Called once with this when it is closed, or given back.
    """

    __slots__ = (
        "_budget",
        "_charged_bytes",
        "_connecting",
        "_ended",
        "_former",
        "_input_ended",
        "_out",
        "_out_bytes",
        "_upstream",
    )

    def __init__(self, former: Connection, budget: MemoryBudget, closed: Callable[["RelayedConnection"], None]) -> None:
        super().__init__(former.session)
        former.wake = former.peer.changed = no_wake
        former.hand_over = None
        self.peer.user = former.peer.user
        self.requests = former.requests
        self.backlog = True
        self._former: Final = former
        self._budget: Final = budget
        self._ended: Callable[[RelayedConnection], None] | None = closed
        self._connecting: asyncio.Task[None] | None = None
        self._upstream: Upstream | None = None
        self._input_ended = False
        self._out, self._out_bytes = former.take_output()
        self._charged_bytes = 0

    # Called by the standby.

    def state(self) -> ClientState:
        """Return what the client has set."""
        return self._former.state()

    def connect_by(self, connecting: "asyncio.Task[None] | None") -> None:
        """Be connected by a task, which is cancelled if the client leaves; None: it has ended."""
        self._connecting = connecting

    @property
    def connecting(self) -> bool:
        """Whether nothing of the client has been sent to the leader yet."""
        return self._connecting is not None

    def connected(self, upstream: Upstream) -> None:
        """Send the request to the leader, and all that has come behind it."""
        self._connecting = None
        self._upstream = upstream
        upstream.write(b"".join(self._former.release_input()))
        if self._input_ended:
            upstream.write_eof()
        self._go_on()
        self.wake()

    def give_back(self, error: KvsError) -> None:
        """Have the former connection answer the request with an error, and go on."""
        former, connecting, self._connecting = self._former, self._connecting, None
        if connecting is not None:
            connecting.cancel()
        self._report_end()
        self.successor = former
        former.refuse(error)
        if self._input_ended:
            former.end_of_input()
        self.wake()

    def end(self, reason: str) -> None:
        """End it: what the leader has sent still goes to the client."""
        if not self.closing:
            self.closing = True
            self.backlog = False
            self.close_reason = reason
            self._drop_upstream()
            self.wake()

    # Called by the upstream.

    def take(self, data: bytes) -> None:
        """Take what the leader has sent; nothing: it has closed."""
        if not data:
            self.end(CLOSED_BY_LEADER)
            return
        self._out.append(data)
        self._out_bytes += len(data)
        if self.output_full and self._upstream is not None:
            self._upstream.pause_reading()
            self.backlog = True
        self.wake()

    def drained(self) -> None:
        """Go on reading from the client: the leader has taken what had to wait."""
        self._go_on()
        self.wake()

    def _go_on(self) -> None:
        """Read more from the client and the leader, as far as there is room for what comes."""
        upstream = self._upstream
        if upstream is not None:
            if not self.output_full:
                upstream.resume_reading()
            self.backlog = self.busy or not upstream.reading
            self._charge()

    # Called by the channel.

    @property
    @override
    def mid_request(self) -> bool:
        return False

    @property
    @override
    def busy(self) -> bool:
        return self._connecting is not None or (self._upstream is not None and self._upstream.unsent_bytes > 0)

    @property
    @override
    def has_timeouts(self) -> bool:
        return False

    @override
    def client_info(self) -> ClientInfo:
        return self._former.client_info()

    @override
    def input_bytes(self) -> int:
        return self._former.input_bytes() + (0 if self._upstream is None else self._upstream.unsent_bytes)

    @override
    def held_bytes(self) -> int:
        return self.input_bytes() + self._out_bytes

    @override
    def receive(self, data: bytes, quota: int = UNBOUNDED) -> int:
        upstream = self._upstream
        if upstream is None or self.closing:
            return 0
        upstream.write(data)
        if upstream.unsent_bytes:
            self.backlog = True
            self._charge()
        return 1 + len(data) // COPIED_BYTES_PER_UNIT

    @override
    def resume(self, quota: int = UNBOUNDED) -> int:
        self._go_on()
        return 0

    @override
    def end_of_input(self) -> None:
        self._input_ended = True
        if self._upstream is not None:
            self._upstream.write_eof()

    @override
    def fail(self, error: KvsError) -> None:
        self.end(error.code)

    @override
    def fail_instead(self, error: KvsError) -> None:
        self._out = []
        self._out_bytes = 0
        self.end(error.code)

    @override
    def take_output(self) -> tuple[list[bytes], int]:
        out, size = self._out, self._out_bytes
        if out:
            self._out = []
            self._out_bytes = 0
        return out, size

    @override
    def close(self) -> None:
        self.closing = True
        self.backlog = False
        self._drop_upstream()
        self._former.close()

    @override
    def when_closed(self, callback: Callable[[], None]) -> None:
        self._former.when_closed(callback)

    def _drop_upstream(self) -> None:
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        if self._upstream is not None:
            self._upstream.close()
        self._report_end()
        self._charge()

    def _report_end(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(self)

    def _charge(self) -> None:
        """Update the budget; the memory of the former connection is charged there."""
        held = 0 if self._upstream is None or self.closing else self._upstream.unsent_bytes
        change = held - self._charged_bytes
        if change > CHARGE_STEP_BYTES or change < -CHARGE_STEP_BYTES or self.closing:
            self._budget.used_bytes += change
            self._charged_bytes = held
