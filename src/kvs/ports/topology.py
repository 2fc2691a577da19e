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
        cut_off_in: The term of the leader that it cannot reach, for as long as a lease; 0: there is none.
        unreadable: What of the stored data it could not read; empty: nothing.
    """

    id: str
    host: str
    port: int
    version: str
    clock_ahead_ms: int = 0
    cut_off_in: int = 0
    unreadable: str = ""


@final
class Topology:
    """What a server knows of all of them. Others keep it up to date, by any thread; to read it never waits.

    Args:
        name: What clients of Sentinel call the data set.
        ours: This server.
        failover_ms: After how long without a sign of life a leader is replaced.

    Attributes:
        others: The other servers that run.
        copies: How many machines keep what is acknowledged, or will soon.
        term: Of the lead, an increasing number.
        clock_ahead_ms: By how much the clock of this server is ahead of the server's time; 0 if that is allowed.
        leader: Who leads, as far as this server knows; None: nobody, or it does not know.
        leader_is_silent: Nothing has been heard of the leader for so long that it can answer nothing.
        entries: Entries of the journal that this server has read, while it stands by.
        cut_off_in: The term of the leader that this server cannot reach, for as long as a lease; 0: there is none.
        unreadable: What of the stored data this server could not read; empty: nothing.
    """

    def __init__(self, name: str, ours: ServerInfo, failover_ms: int) -> None:
        self.name: Final = name.encode()
        self.ours: Final = ours
        self.failover_ms: Final = failover_ms
        self.others: tuple[ServerInfo, ...] = ()
        self.copies = 1
        self.term = 0
        self.clock_ahead_ms = 0
        self.leader: ServerInfo | None = ours
        self.leader_is_silent = False
        self.entries = 0
        self.cut_off_in = 0
        self.unreadable = ""

    @property
    def leads(self) -> bool:
        """Whether this server leads."""
        return self.leader is self.ours

    @property
    def has_leader(self) -> bool:
        """Whether there is a leader that can answer, as far as this server knows."""
        return self.leader is not None and not self.leader_is_silent

    @property
    def replicas(self) -> list[ServerInfo]:
        """The servers that stand by."""
        leader = self.leader
        if leader is self.ours:
            return [*self.others]
        return [
            server
            for server in (self.ours, *self.others)
            if leader is None or (server.host, server.port) != (leader.host, leader.port)
        ]

    def is_cut_off_in(self, term: int) -> bool:
        """Return whether more than half of all servers cannot reach this one, which leads in this term."""
        return 2 * sum([other.cut_off_in == term for other in self.others]) > 1 + len(self.others)

    def see_leader(self, host: str, port: int, term: int) -> None:
        """Note that another server leads."""
        known = [other for other in self.others if (other.host, other.port) == (host, port)]
        self.leader = known[0] if known else ServerInfo("", host, port, "")
        self.term = term
