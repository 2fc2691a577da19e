"""What the commands of the line protocol know of their client, beside its session."""

from typing import Final, final

from kvs.adapters.inbound.line.limits import LineLimits
from kvs.adapters.inbound.protocol.peer import Peer
from kvs.adapters.inbound.protocol.security import Security


@final
class LineContext:
    """One client.

    Attributes:
        limits: Limits of requests.
        peer: Who the client is.
        security: What users may run.
    """

    __slots__ = ("limits", "peer", "security")

    def __init__(self, limits: LineLimits, peer: Peer, security: Security) -> None:
        self.limits: Final = limits
        self.peer: Final = peer
        self.security: Final = security
