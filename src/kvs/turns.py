"""A server that stands by and leads, by turns: for engines of which one server leads."""

import asyncio
import gc
from collections.abc import Callable
from contextlib import closing

from kvs.adapters.inbound.net.listener import KeptSockets
from kvs.adapters.inbound.net.relay import RelayGuard
from kvs.adapters.inbound.net.standby import Standby
from kvs.adapters.storage.absent import AbsentStorage
from kvs.bootstrap import Container, run_server, shut_down
from kvs.listening import bindings
from kvs.ports.candidate import Candidate
from kvs.process import thread_switching_tuned
from kvs.security import share_users

StandBy = Callable[[tuple[str, int]], Candidate]


def serve_by_turns(container: Container, stand_by: StandBy) -> int:
    """Run a server until it is stopped; return the exit code.

    Args:
        container: The parts of each turn are like these; what they share is taken from here.
        stand_by: Returns the first candidate, given the address at which this server is reached.

    Raises:
        CommandError: It can never lead, or an address cannot be listened on.
    """
    settings = container.settings()
    with closing(KeptSockets(bindings(settings))) as sockets:
        candidate = stand_by(sockets.address)
        while True:
            code = _take_turn(container, sockets, candidate)
            if code is not None:
                return code
            candidate = candidate.again()
            # The memory of that turn is in cycles of the container, and may have been exempted from the collection.
            gc.unfreeze()
            gc.collect()


def _take_turn(container: Container, sockets: KeptSockets, candidate: Candidate) -> int | None:
    """Stand by, and then lead; return the exit code, None if the lead was lost."""
    with closing(candidate):
        share_users(container.user_source(), container.users(), candidate.users)
        candidate.wall_clock, candidate.clock = container.wall_clock(), container.clock()
        host, port = sockets.address
        container.log().info("standing_by", host=host, port=port)
        for make, run in ((_standing_by, _run_standby), (_leading, run_server)):
            turn = make(container, sockets, candidate)
            try:
                code = run(turn)
            finally:
                shut_down(turn)
            if not turn.server().role_ended:
                return code
    return None


def _run_standby(turn: Container) -> int:
    standby = turn.standby()
    assert standby is not None  # noqa: S101  # for mypy
    with thread_switching_tuned():  # the candidate reads data meanwhile
        return asyncio.run(standby.run(turn.server()))


def _turn(container: Container, sockets: KeptSockets, candidate: Candidate) -> Container:
    """Return a container for one turn."""
    turn = Container(settings=container.settings(), options=container.options())
    turn.stderr.override(container.stderr())
    turn.log.override(container.log())
    turn.notifier.override(container.notifier())
    turn.audit.override(container.audit())
    turn.signals.override(container.signals())
    turn.health.override(container.health())
    turn.admin_tokens.override(container.admin_tokens())
    turn.topology.override(candidate.topology)
    turn.process_key.override(container.process_key())
    turn.user_source.override(container.user_source())
    turn.users.override(container.users())
    turn.authenticator.override(container.authenticator())
    turn.refusals.override(container.refusals())
    turn.kept_sockets.override(sockets)
    turn.tls.override(container.tls())
    turn.admin_tls.override(container.admin_tls())
    return turn


def _standing_by(container: Container, sockets: KeptSockets, candidate: Candidate) -> Container:
    turn = _turn(container, sockets, candidate)
    turn.storage.override(AbsentStorage())
    turn.relays.override(RelayGuard("", None))
    turn.standby.override(Standby(candidate, turn.clients(), turn.budget(), turn.log(), turn.relay_tls()))
    return turn


def _leading(container: Container, sockets: KeptSockets, candidate: Candidate) -> Container:
    turn = _turn(container, sockets, candidate)
    turn.storage.override(candidate.storage)
    turn.cut_off.override(candidate.cut_off)
    turn.relays.override(RelayGuard(candidate.secret, candidate.term))
    return turn
