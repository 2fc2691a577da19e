"""Both kinds of transactions: Redis's, which queue commands, and kvs's, which are interactive and nest.

EXEC runs the commands queued since MULTI as one transaction, which depends on the keys of WATCH. The two kinds do not
mix: neither can begin inside the other.
"""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Final

from kvs.adapters.inbound.protocol.command import (
    BEGINS,
    KEY,
    OTHER,
    Reply,
    WholeReply,
    everywhere,
    in_frame,
    in_transaction,
    without_snapshot,
)
from kvs.adapters.inbound.protocol.messages import conflict_message
from kvs.adapters.inbound.protocol.run_loop import ANY_THREAD, LOOP, WORKER
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import AFTER_EXEC, IMMEDIATE, REFUSED, RespCommand
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.adapters.inbound.resp.pieces import PIECE_BYTES, Pieces
from kvs.adapters.inbound.resp.wording import as_bytes
from kvs.domain.commit import Committed, Conflict
from kvs.domain.errors import ForbiddenError, KvsError, ResultTooLargeError, UsageError
from kvs.ports.session import Session, Steps, Work

LATER: Final = b"later"
"""Stands for the reply of a command that is run after the transaction."""

SHORT_QUEUE: Final = 32
"""Longest queue that is run in one step if its commands allow it."""

EXECABORT: Final = b"-EXECABORT Transaction discarded because of previous errors.\r\n"


def _multi(session: Session, context: ClientContext, _: list[bytes]) -> bytes:
    if context.queue is not None:
        raise UsageError("MULTI calls can not be nested")
    if session.depth:
        raise UsageError("MULTI inside a transaction that START opened; COMMIT or ROLLBACK ends it.")
    context.queue = []
    context.queue_protocol = context.protocol
    user = context.peer.user
    context.queue_generation = 0 if user is None else user.generation
    return replies.OK


def _exec(session: Session, context: ClientContext, _: list[bytes]) -> Reply:
    if context.abort_reason is not None:
        return _abort(session, context, context.abort_reason)
    if context.queue is None:
        raise UsageError("EXEC without MULTI")
    if context.dirty:
        session.unwatch()
        context.discard()
        return EXECABORT
    if len(context.queue) <= SHORT_QUEUE:
        spent_s: list[float] = []
        try:
            outcome = session.execute_at_once(partial(_run_short_queue, context, context.queue, spent_s))
        except BaseException:
            context.discard()
            raise
        if outcome is not None:
            if isinstance(outcome, Conflict):
                context.discard()
                return context.protocol.null_array
            size = 0
            for at, reply in enumerate(outcome):
                size += len(reply)
                session.work.left -= _observe(context, at, context.queue[at], spent_s[at], reply)
            context.discard()
            return replies.array(outcome) if size <= PIECE_BYTES else _in_pieces(session.work, outcome)
    return _execute(session, context, context.queue)


def _observe(context: ClientContext, at: int, request: list[bytes], spent_s: float, reply: WholeReply) -> int:
    """Tell of a queued command that has been run; return the units of work that took."""
    command = context.queued_commands[at]
    error = replies.error_code(reply if isinstance(reply, bytes) else reply[0])
    return context.shared.observation.ran(context.peer, command, request, spent_s, error)


def _run_short_queue(
    context: ClientContext, queue: list[list[bytes]], spent_s: list[float], session: Session
) -> list[bytes] | None:
    """Return the replies to queued commands, and how long each took; None if one of them takes more than a step."""
    timer = context.shared.observation.timer
    commands = context.queued_commands
    work = session.work
    results: list[bytes] = []
    room_bytes = context.limits.max_reply_bytes
    for at in range(len(queue)):
        command = commands[at]
        if command.multi_policy == AFTER_EXEC or work.left <= 0:
            return None
        began_s = timer()
        try:
            _check_again(context, command, queue[at])
            reply = command.run(session, context, queue[at])
        except KvsError as error:
            reply = replies.error(error)
        spent_s.append(timer() - began_s)
        if not isinstance(reply, bytes) or not session.depth:
            return None
        results.append(reply)
        room_bytes -= len(reply)
        work.left -= 1 + command.cost_of(queue[at])
    return results if room_bytes >= 0 else None


def _execute(session: Session, context: ClientContext, queue: list[list[bytes]]) -> Steps[WholeReply]:
    """Run the queue as one transaction."""
    spent_s: list[float] = []
    try:
        outcome = yield from session.execute(partial(_run_queue, context, queue, spent_s))
        if isinstance(outcome, Conflict):
            return context.protocol.null_array
        if LATER in outcome:
            yield from _run_after(session, context, queue, spent_s, outcome)
        for at, reply in enumerate(outcome):
            session.work.left -= 1 + _observe(context, at, queue[at], spent_s[at], reply)
            if session.work.left <= 0:
                yield
        return (yield from _in_pieces(session.work, outcome))
    finally:
        context.wanted_thread = ANY_THREAD
        context.discard()


def _run_queue(
    context: ClientContext, queue: list[list[bytes]], spent_s: list[float], session: Session
) -> Steps[list[WholeReply]]:
    """Return the replies to the queued commands, and how long each took; the error of one does not stop the others.

    Raises:
        KvsError: From the engine, which ended the transaction.
        LimitError: The replies together are longer than allowed, or the clients together hold all that they may.
    """
    work = session.work
    room_bytes = context.limits.max_reply_bytes
    held_bytes = 0
    results: list[WholeReply] = []
    timer = context.shared.observation.timer
    spent_s.clear()  # it may be run again
    try:
        for at, arguments in enumerate(queue):
            command = context.queued_commands[at]
            postponed = command.multi_policy == AFTER_EXEC
            work.left -= 1 if postponed else 1 + command.cost_of(arguments)
            if work.left <= 0:
                yield
            spent_s.append(-timer())
            reply: WholeReply
            try:
                if postponed:
                    reply = _postpone(session, context, command, arguments)
                else:
                    _check_again(context, command, arguments)
                    result = command.run(session, context, arguments)
                    if isinstance(result, (bytes, list)):
                        reply = result
                    else:
                        reply = yield from _timed(result, spent_s, at, timer)
            except KvsError as error:
                if not session.depth:
                    raise
                reply = replies.error(error)
            spent_s[at] = 0.0 if postponed else spent_s[at] + timer()
            results.append(reply)
            size = _length(reply)
            room_bytes -= size
            if room_bytes < 0:
                raise ResultTooLargeError(context.limits.max_reply_bytes)
            work.held_bytes = held_bytes  # what the command has held is its reply now
            held_bytes += size
            work.hold(size)
        return results
    finally:
        context.protocol = context.queue_protocol  # this may be run again; and a HELLO is run after EXEC


def _length(reply: WholeReply) -> int:
    return len(reply) if isinstance(reply, bytes) else sum([len(piece) for piece in reply])


def _in_pieces(work: Work, results: Sequence[WholeReply]) -> Steps[WholeReply]:
    """Return the reply to EXEC; large parts of it are not copied."""
    pieces = Pieces(work)
    pieces.add(b"*%d\r\n" % len(results))
    for reply in results:
        if isinstance(reply, bytes):
            pieces.add(reply)
        else:
            for piece in reply:
                pieces.add(piece)
        if work.left <= 0:
            yield
    return pieces.end()


def _check_again(context: ClientContext, command: RespCommand, arguments: list[bytes]) -> None:
    """Check the grants for a queued command, if they have changed since MULTI.

    Raises:
        ForbiddenError: The user has none for it any more.
    """
    user = context.peer.user
    if user is not None and user.generation == context.queue_generation:
        return
    try:
        context.shared.security.check_again(command, arguments, context.peer)
    except ForbiddenError as error:
        raise ForbiddenError(error.reason, CHANGED + LACKS[error.reason]) from None


CHANGED: Final = (
    "ACLs rules changed between the moment the transaction was accumulated and the EXEC call. "
    "This command is no longer allowed for the following reason: "
)
LACKS: Final = {
    "command": "no permission to execute the command or subcommand",
    "key": "no permission to touch the specified keys",
}


def _timed(
    steps: Steps[bytes] | Steps[WholeReply], spent_s: list[float], at: int, timer: Callable[[], float]
) -> Generator[None, None, WholeReply]:
    """Run a command, and take from its duration the time in which others are served."""
    try:
        while True:
            next(steps)
            spent_s[at] += timer()
            yield
            spent_s[at] -= timer()
    except StopIteration as end:
        reply: WholeReply = end.value
        return reply
    finally:
        steps.close()


def _postpone(session: Session, context: ClientContext, command: RespCommand, arguments: list[bytes]) -> bytes:
    """Defer a command until after EXEC; but replies after a HELLO are already in its protocol."""
    if command.name == b"hello":
        name, tracking = context.peer.name, context.tracking
        context.tracking = None  # so that it does not end now
        try:
            command.run(session, context, arguments)
        except KvsError:  # raised again when it is run
            pass
        finally:
            context.peer.name = name
            context.tracking = tracking
    return LATER


def _run_after(
    session: Session,
    context: ClientContext,
    queue: list[list[bytes]],
    spent_s: list[float],
    results: list[WholeReply],
) -> Steps[None]:
    """Run the queued commands that are not part of the transaction, after it has been applied."""
    work = session.work
    timer = context.shared.observation.timer
    room_bytes = context.limits.max_reply_bytes - sum([_length(reply) for reply in results])
    for at, arguments in enumerate(queue):
        if results[at] != LATER:
            continue
        command = context.queued_commands[at]
        work.left -= command.cost_of(arguments)
        context.wanted_thread = LOOP if command.on_loop else WORKER
        yield
        reply: WholeReply = b""
        spent_s[at] = -timer()
        try:
            if room_bytes > 0:
                _check_again(context, command, arguments)
                result = command.run(session, context, arguments)
                if isinstance(result, (bytes, list)):
                    reply = result
                else:
                    reply = yield from _timed(result, spent_s, at, timer)
        except KvsError as error:
            reply = replies.error(error)
        spent_s[at] += timer()
        room_bytes -= _length(reply)
        results[at] = reply if room_bytes > 0 else replies.error(ResultTooLargeError(context.limits.max_reply_bytes))


def _abort(session: Session, context: ClientContext, error: KvsError) -> bytes:
    """Return the reply to an EXEC that the gate refused, as for an argument; discard the queue and the watches."""
    context.abort_reason = None
    if not session.depth:
        session.unwatch()
    context.discard()
    return replies.error_line("EXECABORT", as_bytes(f"Transaction discarded because of: {error}"))


def _discard(session: Session, context: ClientContext, _: list[bytes]) -> bytes:
    if context.queue is None:
        raise UsageError("DISCARD without MULTI")
    session.unwatch()
    context.discard()
    return replies.OK


def _watch(session: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    if context.queue is not None:
        raise UsageError("WATCH inside MULTI is not allowed")
    session.watch(arguments[1:])
    return replies.OK


def _unwatch(session: Session, _: ClientContext, __: list[bytes]) -> bytes:
    if not session.depth:  # not when a queue is run
        session.unwatch()
    return replies.OK


def _start(session: Session, _: ClientContext, arguments: list[bytes]) -> bytes:
    if len(arguments) > 2 or (len(arguments) == 2 and arguments[1].upper() != b"READONLY"):
        raise UsageError("START takes nothing after it but READONLY: START [READONLY].")
    session.start(read_only=len(arguments) == 2)
    return replies.OK


def _commit(session: Session, context: ClientContext, _: list[bytes]) -> Reply:
    preparing = session.prepare_commit()
    return _outcome(session, context) if preparing is None else _commit_after(session, context, preparing)


def _commit_after(session: Session, context: ClientContext, preparing: Steps[None]) -> Steps[bytes]:
    yield from preparing
    return _outcome(session, context)


def _outcome(session: Session, context: ClientContext) -> bytes:
    outcome = session.commit()
    if isinstance(outcome, Committed):
        return replies.OK
    return replies.error_line("CONFLICT", conflict_message(outcome, context.peer.grants).encode())


def _rollback(session: Session, _: ClientContext, __: list[bytes]) -> bytes:
    session.rollback()
    return replies.OK


EXEC: Final = RespCommand("exec", _exec, multi_policy=IMMEDIATE, runs_when_full=True)

COMMANDS: Final[list[RespCommand]] = [
    RespCommand("multi", _multi, multi_policy=IMMEDIATE, is_local=everywhere, on_standby=BEGINS),
    EXEC,
    RespCommand("discard", _discard, multi_policy=IMMEDIATE, is_local=without_snapshot, runs_when_full=True),
    RespCommand("watch", _watch, (KEY,), 1, multi_policy=IMMEDIATE, on_standby=BEGINS),
    RespCommand("unwatch", _unwatch, is_local=without_snapshot, runs_when_full=True),
    RespCommand("start", _start, (OTHER,), 1, multi_policy=REFUSED, is_local=in_transaction, on_standby=BEGINS),
    RespCommand("commit", _commit, multi_policy=REFUSED, is_local=in_frame, runs_when_full=True),
    RespCommand("rollback", _rollback, multi_policy=REFUSED, is_local=in_frame, runs_when_full=True),
]
