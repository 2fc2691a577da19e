"""A server that stands by and leads, by turns: for engines of which one server leads."""

import asyncio
import gc
from collections.abc import Callable
from contextlib import closing
from typing import Final

from kvs.adapters.inbound.line import replies as line_replies
from kvs.adapters.inbound.net.listener import KeptSockets, TcpEndpoint
from kvs.adapters.inbound.net.relay import RelayGuard
from kvs.adapters.inbound.net.standby import StandbyServer
from kvs.adapters.inbound.protocol.connection import Connection
from kvs.adapters.inbound.protocol.detection import RESP_FIRST_BYTE
from kvs.adapters.inbound.resp import replies as resp_replies
from kvs.bootstrap import Container, run_server, shut_down
from kvs.domain.errors import StorageUnavailableError
from kvs.ports.candidate import Candidate

NO_LEADER: Final = "There is no leader at the moment. Retry."

StandBy = Callable[[tuple[str, int]], Candidate]


def serve_by_turns(container: Container, stand_by: StandBy) -> int:
    """Run a server until it is stopped; return the exit code.

    Args:
        container: The parts of each turn are like these; what they share is taken from here.
        stand_by: Returns a candidate, given the address at which this server is reached.

    Raises:
        CommandError: It can never lead, or an address cannot be listened on.
    """
    settings, log = container.settings(), container.log()
    with closing(KeptSockets(settings.host, settings.port)) as sockets:
        while True:
            with closing(stand_by(sockets.address)) as candidate:
                candidate.wall_clock, candidate.clock = container.wall_clock(), container.clock()
                host, port = sockets.address
                log.info("standing_by", host=host, port=port)
                if not asyncio.run(_standby(container, sockets, candidate).run()):
                    break
                turn = _leading(container, sockets, candidate)
                try:
                    code = run_server(turn)
                finally:
                    shut_down(turn)
                if not turn.server().lead_lost:
                    return code
            gc.collect()  # the memory of that turn: the collector may be off
    log.info("stopped", exit_code=0)
    return 0


def _standby(container: Container, sockets: KeptSockets, candidate: Candidate) -> StandbyServer:
    settings = container.settings()
    return StandbyServer(
        [TcpEndpoint(settings.host, settings.port, _no_connection, _ignore, sockets)],
        candidate,
        container.server_limits().max_clients,
        settings.max_output_bytes,
        _refusal,
        container.signals(),
        container.log(),
    )


def _leading(container: Container, sockets: KeptSockets, candidate: Candidate) -> Container:
    """Return a container for one turn."""
    turn = Container(settings=container.settings(), options=container.options())
    turn.stderr.override(container.stderr())
    turn.log.override(container.log())
    turn.signals.override(container.signals())
    turn.storage.override(candidate.storage)
    turn.topology.override(candidate.topology)
    turn.kept_sockets.override(sockets)
    turn.relays.override(RelayGuard(candidate.secret, candidate.term))
    return turn


def _refusal(opening: bytes) -> bytes:
    """Return the reply to a client while there is no leader."""
    if opening.startswith(RESP_FIRST_BYTE):
        return resp_replies.error(StorageUnavailableError(NO_LEADER))
    return line_replies.error(StorageUnavailableError.code, NO_LEADER)


def _no_connection() -> Connection:
    raise NotImplementedError  # a standby relays bytes, and has no connections


def _ignore(_: int) -> None:
    """The port of each turn is the same."""
