"""Who is connected: kept by the server, and looked at by commands about clients."""

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from kvs.adapters.inbound.client import Client


@final
class Clients:
    """The clients of one server.

    Attributes:
        connected: All of them, in order of arrival.
    """

    __slots__ = ("connected",)

    def __init__(self) -> None:
        self.connected: dict[Client, None] = {}
