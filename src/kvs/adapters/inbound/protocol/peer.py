"""Who a client is, for what tells others of it."""

from typing import final


@final
class Peer:
    """Who a client is.

    Attributes:
        address: Its address, as people write it; empty until its channel has set it.
        name: Its name, as it has set it.
    """

    __slots__ = ("address", "name")

    def __init__(self) -> None:
        self.address = ""
        self.name = b""
