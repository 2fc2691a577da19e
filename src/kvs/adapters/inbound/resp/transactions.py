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

    __slots__ = ("_answered", "_peer", "_room_bytes")

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._begin()

    def _begin(self) -> None:
        self._answered: list[bytes] = []
        self._room_bytes = self._peer.limits.max_reply_bytes

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
            self._begin()
            raise
        self._begin()
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
                reply = command.run(session, peer, arguments)
            except KvsError as error:
                if not session.depth:
                    raise
                reply = replies.error(error)
            share -= command.cost_of(arguments) + peer.take_extra_cost()
            self._answered.append(reply)
            self._room_bytes -= len(reply)
            if self._room_bytes < 0:
                raise reply_too_large(peer.limits.max_reply_bytes)
        return self._answered


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
