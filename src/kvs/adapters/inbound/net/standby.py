"""What a server does while it stands by: it answers what is about itself, and relays the rest to the leader.

Its connections are those of any server, without data. One that comes upon a request which only the leader can answer
hands its client over: :mod:`kvs.adapters.inbound.net.relayed`.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Final, final

from kvs.adapters.inbound.net.certificates import ClientTls
from kvs.adapters.inbound.net.opening import open_relay
from kvs.adapters.inbound.net.reasons import LEADER_CHANGED
from kvs.adapters.inbound.net.registry import ChannelRegistry
from kvs.adapters.inbound.net.relay import preamble
from kvs.adapters.inbound.net.relayed import RelayedConnection
from kvs.adapters.inbound.net.upstream import Upstream
from kvs.adapters.inbound.protocol.client_state import ClientState
from kvs.adapters.inbound.protocol.connection import Connection
from kvs.addresses import format_address
from kvs.application.memory_budget import MemoryBudget
from kvs.domain.errors import LimitError, StorageUnavailableError
from kvs.errors import CommandError
from kvs.log_type import FilteringBoundLogger
from kvs.lookup import Lookups
from kvs.ports.candidate import Candidate, Leader

if TYPE_CHECKING:
    from kvs.adapters.inbound.net.server import Server

TRY_AGAIN_S: Final = 0.5
"""Time between two attempts to reach a leader that could not be reached: clients may have gone elsewhere."""

NO_LEADER: Final = "There is no leader at the moment. Retry."
UNREACHABLE: Final = "The leader cannot be reached from this server. Retry, or use another one."


@final
class Standby:
    """Waits for the lead, and relays clients meanwhile.

    Args:
        candidate: Waits for the lead.
        clients: The clients of this server.
        budget: Memory budget of all clients.
        log: Bound logger.
        tls: Secures connections to a leader that requires it.
    """

    def __init__(
        self,
        candidate: Candidate,
        clients: ChannelRegistry,
        budget: MemoryBudget,
        log: FilteringBoundLogger,
        tls: ClientTls,
    ) -> None:
        self._candidate = candidate
        self._topology = candidate.topology
        self._clients = clients
        self._budget = budget
        self._log = log
        self._tls = tls
        self._lookups = Lookups()
        self._leader: Leader | None = None
        self._told: tuple[str, int] | None = None  # where the last leader was that clients know
        self._relays: Final[set[RelayedConnection]] = set()
        self._failure: BaseException | None = None
        self._reached = True
        self._search: asyncio.Task[None] | None = None  # for a leader that could not be reached

    async def run(self, server: "Server") -> int:
        """Run a server until this one leads, or is stopped; return the exit code.

        Raises:
            CommandError: It can never lead, or an address cannot be listened on.
        """
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._topology.leader = None
        waiting = Thread(target=self._wait, name="kvs-candidate", daemon=True)
        server.when_stopping(self._candidate.stop)
        self._candidate.when_leader_changes(lambda: self._post(self._follow))
        waiting.start()
        try:
            code = await server.run()
        finally:
            self._end_search()
            if not server.role_ended:
                self._candidate.stop()
            await self._loop.run_in_executor(None, waiting.join)
        if self._failure is not None:
            raise self._failure
        return code

    def relay(self, connection: Connection, address: str) -> RelayedConnection | None:
        """Return the connection that goes on in place of one; None if that has been refused, as there is no leader.

        Args:
            connection: It has come upon a request of the leader's.
            address: Of the client.
        """
        leader = self._leader
        if leader is None:
            connection.refuse(StorageUnavailableError(NO_LEADER))
            return None
        relayed = RelayedConnection(connection, self._budget, self._relays.discard)
        self._relays.add(relayed)
        relayed.connect_by(self._loop.create_task(self._connect(relayed, leader, address)))
        return relayed

    async def _connect(self, relayed: RelayedConnection, leader: Leader, address: str) -> None:
        """Connect to the leader; if that fails, the request is refused."""
        first = preamble(self._candidate.secret, leader.term, address, relayed.state())
        place = format_address((leader.host, leader.port))
        try:
            opened = await open_relay(leader, first, self._lookups, self._tls)
        except LimitError as error:
            relayed.connect_by(None)
            relayed.give_back(error)
            self._note_reach(leader, reached=True)
            return
        except (OSError, CommandError) as error:
            relayed.connect_by(None)
            relayed.give_back(StorageUnavailableError(UNREACHABLE))
            if self._note_reach(leader, reached=False):
                self._search = self._loop.create_task(self._search_for(leader))
                self._log.warning("leader_unreachable", leader=place, reason=str(error) or "nobody answers")
            return
        relayed.connected(Upstream(self._loop, opened.sock, relayed.take, relayed.drained, opened.tls))
        if opened.received:
            relayed.take(opened.received)
        self._note_reach(leader, reached=True)
        self._log.info("client_relayed", peer=address, session=relayed.session.id, leader=place)

    def _note_reach(self, leader: Leader, *, reached: bool) -> bool:
        """Note whether the leader could be reached; return whether that has changed."""
        changed = leader == self._leader and self._reached != reached
        if changed:
            self._reached = reached
            self._end_search()
        return changed

    async def _search_for(self, leader: Leader) -> None:
        """Try to reach the leader again. If that fails for as long as a lease, complain, so that another one leads."""
        complains_s = self._loop.time() + self._topology.failover_ms / 1000
        ours = self._topology.ours
        first = preamble(self._candidate.secret, leader.term, format_address((ours.host, ours.port)), ClientState())
        while True:
            await asyncio.sleep(TRY_AGAIN_S)
            try:
                (await open_relay(leader, first, self._lookups, self._tls)).sock.close()
            except LimitError:
                self._note_reach(leader, reached=True)
            except (OSError, CommandError):
                if self._loop.time() >= complains_s:
                    self._topology.cut_off_in = leader.term
            else:
                self._note_reach(leader, reached=True)

    def _end_search(self) -> None:
        self._topology.cut_off_in = 0
        search, self._search = self._search, None
        if search is not None:
            search.cancel()

    # The lead.

    def _wait(self) -> None:
        """Wait for the lead. By a thread."""
        try:
            self._candidate.wait()
        except BaseException as error:  # noqa: BLE001  # the loop raises it
            self._failure = error
        self._post(self._end)

    def _post(self, callback: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(callback)

    def _follow(self) -> None:
        """Relay to another leader from now on; those that were relayed to the former one are closed."""
        leader = self._candidate.leader
        if leader == self._leader:
            return
        self._server.keep_house()  # users are known now, and count before anyone is relayed
        self._leader = leader
        self._reached = True
        self._end_search()
        if leader is None:
            self._topology.leader = None
        else:
            self._topology.see_leader(leader.host, leader.port, leader.term)
            self._tell(leader.host, leader.port)
        for relayed in list(self._relays):
            if relayed.connecting:
                relayed.give_back(StorageUnavailableError(NO_LEADER))
            else:
                relayed.end(LEADER_CHANGED)

    def _end(self) -> None:
        """End the server: this one leads, or can never lead."""
        if self._candidate.storage is not None:
            ours = self._topology.ours
            self._topology.leader = ours
            self._tell(ours.host, ours.port)
        self._server.end()

    def _tell(self, host: str, port: int) -> None:
        """Tell clients that ask for it who leads."""
        former, self._told = self._told, (host, port)
        if former is not None and former != self._told:
            for channel in list(self._clients.channels.values()):
                channel.connection.tell_of_leader(former, self._told)
