"""Transactions, both ways: those of Redis, which queue commands, and those of kvs, which are interactive and nest.

What MULTI queues becomes one transaction at EXEC, which depends on the baselines of WATCH. The two ways do not mix:
each refuses to begin inside the other.
"""

from typing import Final, final

from kvs.adapters.inbound.protocol.messages import conflict_message
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.context import AT_ONCE, BEHIND, REFUSED, Command, Peer
from kvs.adapters.inbound.resp.wording import as_bytes
from kvs.application.operations import reply_too_large
from kvs.domain.commit import Committed, Conflict
from kvs.domain.errors import KvsError, UsageError
from kvs.ports.session import Session, Unfinished

LATER: Final = b"later"
"""Stands for the reply of a command that is run behind the transaction."""

EXECABORT: Final = b"-EXECABORT Transaction discarded because of previous errors.\r\n"


@final
class QueuedCommands:
    """The unit that EXEC runs: each command has a reply of its own, an error too, and the others go on."""

    __slots__ = ("_answered", "_peer", "_room_bytes")

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._answered: list[bytes] = []
        self._room_bytes = peer.limits.max_reply_bytes

    def _end(self) -> None:
        """Be as at the beginning: this may be run again."""
        self._answered = []
        self._room_bytes = self._peer.limits.max_reply_bytes
        self._peer.dialect = self._peer.queue_dialect

    def __eq__(self, other: object) -> bool:
        """Compare whose queue it is: a client has one at a time."""
        return isinstance(other, QueuedCommands) and self._peer is other._peer

    def __hash__(self) -> int:
        """Follow ``__eq__``."""
        return id(self._peer)

    def __call__(self, session: Session) -> list[bytes]:
        """Return the replies.

        Raises:
            KvsError: From the engine, which ended the transaction.
            LimitError: The replies together are longer than one may be.
            Unfinished: It has done a share.
        """
        try:
            answered = self._answer_all(session)
        except KvsError:
            self._end()
            raise
        self._end()
        return answered

    def _answer_all(self, session: Session) -> list[bytes]:
        peer = self._peer
        queue = peer.queue or []
        share = peer.limits.max_tick_requests
        for at in range(len(self._answered), len(queue)):
            if share <= 0:
                raise Unfinished
            command, arguments = queue[at]
            try:
                reply = self._answer(session, command, arguments)
            except KvsError as error:
                if not session.depth:
                    raise
                reply = replies.error(error)
            share -= 1 if reply == LATER else command.cost_of(arguments) + peer.take_extra_cost()
            self._answered.append(reply)
            self._room_bytes -= len(reply)
            if self._room_bytes < 0:
                raise reply_too_large(peer.limits.max_reply_bytes)
        return self._answered

    def _answer(self, session: Session, command: Command, arguments: list[bytes]) -> bytes:
        peer = self._peer
        if command.in_queue != BEHIND:
            return command.run(session, peer, arguments)
        if command.name == b"hello":  # for what follows is answered in its version of the protocol
            name = peer.name
            try:
                command.run(session, peer, arguments)
            except KvsError:  # which it will raise again
                pass
            finally:
                peer.name = name
        return LATER


def _multi(session: Session, peer: Peer, _: list[bytes]) -> bytes:
    if peer.queue is not None:
        raise UsageError("MULTI calls can not be nested")
    if session.depth:
        raise UsageError("MULTI inside a transaction that START opened; COMMIT or ROLLBACK ends it.")
    peer.queue = []
    peer.queue_dialect = peer.dialect
    return replies.OK


def _exec(session: Session, peer: Peer, _: list[bytes]) -> bytes:
    if peer.queue is None:
        raise UsageError("EXEC without MULTI")
    if peer.spoiled:
        session.unwatch()
        peer.end_queue()
        return EXECABORT
    if peer.answered is None:
        try:
            answer = session.execute(QueuedCommands(peer))
        except KvsError:
            peer.dialect = peer.queue_dialect
            peer.end_queue()
            raise
        peer.dialect = peer.queue_dialect  # a HELLO in the queue has its turn now
        if isinstance(answer, Conflict):
            peer.end_queue()
            return peer.dialect.null_array
        peer.answered = answer
    answered = peer.answered
    _run_behind(session, peer, answered)
    peer.end_queue()
    return replies.array(answered)


def _run_behind(session: Session, peer: Peer, answered: list[bytes]) -> None:
    """Run what is queued and no part of the transaction, which has been applied.

    Raises:
        Unfinished: It has done a share.
    """
    room_bytes = peer.limits.max_reply_bytes - sum([len(reply) for reply in answered])
    share = peer.limits.max_tick_requests
    for at, (command, arguments) in enumerate(peer.queue or []):
        if answered[at] != LATER:
            continue
        if share <= 0:
            raise Unfinished
        share -= command.cost_of(arguments)
        try:
            reply = command.run(session, peer, arguments) if room_bytes > 0 else b""
        except KvsError as error:
            reply = replies.error(error)
        room_bytes -= len(reply)
        answered[at] = reply if room_bytes > 0 else replies.error(reply_too_large(peer.limits.max_reply_bytes))


def abort(session: Session, peer: Peer, error: KvsError) -> bytes:
    """Return the reply to an EXEC that is not one, as with an argument; it ends the queue and what is watched."""
    if not session.depth:
        session.unwatch()
    peer.end_queue()
    return replies.failure("EXECABORT", as_bytes(f"Transaction discarded because of: {error}"))


def _discard(session: Session, peer: Peer, _: list[bytes]) -> bytes:
    if peer.queue is None:
        raise UsageError("DISCARD without MULTI")
    session.unwatch()
    peer.end_queue()
    return replies.OK


def _watch(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    if peer.queue is not None:
        raise UsageError("WATCH inside MULTI is not allowed")
    session.watch(tuple(arguments[1:]))
    return replies.OK


def _unwatch(session: Session, _: Peer, __: list[bytes]) -> bytes:
    if not session.depth:  # as when a queue is run, or there is nothing to forget
        session.unwatch()
    return replies.OK


def _start(session: Session, _: Peer, arguments: list[bytes]) -> bytes:
    if len(arguments) > 2 or (len(arguments) == 2 and arguments[1].upper() != b"READONLY"):
        raise UsageError("START takes nothing after it but READONLY: START [READONLY].")
    session.start(read_only=len(arguments) == 2)
    return replies.OK


def _commit(session: Session, _: Peer, __: list[bytes]) -> bytes:
    answer = session.commit()
    if isinstance(answer, Committed):
        return replies.OK
    return replies.failure("CONFLICT", conflict_message(answer).encode())


def _rollback(session: Session, _: Peer, __: list[bytes]) -> bytes:
    session.rollback()
    return replies.OK


COMMANDS: Final[list[Command]] = [
    Command("multi", _multi, in_queue=AT_ONCE),
    Command("exec", _exec, in_queue=AT_ONCE, runs_always=True),
    Command("discard", _discard, in_queue=AT_ONCE, runs_always=True),
    Command("watch", _watch, in_queue=AT_ONCE),
    Command("unwatch", _unwatch, runs_always=True),
    Command("start", _start, in_queue=REFUSED),
    Command("commit", _commit, in_queue=REFUSED, runs_always=True),
    Command("rollback", _rollback, in_queue=REFUSED, runs_always=True),
]
