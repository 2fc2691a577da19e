"""The bound of connections whose beginning is not complete: TLS handshakes and headers of the PROXY protocol.

They are clients like others, and count in ``max_clients``. Beyond half of that, the oldest makes room for the newest:
an honest handshake takes a few round trips, so who is the oldest of many is slow, or does not mean to complete it.
"""

from typing import TYPE_CHECKING, Final, final

from kvs.adapters.inbound.net.reasons import HANDSHAKE_DISPLACED

if TYPE_CHECKING:
    from kvs.adapters.inbound.net.guarded import GuardedChannel


@final
class Handshakes:
    """The channels whose beginning is under way, in order of arrival.

    Args:
        most: How many there may be.

    Attributes:
        completed: Number of TLS handshakes that have been completed.
        failed: Number of connections that ended in the middle of one: it failed, or took too long.
    """

    def __init__(self, most: int) -> None:
        self._most: Final = max(1, most)
        self._channels: dict[GuardedChannel, None] = {}
        self.completed = 0
        self.failed = 0

    def __len__(self) -> int:
        return len(self._channels)

    def add(self, channel: "GuardedChannel") -> None:
        """Add a channel; end the oldest, if there are too many."""
        if channel not in self._channels:
            self._channels[channel] = None
            if len(self._channels) > self._most:
                oldest = next(iter(self._channels))
                self.discard(oldest)
                oldest.end(HANDSHAKE_DISPLACED)

    def discard(self, channel: "GuardedChannel") -> None:
        """Remove a channel, if it is there."""
        self._channels.pop(channel, None)
