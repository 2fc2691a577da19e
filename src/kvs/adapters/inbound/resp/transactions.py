"""Transactions, both ways: those of Redis, which queue commands, and those of kvs, which are interactive and nest.

What MULTI queues becomes one transaction at EXEC, which depends on the baselines of WATCH. The two ways do not mix:
each refuses to begin inside the other.
"""

from typing import Final, final

from kvs.adapters.inbound.messages import conflict_message
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.keyspace import MANY_KEYS, NO_KEYS
from kvs.adapters.inbound.resp.peer import AT_ONCE, REFUSED, Command, Peer
from kvs.application.units import reply_too_large
from kvs.domain.errors import KvsError, UsageError
from kvs.domain.transaction import Committed, Conflict
from kvs.ports.inbound import Session, Unfinished

EXECABORT: Final = b"-EXECABORT Transaction discarded because of previous errors.\r\n"


@final
class QueuedCommands:
    """The unit that EXEC runs: each command has a reply of its own, an error too, and the others go on."""

    __slots__ = ("_peer",)

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

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
        """
        peer = self._peer
        answered: list[bytes] = []
        room_bytes = peer.limits.max_reply_bytes
        for command, arguments in peer.queue or ():
            reply = b""
            while not reply:
                try:
                    reply = command.run(session, peer, arguments)
                except Unfinished:
                    continue  # nobody else may have a turn before EXEC is answered
                except KvsError as error:
                    if not session.depth:
                        raise
                    reply = replies.error(error)
            answered.append(reply)
            room_bytes -= len(reply)
            if room_bytes < 0:
                raise reply_too_large(peer.limits.max_reply_bytes)
        return answered


def _multi(session: Session, peer: Peer, _: list[bytes]) -> bytes:
    if peer.queue is not None:
        raise UsageError("MULTI calls can not be nested")
    if session.depth:
        raise UsageError("MULTI inside a transaction that START opened; COMMIT or ROLLBACK ends it.")
    peer.queue = []
    return replies.OK


def _exec(session: Session, peer: Peer, _: list[bytes]) -> bytes:
    if peer.queue is None:
        raise UsageError("EXEC without MULTI")
    if peer.spoiled:
        session.unwatch()
        peer.end_queue()
        return EXECABORT
    try:
        answer = session.execute(QueuedCommands(peer))
    except KvsError:
        peer.end_queue()
        raise
    peer.end_queue()
    return peer.dialect.null_array if isinstance(answer, Conflict) else replies.array(answer)


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


GROUP: Final = "transactions"

COMMANDS: Final[list[Command]] = [
    Command("multi", _multi, 1, "noscript fast", NO_KEYS, GROUP, "Begins a queue of commands.", in_queue=AT_ONCE),
    Command(
        "exec",
        _exec,
        1,
        "noscript",
        NO_KEYS,
        GROUP,
        "Runs the queue as one transaction, if nothing watched has changed.",
        in_queue=AT_ONCE,
        runs_always=True,
    ),
    Command(
        "discard",
        _discard,
        1,
        "noscript fast",
        NO_KEYS,
        GROUP,
        "Drops the queue.",
        in_queue=AT_ONCE,
        runs_always=True,
    ),
    Command(
        "watch",
        _watch,
        -2,
        "noscript fast",
        MANY_KEYS,
        GROUP,
        "Makes the next EXEC depend on keys.",
        in_queue=AT_ONCE,
    ),
    Command("unwatch", _unwatch, 1, "noscript fast", NO_KEYS, GROUP, "Forgets what is watched.", runs_always=True),
    Command(
        "start",
        _start,
        -1,
        "noscript fast",
        NO_KEYS,
        GROUP,
        "Opens a transaction, or one nested in it; READONLY: to read in.",
        in_queue=REFUSED,
    ),
    Command(
        "commit",
        _commit,
        1,
        "noscript",
        NO_KEYS,
        GROUP,
        "Keeps the innermost; the outermost is applied, or answers CONFLICT.",
        in_queue=REFUSED,
        runs_always=True,
    ),
    Command(
        "rollback",
        _rollback,
        1,
        "noscript fast",
        NO_KEYS,
        GROUP,
        "Undoes the innermost.",
        in_queue=REFUSED,
        runs_always=True,
    ),
]
