"""The part of a channel that is about how clients begin: its guard, TLS, relays, and the protocol that they speak.

A client that has no guard, or needs it no more, costs one look at an attribute for each packet.
"""

from abc import abstractmethod
from typing import Final

from kvs.adapters.inbound.net.channel_context import ChannelContext
from kvs.adapters.inbound.net.guard import Guard
from kvs.adapters.inbound.net.reasons import CLOSED_BY_CLIENT, HANDSHAKE_FAILED, RELAY_REFUSED
from kvs.adapters.inbound.net.relay import ADMITTED, PREAMBLE_MARK, Preamble
from kvs.adapters.inbound.net.tick import UNITS_PER_TICK
from kvs.adapters.inbound.net.transport import Transport
from kvs.adapters.inbound.protocol.base_connection import BaseConnection
from kvs.adapters.inbound.protocol.connection import Connection
from kvs.adapters.inbound.protocol.detection import choose, restore
from kvs.adapters.inbound.protocol.errors import ProtocolViolationError
from kvs.domain.errors import KvsError

# Phases of a channel. In all but OPEN, input needs special treatment.
DETECTING: Final = 0  # what has arrived does not tell the protocol
OPEN: Final = 1
DRAINING: Final = 2  # input that has arrived is run, later input is not
CLOSING: Final = 3  # the last reply is on its way; input is discarded
CLOSED: Final = 4

HANDSHAKE_UNITS: Final = UNITS_PER_TICK // 16
"""The price of a step of a handshake: 0.6 ms, which is what a signature and an exchange of keys take."""

TLS_REQUIRED: Final = "This port speaks TLS only."


class GuardedChannel(Transport):
    """A channel with a guard, or without.

    Args:
        context: What the channels of a server share.
        connection: Its connection.
        remote_address: Address of the client, as people write it.
        guard: Its guard; None: it needs none.

    Attributes:
        connection: Its connection; replaced once the protocol is known, if that is another, and by one that relays.
        remote_address: As above; the header of the PROXY protocol may tell another.
        reason: Why it has ended or is ending, for the first time; empty before.
    """

    __slots__ = (
        "_context",
        "_guard",
        "_owed_bytes",
        "_phase",
        "_preamble",
        "_tick",
        "connection",
        "reason",
        "remote_address",
    )

    def __init__(
        self, context: ChannelContext, connection: BaseConnection, remote_address: str, guard: Guard | None
    ) -> None:
        super().__init__()
        self.connection: BaseConnection = connection
        self.remote_address = remote_address
        self.reason = ""
        self._context: Final = context
        self._tick: Final = context.tick
        self._phase = DETECTING
        self._owed_bytes = -1  # input still to be read before the drain ends it; -1: no drain
        self._guard = guard
        self._preamble: Preamble | None = None  # while it is incomplete

    # Provided by the channel.

    @abstractmethod
    def receive(self, data: bytes) -> None:
        """Take input of the connection."""

    @abstractmethod
    def eof_received(self) -> bool:
        """Handle the end of the client's input."""

    @abstractmethod
    def end(self, reason: str) -> None:
        """Close now, for a reason."""

    @abstractmethod
    def _end_input(self) -> None:
        """Have the connection end after what has arrived."""

    @abstractmethod
    def _send(self, output: list[bytes], size: int) -> None:
        """Send output of the connection."""

    @abstractmethod
    def _begin_close(self) -> None:
        """Close after the last output."""

    # For the server.

    @property
    def beginning(self) -> bool:
        """Whether the client must not be silent: what comes first is not complete, or the last word waits for it."""
        guard = self._guard
        return guard is not None and (guard.impatient or (not guard.open and self.connection.closing))

    # What comes in.

    def _is_shut(self) -> bool:
        """Return whether client and connection do not hear each other yet."""
        return self._guard is not None and not self._guard.open

    def _pass(self, guard: Guard, data: bytes) -> bytes:
        """Return what bytes from the socket are to the connection."""
        if self._phase >= CLOSING:
            return data  # to be discarded
        if self._owed_bytes >= 0:
            self._owed_bytes = max(0, self._owed_bytes - len(data))
        tls = guard.tls
        if tls is None or not guard.open:
            return self._begin(guard, data)
        records = tls.records
        data = guard.receive(data)
        self._tick.charge(self, 0, tls.records - records)
        if tls.has_sealed:
            self.write_sealed(tls.take_sealed())
        if tls.ended or tls.failure:
            self._context.loop.call_soon(self._end_secured, guard)
        if self._phase == CLOSED:  # the peer is gone
            return b""
        if not data and self._owed_bytes == 0:
            self._end_input()
        return data

    def _begin(self, guard: Guard, data: bytes) -> bytes:
        """Take the beginning of a connection; return what is behind it."""
        plain = guard.receive(data)
        if guard.failure:
            self._fail(guard)
            return b""
        if guard.address:
            self._introduce(guard)
        if guard.needless:
            return self._dismiss(guard, plain)
        if guard.impatient:
            self._context.handshakes.add(self)
        else:
            self._context.handshakes.discard(self)
        if guard.waits:
            self.pause_reading()  # until it is its turn, or much might come
            self._tick.defer(self)
        return plain

    def _dismiss(self, guard: Guard, data: bytes) -> bytes:
        """Go on without a guard, unless that is refused."""
        self._guard = None
        self._context.handshakes.discard(self)
        if guard.refused:
            self._refuse(data, ProtocolViolationError(TLS_REQUIRED))
            data = b""
        self._send_held(guard)
        self._tick.mark_dirty(self)
        return data

    def _introduce(self, guard: Guard) -> None:
        """Note who the client is, of which a balancer has told."""
        balancer, self.remote_address = self.remote_address, guard.address
        self.connection.peer.address = guard.address
        guard.address = ""
        self._context.log.info(
            "client_proxied", peer=self.remote_address, session=self.connection.session.id, balancer=balancer
        )

    def _shake_hands(self, guard: Guard) -> int:
        """Go on with the handshake; return the units of work that this used."""
        if self._phase >= CLOSING:
            return 0
        data, tls = guard.go_on(), guard.tls
        if tls is not None and tls.has_sealed:
            self.write_sealed(tls.take_sealed())
        if self._phase == CLOSED:  # the peer is gone
            return HANDSHAKE_UNITS
        if guard.failure:
            self._fail(guard)
            return HANDSHAKE_UNITS
        if guard.open and tls is not None:
            handshakes = self._context.handshakes
            handshakes.completed += 1
            handshakes.discard(self)
            peer = self.connection.peer
            peer.certificate_user = tls.common_name()
            if peer.certificate_user:
                self._context.certified(peer)
            self._send_held(guard)
            if tls.ended or tls.failure:
                self._context.loop.call_soon(self._end_secured, guard)
        self.resume_reading()
        if data:
            self.receive(data)
        self._tick.mark_dirty(self)
        return HANDSHAKE_UNITS

    def _send_held(self, guard: Guard) -> None:
        """Send what has waited until the guard is open, such as that there are too many clients."""
        held, guard.held = guard.held, []
        if held:
            self._send(held, sum([len(piece) for piece in held]))

    def _take_preamble(self, data: bytes) -> bytes:
        """Take the preamble of a relay, if it is one; return what is behind: nothing if it is incomplete or refused."""
        relays = self._context.relays
        if relays is None or not (self._preamble or (self._phase == DETECTING and data[0] == PREAMBLE_MARK)):
            return data
        preamble = self._preamble = self._preamble or Preamble()
        rest, client = preamble.take(data), relays.client_of(preamble)
        if client is None:
            if preamble.complete or preamble.too_long:
                self.end(RELAY_REFUSED)
            return b""
        self._preamble = None
        if client.waits and self._owed_bytes >= 0:  # this server stops: what comes later would not be read
            self.end(RELAY_REFUSED)
            return b""
        connection = self.connection
        self.remote_address = connection.peer.address = client.address
        if connection.peer.certificate_user:  # it is that of the standby, which tells of another user
            connection.peer.certificate_user = ""
            connection.peer.become(None)
        if client.state is not None and isinstance(connection, Connection):
            restore(connection, client.state)
            self._follow_detection(0)
        if client.waits:
            self._send([ADMITTED, b"\n"], len(ADMITTED) + 1)  # nothing that could be held back is before it
        return rest

    # The connection.

    def _follow_detection(self, quota: int) -> int:
        """Go on in the protocol that has been detected, if one has; return the units that this used."""
        detected = self.connection
        if detected.detector is not None:
            return 0
        self._phase = OPEN if self._owed_bytes < 0 else DRAINING
        if detected.successor is None:
            return 0
        self._adopt(detected.successor)
        return self.connection.resume(quota)

    def _adopt(self, connection: BaseConnection) -> None:
        """Go on with a connection."""
        peer, former = connection.peer, self.connection.peer
        peer.address = self.remote_address
        if former.certificate_user or former.is_own_user:  # it is known before the protocol is
            peer.certificate_user, peer.is_own_user = former.certificate_user, former.is_own_user
            peer.user = former.user
        peer.changed = self._peer_changed
        connection.wake = self._woken
        connection.output_full = self.connection.output_full
        if self._context.standby is not None and isinstance(connection, Connection):
            connection.hand_over = self._hand_over
        self.connection = connection
        self._context.identified(self.connection.session.id)

    def _hand_over(self) -> None:
        """Have the client relayed: its connection has come upon a request of the leader's."""
        standby, connection = self._context.standby, self.connection
        if standby is not None and isinstance(connection, Connection):
            relayed = standby.relay(connection, self.remote_address)
            if relayed is not None:
                self._adopt(relayed)

    def _woken(self) -> None:
        self._tick.wake(self)

    def _peer_changed(self) -> None:
        self._context.identified(self.connection.session.id)
        self._tick.wake(self)

    def _refuse(self, opening: bytes, error: KvsError) -> None:
        connection = self.connection
        if isinstance(connection, Connection) and not connection.closing:
            choose(connection, opening)
            self._follow_detection(0)
        self.connection.fail(error)

    # The end.

    def _end_secured(self, guard: Guard) -> None:
        """Handle the end of what TLS lets through."""
        if self._phase < CLOSING:
            if guard.failure:
                self._fail(guard)
            else:
                self.eof_received()

    def _end_beginning(self) -> None:
        """Handle the end of input before anything has come of it."""
        self.end(CLOSED_BY_CLIENT)

    def _fail(self, guard: Guard) -> None:
        """End the connection: TLS, or what should come first, is not as it should be."""
        self._context.handshakes.discard(self)
        tls = guard.tls
        alert = guard.alert if tls is None else tls.take_sealed()
        if alert:
            self.write_sealed(alert)
        self.reason = self.reason or HANDSHAKE_FAILED
        self.connection.close()
        self._begin_close()
        self._context.log.warning(
            "client_not_secured", peer=self.remote_address, session=self.connection.session.id, reason=guard.failure
        )
