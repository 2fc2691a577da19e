"""Who is connected: kept by the server, and looked at by commands about clients."""

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from kvs.adapters.inbound.net.channel import Client


@final
class Clients:
    """The clients of one server.

    Attributes:
        connected: All of them, in order of arrival.
        arrived: How many there have been, but for those that were refused.
        refused: How many have been, for there were too many.
        ended_requests: Number of requests that those ran who have left.
    """

    __slots__ = ("arrived", "connected", "ended_requests", "refused")

    def __init__(self) -> None:
        self.connected: dict[Client, None] = {}
        self.arrived = 0
        self.refused = 0
        self.ended_requests = 0

    def requests(self) -> int:
        """Return how many requests have been run. O(clients)."""
        return self.ended_requests + sum([client.connection.requests for client in self.connected])
