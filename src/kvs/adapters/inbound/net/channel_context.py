"""What the channels of a server share."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from kvs.adapters.inbound.net.handshakes import Handshakes
from kvs.adapters.inbound.net.relay import RelayGuard
from kvs.adapters.inbound.net.tick import Tick
from kvs.adapters.inbound.net.timeouts import ServerLimits
from kvs.application.memory_budget import MemoryBudget
from kvs.log_type import FilteringBoundLogger

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvs.adapters.inbound.net.channel import Channel
    from kvs.adapters.inbound.net.standby import Standby
    from kvs.adapters.inbound.protocol.peer import Peer


@final
@dataclass
class ChannelContext:
    """The collaborators that all channels of a server share.

    Attributes:
        loop: The running loop.
        tick: The server's tick, in which they run and flush.
        budget: Memory budget of all clients, which includes unsent output.
        limits: Timeouts.
        relays: Admits relays of standbys; None: this server is the only one.
        handshakes: Those whose beginning is under way.
        certified: Called with a client whose certificate tells a name.
        closed: Called with a channel whose socket is closed and whose session has ended.
        log: Bound logger.
        identified: Called with the number of a session whose client is another user now.
        standby: Relays clients to the leader; None: this server answers everything.
    """

    loop: asyncio.AbstractEventLoop
    tick: Tick
    budget: MemoryBudget
    limits: ServerLimits
    relays: RelayGuard | None
    handshakes: Handshakes
    certified: "Callable[[Peer], None]"
    closed: "Callable[[Channel], None]"
    log: FilteringBoundLogger
    identified: "Callable[[int], None]"
    standby: "Standby | None" = None
