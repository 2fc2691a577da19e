"""What a client tracks: which of its commands' keys are registered, and which are invalid at once."""

from typing import TYPE_CHECKING, Final, final

from kvs.adapters.inbound.protocol.tracking import KEYS_PER_UNIT
from kvs.adapters.inbound.protocol.tracking_table import Tracker
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.commands.transactions import EXEC
from kvs.domain.values import Key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvs.adapters.inbound.protocol.command import Reply, WholeReply
    from kvs.adapters.inbound.resp.command import RespCommand
    from kvs.adapters.inbound.resp.context import ClientContext
    from kvs.ports.session import Session, Steps

FEW: Final = 64
"""Keys, and queued commands, up to which they are registered in one step."""

KEYS_PER_STEP: Final = 256


@final
class ClientTracking:
    """What a client has asked for by CLIENT TRACKING.

    Attributes:
        tracker: It, in the table.
        opts_in: Only keys after CLIENT CACHING YES are tracked.
        opts_out: Keys after CLIENT CACHING NO are not tracked.
        is_exception: CLIENT CACHING stands before the command, or before the transaction that MULTI has begun.
    """

    __slots__ = ("is_exception", "opts_in", "opts_out", "tracker")

    def __init__(self, number: int) -> None:
        self.tracker: Final = Tracker(number)
        self.opts_in = False
        self.opts_out = False
        self.is_exception = False

    def applies(self) -> bool:
        """Return whether what the next command reads is tracked."""
        return self.is_exception if self.opts_in else not (self.opts_out and self.is_exception)

    def run(
        self, command: "RespCommand", session: "Session", context: "ClientContext", request: list[bytes]
    ) -> "Reply":
        """Run a command, and register the keys that it reads."""
        tracker = self.tracker
        is_read = command.reads_keys and (session.depth > 0 or not tracker.is_broadcast)
        if not (is_read or (command is EXEC and not tracker.is_broadcast)):
            return command.run(session, context, request)
        if _is_long(context, request):
            return _run_in_steps(tracker, command, session, context, request)
        keys = list(_keys_read(command, context, request))
        session.work.left -= context.shared.tracking.register(tracker, keys)
        reply = command.run(session, context, request)
        if isinstance(reply, (bytes, list)):
            if session.depth:
                stale = [key for key in keys if tracker.covers(key) and not session.shows_newest(key)]
                context.stale = replies.invalidation(stale) if stale else b""
            return reply
        return _finish(tracker, reply, keys, session, context)


def _is_long(context: "ClientContext", request: list[bytes]) -> bool:
    """Return whether there may be more than a few keys: in the request, or in the queue that EXEC runs."""
    queue = context.queue
    if queue is None or len(queue) > FEW:
        return queue is not None or len(request) > FEW
    return sum([len(arguments) for arguments in queue]) > FEW


def _run_in_steps(
    tracker: Tracker, command: "RespCommand", session: "Session", context: "ClientContext", request: list[bytes]
) -> "Steps[WholeReply]":
    """Do the same for many keys."""
    work = session.work
    shared = context.shared.tracking
    keys: list[Key] = []
    some: list[Key] = []
    for key in _keys_read(command, context, request):
        some.append(key)
        if len(some) < KEYS_PER_STEP:
            continue
        work.left -= shared.register(tracker, some)
        keys += some
        some = []
        if work.left <= 0:
            yield
    work.left -= shared.register(tracker, some)
    keys += some
    reply = command.run(session, context, request)
    steps = _whole(reply) if isinstance(reply, (bytes, list)) else reply
    return (yield from _finish(tracker, steps, keys, session, context))


def _whole(reply: "WholeReply") -> "Steps[WholeReply]":
    return reply
    yield


def _finish(
    tracker: Tracker,
    steps: "Steps[bytes] | Steps[WholeReply]",
    keys: list[Key],
    session: "Session",
    context: "ClientContext",
) -> "Steps[WholeReply]":
    """Run a command to its end, and invalidate at once what it has read from a transaction that is not the newest."""
    reply = yield from steps
    if not session.depth:
        return reply
    work = session.work
    stale: list[Key] = []
    encoded: list[bytes] = []
    for at, key in enumerate(keys):
        if tracker.covers(key) and not session.shows_newest(key):
            stale.append(key)
        if at % KEYS_PER_STEP == KEYS_PER_STEP - 1 or at == len(keys) - 1:
            if stale:
                encoded.append(replies.invalidation(stale))
                stale = []
            work.left -= KEYS_PER_STEP // KEYS_PER_UNIT
            if work.left <= 0:
                yield
    context.stale = b"".join(encoded)
    return reply


def _keys_read(command: "RespCommand", context: "ClientContext", request: list[bytes]) -> "Iterator[Key]":
    """Yield the keys that a command reads: by the table of commands, those of all that only read."""
    if context.queue is None:
        yield from command.keys(request)
        return
    for queued, arguments in zip(context.queued_commands, context.queue, strict=True):  # it is EXEC
        if queued.reads_keys:
            yield from queued.keys(arguments)
