"""The servers of one data set, for clients that ask for roles."""

from typing import Final, NamedTuple, final


class ServerInfo(NamedTuple):
    """A server.

    Attributes:
        id: 40 hexadecimal digits, chosen at random.
        host: Where others reach it.
        port: The port there.
        version: Of kvs.
        clock_ahead_ms: By how much its clock is ahead of the server's time; 0 if that is allowed.
    """

    id: str
    host: str
    port: int
    version: str
    clock_ahead_ms: int = 0


@final
class Topology:
    """What the server that leads knows. The engine keeps it up to date, by any thread; to read it never waits.

    Args:
        name: What clients of Sentinel call the data set.
        ours: This server.
        failover_ms: After how long without a sign of life a leader is replaced.

    Attributes:
        others: The other servers that run.
        copies: How many machines keep what is acknowledged, or will soon.
        term: Of the lead, an increasing number.
        clock_ahead_ms: By how much the clock of this server is ahead of the server's time; 0 if that is allowed.
    """

    def __init__(self, name: str, ours: ServerInfo, failover_ms: int) -> None:
        self.name: Final = name.encode()
        self.ours: Final = ours
        self.failover_ms: Final = failover_ms
        self.others: tuple[ServerInfo, ...] = ()
        self.copies = 1
        self.term = 0
        self.clock_ahead_ms = 0
