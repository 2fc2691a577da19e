"""The channels of one server."""

from itertools import islice
from typing import Final, final

from kvs.adapters.inbound.net.channel import Channel
from kvs.adapters.inbound.net.reasons import KILLED, STRANGER_DISPLACED
from kvs.adapters.inbound.protocol.clients import ClientDescription, ClientRegistry
from kvs.application.figures import ABORTS
from kvs.override import override

LOOKED_AT: Final = 64
"""Clients that are looked at, to find one that may make room."""


@final
class ChannelRegistry(ClientRegistry):
    """Every channel whose session has not ended, by the number of its session, in order of arrival.

    Attributes:
        channels: All of them, including those of refused clients.
        refused_now: Number of channels of refused clients.
        strangers: Numbers of the clients that have not authenticated, without refused ones, the oldest first.
        aborts: Transactions that ended with their connection, by why that ended, of clients that have left.
    """

    def __init__(self) -> None:
        super().__init__()
        self.channels: dict[int, Channel] = {}
        self.aborts: dict[str, int] = {}
        self._ended_requests = 0
        self.refused_now = 0
        self.strangers: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self.channels)

    @property
    def admitted(self) -> int:
        """Number of channels, without refused clients."""
        return len(self.channels) - self.refused_now

    def add(self, channel: Channel) -> None:
        """Add a channel."""
        self.channels[channel.connection.session.id] = channel
        if channel.refused:
            self.refused += 1
            self.refused_now += 1
        else:
            self.arrived += 1
            self.identify(channel.connection.session.id)

    def remove(self, channel: Channel) -> None:
        """Remove a channel."""
        del self.channels[channel.connection.session.id]
        self.strangers.pop(channel.connection.session.id, None)
        self._ended_requests += channel.connection.requests
        counters = channel.connection.session.counters
        aborts = counters.aborted - counters.engine_aborts
        if aborts:
            self.aborts[channel.reason] = self.aborts.get(channel.reason, 0) + aborts
        if channel.refused:
            self.refused_now -= 1

    def identify(self, number: int) -> None:
        """Note whether a client has authenticated, given the number of its session, if its channel has been added."""
        channel = self.channels.get(number)
        if channel is not None and channel.connection.peer.user is None and not channel.refused:
            self.strangers[number] = None
        else:
            self.strangers.pop(number, None)

    def displace_stranger(self) -> bool:
        """End the oldest client that has not authenticated, or one next to it that is not about to; False: none is."""
        channels = [self.channels[number] for number in islice(self.strangers, LOOKED_AT)]
        if channels:
            chosen = next((channel for channel in channels if not channel.connection.peer.checking), channels[0])
            self.strangers.pop(chosen.connection.session.id)
            chosen.end(STRANGER_DISPLACED)
        return bool(channels)

    def figures(self) -> dict[str, object]:
        """Return what has been counted, by name."""
        return {"clients_accepted": self.arrived, "clients_refused": self.refused, ABORTS: dict(self.aborts)}

    @override
    def ids(self) -> list[int]:
        return [session_id for session_id, channel in list(self.channels.items()) if not channel.refused]

    @override
    def describe(self, session_id: int) -> ClientDescription | None:
        channel = self.channels.get(session_id)
        if channel is None:
            return None
        return ClientDescription(
            connection=channel.connection,
            address=channel.remote_address,
            local_address=channel.local_address(),
            fd=channel.fileno(),
            connected_s=channel.connected_s,
            last_input_s=channel.last_input_s,
            unsent_bytes=channel.get_write_buffer_size(),
            events=channel.events(),
        )

    @override
    def kill(self, session_id: int) -> bool:
        channel = self.channels.get(session_id)
        if channel is None:
            return False
        channel.end(KILLED)
        return True

    @override
    def requests(self) -> int:
        channels = list(self.channels.values())  # a worker may count them while clients connect and disconnect
        return self._ended_requests + sum([channel.connection.requests for channel in channels])
