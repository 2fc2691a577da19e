"""One client's socket: its input, its output, flow control, and the end of the connection.

The methods have asyncio's names. Those of a protocol (``data_received``, ``pause_writing``, ...) are here, for backends
to call. Those of a transport (``write``, ``abort``, ...) are added by the subclass of each backend.
"""

from typing import Final

from kvs.adapters.inbound.net.channel_context import ChannelContext
from kvs.adapters.inbound.net.guard import Guard
from kvs.adapters.inbound.net.guarded import CLOSED, CLOSING, DETECTING, DRAINING, OPEN, GuardedChannel
from kvs.adapters.inbound.net.held_output import ChannelOutput
from kvs.adapters.inbound.net.kernel import untaken_output_bytes
from kvs.adapters.inbound.net.progress import OutputProgress
from kvs.adapters.inbound.net.reasons import CLOSED_BY_CLIENT, CONNECTION_LOST, INTERNAL_ERROR, SERVER_STOPPING
from kvs.adapters.inbound.protocol.base_connection import no_wake
from kvs.adapters.inbound.protocol.connection import TOO_SLOW, Connection
from kvs.adapters.inbound.protocol.security import STRANGER_OUTPUT_BYTES
from kvs.domain.errors import KvsError
from kvs.override import override

LINGER_BYTES: Final = 16 << 20
"""Input that is discarded after the last reply before the connection is reset. The limit does not apply while the
client has not received that reply, because the reset would discard it."""

HELD_STEP_BYTES: Final = 4096
"""Held output of a channel up to which the memory budget is not updated, since that would cost each request."""

LARGE_INPUT_BYTES: Final = 1 << 20
"""Input from which a packet may complete a request that takes milliseconds to copy."""


class Channel(GuardedChannel):
    """A client's socket, independent of the backend.

    Attributes:
        connected_s: When it was accepted, in seconds of the loop's clock.
        last_input_s: When it last sent input, was resumed, or was seen to have read part of an unread reply; in seconds
            of the loop's clock.
        refused: It is open only to reply that the server is full.
    """

    __slots__ = (
        "_discarded_bytes",
        "_held",
        "_held_full",
        "_input_ended",
        "_lingering_bytes",
        "_local_address",
        "_progress",
        "_reading",
        "_unsent_bytes",
        "_unsent_full",
        "connected_s",
        "last_input_s",
        "refused",
    )

    def __init__(
        self, context: ChannelContext, connection: Connection, remote_address: str, guard: Guard | None = None
    ) -> None:
        super().__init__(context, connection, remote_address, guard)
        now_s = context.loop.time()
        self.connected_s: Final = now_s
        self.last_input_s = now_s
        self.refused = False
        self._local_address = ""  # looked up on first use, which is rare
        self._reading = True
        self._input_ended = False
        self._discarded_bytes = 0
        self._unsent_bytes = 0  # as the budget knows it
        self._progress: Final = OutputProgress(now_s)
        self._held: Final = ChannelOutput()
        self._held_full = False
        self._unsent_full = False
        self._lingering_bytes = 0  # that it had not taken at the linger's last look
        self._adopt(connection)
        if self.beginning:
            context.handshakes.add(self)

    # Protocol: called by the backend.

    def data_received(self, data: bytes) -> None:
        """Take what has come from the socket."""
        if self._guard is not None:
            self.last_input_s = self._tick.now_s  # also if it is only part of a record
            data = self._pass(self._guard, data)
            if not data:
                return
        self.receive(data)

    @override
    def receive(self, data: bytes) -> None:
        """Take input, and run the requests it completes."""
        self._tick.received_bytes += len(data)
        quota = self._tick.packet_quota(self)
        if self._phase != OPEN:
            self._receive_out_of_order(data, quota)
            return
        self.last_input_s = self._tick.now_s
        self._tick.charge(self, quota, self.connection.receive(data, quota))
        self._tick.mark_dirty(self)

    @override
    def eof_received(self) -> bool:
        """Handle the client's half-close. It may still be reading, so the transport stays open.

        With TLS there may be two: that TLS has ended, and that of the socket.
        """
        if self._is_shut():
            self._end_beginning()
            return True
        self._input_ended = True
        if self._phase == CLOSING:
            self.close()
        else:
            self.reason = self.reason or CLOSED_BY_CLIENT
            self._end_input()
        return True

    def pause_writing(self) -> None:
        """Stop reading from the client and running its requests: it does not read its replies."""
        self._unsent_full = True
        self.connection.output_full = True  # the flush that is under way does the rest

    def resume_writing(self) -> None:
        """Continue: the client has read half of them."""
        self._unsent_full = False
        self._continue_with_room()

    def _continue_with_room(self) -> None:
        """Go on, if there is room for output, both unsent and held."""
        self.connection.output_full = self._unsent_full or self._held_full
        if self.connection.output_full:
            return
        if self.connection.backlog:
            if not self.connection.busy:
                self._tick.defer(self)
        else:
            self._adjust_reading()

    def connection_lost(self, _: Exception | None) -> None:
        """Abort the client's transaction: the socket is closed."""
        if self._phase != CLOSED:
            self._phase = CLOSED
            self.reason = self.reason or CONNECTION_LOST
            connection = self.connection
            connection.close()
            connection.wake = connection.peer.changed = no_wake  # or they would hold this channel, which holds them
            if isinstance(connection, Connection):
                connection.hand_over = None
            self._held.clear()
            if self._guard is not None:
                self._context.handshakes.failed += self._guard.shaking_hands
                self._context.handshakes.discard(self)
                self._guard = None
            self._charge_memory(0)
            connection.when_closed(self._session_closed)

    # Tick member: called by the tick.

    @property
    @override
    def holds_large_input(self) -> bool:
        return self.connection.input_bytes() > LARGE_INPUT_BYTES

    @override
    def resume(self, quota: int) -> int:
        if self._guard is not None and self._guard.waits:
            return self._shake_hands(self._guard)
        connection, units = self.connection, 0
        if self._phase != CLOSED:
            if connection.backlog and not (connection.output_full or connection.busy):
                units = connection.resume(quota)
                if self._phase == DETECTING or connection.successor is not None:
                    units += self._follow_detection(quota - units)
            self._tick.mark_dirty(self)
        return units

    @override
    def flush(self) -> None:
        if self._phase == CLOSED:
            return
        output, size = self.connection.take_output()
        if size:
            self._send(output, size)
        self._continue()

    @override
    def hold(self) -> int:
        if self._phase == CLOSED:
            return -1
        connection = self.connection
        output, size = connection.take_output()
        if not (size or connection.closing):
            self._continue()
            return -1
        held = self._held
        held.add(output, size, self._tick.now_s)
        if held.size_bytes > HELD_STEP_BYTES:
            self._charge_memory(self.get_write_buffer_size())
            if held.size_bytes > self._context.limits.max_output_bytes:
                self._held_full = self.connection.output_full = True
        self._continue()
        return size

    @override
    def release(self, now_s: float) -> None:
        if self._held.empty:
            return  # it has been closed meanwhile
        self.connection.session.started_at_s += self.waited_s(now_s)
        output, size = self._held.take(now_s)
        self.last_input_s = now_s
        self._send(output, size)
        if self._held_full and self._held.empty:
            self._held_full = False
            self._continue_with_room()
        if not self.dirty:  # else the end of this tick does so, behind the output of the tick
            self._continue()

    @override
    def discard(self, error: KvsError) -> None:
        if self._phase != CLOSED:
            self._held.clear()
            if self._phase == DETECTING:  # so nothing has been run, and nobody knows how to tell
                self.end(SERVER_STOPPING)
                return
            self.connection.fail_instead(error)
            self.flush()

    @override
    def _send(self, output: list[bytes], size: int) -> None:
        if self._guard is not None and not self._guard.open:
            self._guard.held += output
            return
        self._progress.given_bytes += size
        self._tick.sent_bytes += size
        self.write(output, size)
        unsent = self.get_write_buffer_size()
        if unsent or self._unsent_bytes:
            self._charge_memory(unsent)
            if unsent > STRANGER_OUTPUT_BYTES and self.connection.peer.user is None:
                self.end(TOO_SLOW)

    def _continue(self) -> None:
        """Do what is next after a tick: close, run more of the backlog, read or stop reading."""
        connection = self.connection
        if connection.closing:
            if self._held.empty and not (connection.busy or self._is_shut()):  # else its last reply is yet to be sent
                self._begin_close()
        elif connection.backlog:
            if not (connection.output_full or connection.busy):
                self._tick.defer(self)
        elif self._reading and not connection.output_full:
            return  # as nearly always
        self._adjust_reading()

    @override
    def crash(self, error: Exception) -> None:
        self.end(INTERNAL_ERROR)
        self._context.log.error("client_failed", peer=self.remote_address, exc_info=error)

    # Called by the server.

    @property
    def answered(self) -> bool:
        """Whether it runs no request any more, and no output is held."""
        return self._phase >= CLOSING

    @override
    def end(self, reason: str) -> None:
        """Close now, for a reason."""
        self.reason = self.reason or reason
        self.abort()

    def fail(self, error: KvsError, reason: str) -> None:
        """Close after the outstanding replies and an error, for a reason."""
        self.reason = self.reason or reason
        self.connection.fail(error)
        self._tick.mark_dirty(self)

    def drain(self) -> None:
        """Run the requests that have arrived, then close."""
        self.reason = self.reason or SERVER_STOPPING
        if self._is_shut():
            self._end_beginning()
            return
        self._owed_bytes = self.unread_bytes()
        if self._owed_bytes == 0:
            self._end_input()
        elif self._phase == OPEN:
            self._phase = DRAINING

    def local_address(self) -> str:
        """Return the address that the client has connected to."""
        self._local_address = self._local_address or self.find_local_address()
        return self._local_address

    def events(self) -> str:
        """Return the polled events: ``r`` for input, ``w`` for room for output."""
        return "r" * self._reading + "w" * (self.get_write_buffer_size() > 0)

    def idle_s(self, now_s: float) -> float:
        """Return how long the client has neither sent nor received anything; 0 while the server owes it work."""
        return now_s - self.last_input_s if self._reading and self._held.empty else 0.0

    def waited_s(self, now_s: float) -> float:
        """Return how long the client has waited for output that is held: it counts for no timeout."""
        return 0.0 if self._held.empty else max(0.0, now_s - max(self._held.since_s, self.last_input_s))

    def output_stalled_s(self, now_s: float) -> float:
        """Return how long the client has received none of its pending output. Call it periodically.

        Output in the kernel's buffer counts only when the connection is closing: until then it costs nothing.
        """
        unsent = self.get_write_buffer_size()
        self._charge_memory(unsent)
        closing, progress = self._phase == CLOSING, self._progress
        untaken = self._untaken_bytes() if closing or not progress.complete else 0
        stalled_s = progress.look(now_s, untaken, unsent)
        self.last_input_s = max(self.last_input_s, progress.took_s)  # so it is not idle
        return stalled_s if unsent or closing else 0.0

    # Input that is not simply run.

    def _receive_out_of_order(self, data: bytes, quota: int) -> None:
        if self._phase == CLOSING:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > LINGER_BYTES and not self._untaken_bytes():
                self.abort()
            return
        self.last_input_s = self._tick.now_s
        if self._owed_bytes >= 0 and self._guard is None:
            self._owed_bytes = max(0, self._owed_bytes - len(data))
        data = self._take_preamble(data)
        if data:
            units = self.connection.receive(data, quota)
            if self._phase == DETECTING:
                units += self._follow_detection(quota - units)
            self._tick.charge(self, quota, units)
        if self._owed_bytes == 0:
            self.connection.end_of_input()
        self._tick.mark_dirty(self)

    @override
    def _end_input(self) -> None:
        self.connection.end_of_input()
        self._tick.mark_dirty(self)

    def _adjust_reading(self) -> None:
        wanted = self._phase == CLOSING or not (self.connection.output_full or self.connection.backlog)
        if wanted != self._reading and not (self._input_ended or self._phase == CLOSED):
            self._reading = wanted
            if wanted:
                self.last_input_s = self._context.loop.time()  # only now is it the client's turn
                self.resume_reading()
            else:
                self.pause_reading()

    # The end.

    @override
    def _begin_close(self) -> None:
        if self._phase >= CLOSING:
            return
        self._phase = CLOSING
        self.reason = self.reason or self.connection.close_reason
        if self._input_ended:
            self.close()
        else:
            self.write_eof()
            self._lingering_bytes = self._untaken_bytes()
            self._context.loop.call_later(self._context.limits.linger_timeout_s, self._linger)

    def _linger(self) -> None:
        """Close, if the client had received everything at the last check and has not closed."""
        if self._phase == CLOSED:
            return
        untaken, self._lingering_bytes = self._lingering_bytes, self._untaken_bytes()
        if untaken or self._lingering_bytes:  # output_timeout_s ends a client that never takes it
            self._context.loop.call_later(self._context.limits.linger_timeout_s, self._linger)
        else:
            self.abort()

    def _session_closed(self) -> None:
        self._context.closed(self)

    def _charge_memory(self, unsent: int) -> None:
        unsent += self._held.size_bytes
        if self._guard is not None:
            unsent += self._guard.memory_bytes
        self._context.budget.used_bytes += unsent - self._unsent_bytes
        self._unsent_bytes = unsent

    def _untaken_bytes(self) -> int:
        fd = self.fileno()
        return self.get_write_buffer_size() + (untaken_output_bytes(fd) if fd >= 0 else 0)
