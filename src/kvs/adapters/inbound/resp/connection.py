"""A connection in RESP. ``docs/protocol.md`` is its reference."""

from functools import partial
from typing import TYPE_CHECKING, cast, final

from kvs.adapters.inbound.protocol.base_connection import UNBOUNDED
from kvs.adapters.inbound.protocol.client_info import ClientInfo
from kvs.adapters.inbound.protocol.client_state import ClientState
from kvs.adapters.inbound.protocol.command import ANSWERED, Command, Reply
from kvs.adapters.inbound.protocol.connection import Connection
from kvs.adapters.inbound.protocol.detection import OpenConnection
from kvs.adapters.inbound.protocol.errors import HttpError
from kvs.adapters.inbound.protocol.gate import Gate
from kvs.adapters.inbound.protocol.run_loop import Request
from kvs.adapters.inbound.protocol.security import unauthenticated
from kvs.adapters.inbound.resp import fast_path, replies
from kvs.adapters.inbound.resp.command import ARGUMENTS_PER_UNIT, IMMEDIATE, REFUSED, RespCommand
from kvs.adapters.inbound.resp.commands.registry import answered_by_standbys, command_of
from kvs.adapters.inbound.resp.commands.subscriptions import ALLOWED, switch_of_master
from kvs.adapters.inbound.resp.commands.tracking import redirection
from kvs.adapters.inbound.resp.commands.transactions import EXEC
from kvs.adapters.inbound.resp.context import REPLIES_ON, ClientContext, ServerContext
from kvs.adapters.inbound.resp.limits import ARGUMENT_OVERHEAD_BYTES, SLACK_BYTES, RespLimits
from kvs.adapters.inbound.resp.parser import OVER_BUDGET, RequestParser
from kvs.application.executor import WorkerExecutor
from kvs.application.memory_budget import MemoryBudget
from kvs.domain.errors import KvsError, LimitError, UnauthenticatedError, UsageError
from kvs.log_type import FilteringBoundLogger
from kvs.override import override
from kvs.ports.session import RECEIVED_BYTES_PER_UNIT, Session

if TYPE_CHECKING:
    from kvs.adapters.inbound.resp.tracking import ClientTracking
    from kvs.application.users import User


@final
class RespConnection(Connection):
    """A connection in RESP."""

    __slots__ = ("_context", "_figures", "_gate", "_limits", "_listens", "_parser", "_tracking", "_user")

    def __init__(
        self,
        session: Session,
        executor: WorkerExecutor | None,
        limits: RespLimits,
        shared: ServerContext,
        gate: Gate,
        budget: MemoryBudget,
        log: FilteringBoundLogger,
    ) -> None:
        room_bytes = limits.max_tick_output_bytes
        super().__init__(session, budget, executor, limits.max_tick_requests, room_bytes, shared.observation, log)
        self._figures = shared.figures
        self._limits = limits
        self._listens = False  # to the commands of all
        self._tracking: ClientTracking | None = None  # that has this connection to send to
        self._gate = gate
        self.peer.user = gate.security.first_user()
        self._context = ClientContext(limits, shared, self.peer)
        self._parser = RequestParser(self._buffer, limits)
        self._user: User | None = self.peer.user  # as the parser and the context know it
        self._parser.restrict(self._user is None)

    @property
    @override
    def mid_request(self) -> bool:
        return self._parser.mid_request

    @override
    def resume(self, quota: int = UNBOUNDED) -> int:
        if self.peer.user is not self._user and not self._on_worker:  # by its certificate, or as our own user
            self._adapt_to_user()
        return super().resume(quota)

    @override
    def client_info(self) -> ClientInfo:
        context = self._context
        info = ClientInfo(self._buffer.held_bytes, self._out_bytes)
        info.arguments_bytes = self._parser.held_bytes
        info.queue_length = -1 if context.queue is None else len(context.queue)
        info.queue_bytes = context.queue_bytes
        tracking = context.tracking
        info.flags = (
            "O" * context.monitoring
            + "P" * (context.subscriptions() > 0)
            + "x" * (context.queue is not None)
            + "t" * (tracking is not None)
            + "B" * (tracking is not None and tracking.tracker.is_broadcast)
            + "c" * self.closing
            + "e" * context.no_evict
        )
        info.channels, info.patterns = len(context.channels), len(context.patterns)
        info.redirection = redirection(context)
        info.name = context.peer.name.decode()
        info.last_command = context.last_command.decode()
        info.version = context.protocol.version
        info.library = context.library.decode()
        info.library_version = context.library_version.decode()
        return info

    @override
    def _feed(self, data: bytes) -> bool:
        return self._parser.feed(data)

    @override
    def _parse(self) -> Request | None:
        parser = self._parser
        request = parser.next()
        if request is None:
            if parser.held_bytes + self._buffer.held_bytes > SLACK_BYTES and not self._gate.is_open():
                parser.drop()
            return None
        self._work.left -= len(request) // ARGUMENTS_PER_UNIT + parser.request_bytes // RECEIVED_BYTES_PER_UNIT
        return request

    def _adapt_to_user(self) -> None:
        """Do what follows from being another user: limits of requests, and nothing that the former one has begun."""
        was_known, self._user = self._user is not None, self.peer.user
        self._parser.restrict(self._user is None)
        context = self._context
        context.last_cursor = None
        if was_known:
            context.end_tracking()
            context.monitoring = False
        if not self._on_worker:
            self.peer.announce()

    @override
    def _run_fast_path(self) -> bool:
        buffer = self._buffer
        if not (self._has_fast_path() and fast_path.may_apply(buffer.data, buffer.at) and self._fast_path_applies()):
            return False
        buffer.ready()
        data, at = buffer.data, buffer.at
        work = self._work
        stop, requests, out_bytes, closing, name = fast_path.run(
            data,
            at,
            self.session,
            self._limits,
            self._context.protocol,
            self._figures,
            self._out,
            work.left,
            self._room_bytes - self._out_bytes,
        )
        if requests:
            self._context.last_command = name
            buffer.at = stop
            self._charge_fast_path(requests, stop - at, out_bytes, closing)
        return stop == len(data)

    def _fast_path_applies(self) -> bool:
        """Return whether the connection's state allows it, and the gate accepts every request."""
        context = self._context
        tracking = context.tracking
        tracks = tracking is not None and (self.session.depth > 0 or not tracking.tracker.is_broadcast)
        return self._parser.between_requests and context.runs_at_once() and self._gate.is_open() and not tracks

    @override
    def _admit(self, request: Request) -> Command:
        context = self._context
        try:
            if request is OVER_BUDGET:
                raise unauthenticated() if self.peer.user is None else self._gate.refusal()
            command = self._command_of(request)
            context.last_command = command.name
            self._command = command
            self._gate.check(command, request, self.peer, self.session)
            if context.queue is not None and command.multi_policy == REFUSED:
                name = command.name.decode().upper().replace("|", " ")
                raise UsageError(f"{name} is not allowed between MULTI and EXEC")
            if context.protocol is replies.RESP2 and context.subscriptions() and command.name not in ALLOWED:
                raise UsageError(
                    f"Can't execute '{command.name.decode()}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / "
                    "RESET are allowed in this context"
                )
            if context.monitoring and not command.may_monitor:
                raise UsageError("Replica can't interact with the keyspace")
        except (HttpError, UnauthenticatedError):
            raise
        except KvsError as error:
            if request is not OVER_BUDGET and request[0].lower() == EXEC.name:
                context.abort_reason = error
                self._command = EXEC
                return EXEC
            context.dirty = context.queue is not None
            raise
        self._work.left -= command.cost
        return command

    def _command_of(self, request: Request) -> RespCommand:
        """Return the command of a request. Who has not authenticated does not learn what commands there are."""
        try:
            return command_of(request, self._context)
        except HttpError:
            raise
        except KvsError:
            if self.peer.user is None:
                raise unauthenticated() from None
            raise

    @override
    def _start(self, command: Command, request: Request) -> Reply:
        if self._queues(command):
            return self._queue(command, request)
        security = self._gate.security
        if command.ends_transaction and security.must_check_writes(command, self.peer, self.session):
            return security.run_after_check(
                partial(cast("RespCommand", command).run, self.session, self._context, request), self.peer, self.session
            )
        tracking = self._context.tracking
        if tracking is not None and tracking.applies():
            return tracking.run(cast("RespCommand", command), self.session, self._context, request)
        return cast("RespCommand", command).run(self.session, self._context, request)

    def _queues(self, command: Command) -> bool:
        return self._context.queue is not None and cast("RespCommand", command).multi_policy != IMMEDIATE

    def _queue(self, command: Command, request: Request) -> bytes:
        context = self._context
        self._began_s = 0.0  # it is not run now
        held_bytes = (len(request) + 1) * ARGUMENT_OVERHEAD_BYTES
        for argument in request:
            held_bytes += len(argument)
        if context.queue_bytes + held_bytes > self._limits.max_transaction_bytes:
            context.dirty = True
            raise LimitError(
                f"The queue would hold {context.queue_bytes + held_bytes} bytes; max_transaction_bytes is "
                f"{self._limits.max_transaction_bytes}."
            )
        if context.queue is not None:
            context.queue.append(request)
            context.queued_commands.append(cast("RespCommand", command))
            context.queue_bytes += held_bytes
        self._command = None
        return replies.QUEUED

    @override
    def _is_for_other_thread(self, command: Command, request: Request) -> bool:
        return not self._queues(command) and super()._is_for_other_thread(command, request)

    @override
    def _wanted_thread(self) -> int:
        return self._context.wanted_thread

    @override
    def _emit(self, reply: bytes | list[bytes]) -> None:
        if self._context.closing:
            self.closing = True
            self.close_reason = self._context.last_command.decode().upper().replace("|", " ")
        if self._context.reply_mode != REPLIES_ON:
            self._context.withhold()
        elif isinstance(reply, bytes):
            self._append(reply)
        else:
            super()._emit(reply)
        stale = self._context.stale
        if stale:
            self._append(stale)
            self._context.stale = b""

    @override
    def _observe(self, reply: bytes | list[bytes]) -> None:
        context = self._context
        if self.peer.user is not self._user:
            self._adapt_to_user()
        if context.monitoring != self._listens:
            self._listen(context.monitoring)
        tracking = context.tracking
        if tracking is not self._tracking:
            self._tracking = tracking
            if tracking is not None:
                tracking.tracker.push = self.push
        if tracking is not None and tracking.is_exception and not self._keeps_exception():
            tracking.is_exception = False
        super()._observe(reply)

    @override
    def _append_pushed(self) -> None:
        if self._context.protocol is replies.RESP2:  # since a HELLO: invalidation messages have no form there
            self._pushed = [message for message in self._pushed if not message.startswith(b">")]
        super()._append_pushed()

    def _keeps_exception(self) -> bool:
        """Return whether CLIENT CACHING still applies: to the next command, and to a whole queue."""
        return self._context.queue is not None or (
            self._command is not None and self._command.name.startswith(b"client|")
        )

    def _listen(self, listens: bool) -> None:  # noqa: FBT001
        """Begin to see the commands of all, or end it."""
        self._listens = listens
        if listens:
            self._observation.listen(self.session.id, self.push)
        else:
            self._observation.end_listening(self.session.id)

    # A server that stands by.

    @override
    def _answered_by_standbys(self, request: Request) -> int:
        context = self._context
        if request is OVER_BUDGET or (context.protocol is replies.RESP2 and context.subscriptions()):
            return ANSWERED  # by an error, or as one of the few that a subscriber may ask for
        return answered_by_standbys(request, context, full=not self._gate.is_open())

    @override
    def _encoded(self, request: Request) -> bytes:
        return replies.bulks(request)

    @override
    def state(self) -> ClientState:
        context = self._context
        return ClientState(
            context.protocol.version,
            context.peer.name,
            context.library,
            context.library_version,
            context.no_evict,
            context.channels,
            context.patterns,
            self._gate.security.user_to_relay(self.peer),
        )

    @override
    def restore(self, state: ClientState) -> None:
        context = self._context
        context.protocol = replies.RESP3 if state.version == replies.RESP3.version else replies.RESP2
        context.peer.name = state.name
        context.library, context.library_version = state.library, state.library_version
        context.no_evict = state.no_evict
        context.channels, context.patterns = state.channels, state.patterns
        self.peer.become(self._gate.security.restored_user(state.user))
        self._adapt_to_user()

    @property
    @override
    def shows_others(self) -> bool:
        return self._context.monitoring or self._context.tracking is not None

    @override
    def tell_of_leader(self, former: tuple[str, int], leader: tuple[str, int]) -> None:
        for message in switch_of_master(self._context, former, leader):
            self.push(message)

    @override
    def _error_reply(self, error: KvsError) -> bytes:
        if isinstance(error, HttpError) or (self.closing and self._context.reply_mode != REPLIES_ON):
            return b""  # Redis closes such connections silently
        return replies.error(error)

    @override
    def _error_code(self, reply: bytes) -> bytes:
        return replies.error_code(reply)

    @override
    def _parsed_bytes(self) -> int:
        return self._parser.held_bytes + self._context.queue_bytes

    @override
    def _forget_input(self) -> None:
        self._parser.clear()
        self._context.discard()
        self._context.end_tracking()
        self._tracking = None
        if self._listens:
            self._listen(listens=False)

    @override
    def _incomplete_message(self) -> str:
        return "The last request was not complete, so it was not run."


def resp_protocol(
    limits: RespLimits, shared: ServerContext, budget: MemoryBudget, log: FilteringBoundLogger
) -> OpenConnection:
    """Return a function that opens the connections of clients whose first byte was RESP's."""
    audit = shared.observation.audit
    gate = Gate(limits.max_key_bytes, limits.max_value_bytes, budget, shared.security, audit)
    return partial(RespConnection, limits=limits, shared=shared, gate=gate, budget=budget, log=log)
