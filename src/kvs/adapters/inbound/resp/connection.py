"""A conversation in RESP: requests in as they come, replies out in order. ``docs/protocol.md`` is its reference."""

from typing import TYPE_CHECKING, Final, final

from structlog.typing import FilteringBoundLogger

from kvs.adapters.inbound.protocol.buffered import CHARGE_STEP_BYTES, Conversation
from kvs.adapters.inbound.protocol.connection import Connection, Facts
from kvs.adapters.inbound.protocol.messages import ends_conversation
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.commands.registry import command_of
from kvs.adapters.inbound.resp.commands.transactions import abort
from kvs.adapters.inbound.resp.context import AT_ONCE, REFUSED, REPLIES_ON, Command, Peer, Shared
from kvs.adapters.inbound.resp.fast_path import may_be_ordinary, scan
from kvs.adapters.inbound.resp.limits import ARGUMENT_OVERHEAD_BYTES, SLACK_BYTES, RespLimits
from kvs.adapters.inbound.resp.parser import DROPPED, RequestParser
from kvs.adapters.inbound.resp.wording import as_bytes
from kvs.application.memory_budget import ClientsBudget
from kvs.build import BUILD
from kvs.domain.errors import KvsError, LimitError, ProtocolViolationError, TooLargeError, UsageError
from kvs.domain.values import Key
from kvs.ports.session import Session, Unfinished

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler

SCANS: Final = BUILD == "compiled"
"""Interpreted, going byte by byte would cost more than it saves."""


@final
class RespConnection(Conversation):
    """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""

    __slots__ = (
        "_held_back",
        "_limits",
        "_ordinary",
        "_parser",
        "_peer",
    )

    def __init__(
        self, session: Session, limits: RespLimits, shared: Shared, budget: ClientsBudget, log: FilteringBoundLogger
    ) -> None:
        super().__init__(session, budget, log)
        self._limits = limits
        self._peer = Peer(limits, shared)
        self._parser = RequestParser(limits)
        self._ordinary = SCANS  # input needs no more thought than that requests follow requests
        self._held_back: list[bytes] | None = None  # a request that has no answer yet, to be run again

    @property
    def unfinished(self) -> bool:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        return self._parser.unfinished

    def facts(self) -> Facts:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        peer, parser = self._peer, self._parser
        facts = Facts(parser.waiting_bytes + parser.part_bytes, self._out_bytes)
        facts.arguments_bytes = parser.held_bytes - parser.part_bytes
        facts.queue_length = -1 if peer.queue is None else len(peer.queue)
        facts.queue_bytes = peer.queue_bytes
        facts.flags = "x" * (peer.queue is not None) + "c" * self.closing + "e" * peer.no_evict
        facts.name = peer.name.decode()
        facts.last_command = peer.last_command.decode()
        facts.version = peer.dialect.version
        facts.library = peer.library.decode()
        facts.library_version = peer.library_version.decode()
        return facts

    def receive(self, data: bytes) -> None:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        if self.closing or self._input_ended:
            return
        if self.backlog:
            self._parser.feed(data)
            self._charge()  # this tick's share has been used up
            return
        self._share = self._limits.max_tick_requests
        if self._ordinary and not self._budget.exhausted():
            at = self._scan(data, 0)
            if at == len(data) and not self.closing:
                if self._out_bytes > CHARGE_STEP_BYTES:
                    self._charge()
                return
            data = data[at:]
        self._parser.feed(data)
        self._run_waiting()

    def resume(self) -> None:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        self._share = self._limits.max_tick_requests
        self._run_waiting()

    def _run_waiting(self) -> None:
        self._run()
        if self.closing:
            self._stop()
        elif self._input_ended and not self.backlog:
            self._finish()
        else:
            self._ordinary = SCANS and not (self.backlog or self._parser.unfinished) and self._peer.is_plain()
            self._charge()

    def end_of_input(self) -> None:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        if not (self._input_ended or self.closing):
            self._input_ended = True
            self.resume()

    # What all conversations have.

    def _error_reply(self, error: KvsError) -> bytes:
        return replies.error(error) if self._peer.reply_mode == REPLIES_ON else b""

    def _input_held_bytes(self) -> int:
        parser = self._parser
        return parser.waiting_bytes + parser.held_bytes + self._peer.queue_bytes

    def _forget_input(self) -> None:
        self._held_back = None
        self._parser.clear()
        self._peer.end_queue()

    # Running.

    def _run(self) -> None:
        """Run requests, as many as this tick still allows."""
        parser, max_out_bytes = self._parser, self._limits.max_tick_output_bytes
        while self._share > 0 and self._out_bytes < max_out_bytes and not self.closing:
            arguments = self._held_back
            if arguments is None:
                if (
                    SCANS
                    and may_be_ordinary(parser.data, parser.at)
                    and self._peer.is_plain()
                    and not parser.unfinished
                    and not self._budget.exhausted()
                ):
                    parser.at = self._scan(parser.data, parser.at)
                    if not parser.waiting or self.closing or self._share <= 0 or self._out_bytes >= max_out_bytes:
                        break
                try:
                    arguments = parser.next()
                except ProtocolViolationError as violation:
                    self.fail(violation)
                    self._log_refusal(violation)
                    return
                if arguments is None:
                    if parser.held_bytes > SLACK_BYTES and self._budget.exhausted():
                        parser.drop()
                    break
            self._held_back = None
            self._share -= 1
            try:
                reply = self._answer(arguments)
            except Unfinished:
                self._held_back = arguments
                break
            except ProtocolViolationError as violation:
                self.closing = True
                self._log_refusal(violation)
                break
            except KvsError as error:
                reply = replies.error(error)
                self.closing = self.closing or ends_conversation(error)
            if self._peer.reply_mode == REPLIES_ON:
                self._reply(reply)
            else:
                self._peer.withhold()
            self.requests += 1
        self.backlog = self._held_back is not None or parser.waiting

    def _log_refusal(self, violation: ProtocolViolationError) -> None:
        reason = as_bytes(str(violation)).decode("latin-1").encode("unicode_escape").decode()
        self._log.warning("protocol_refused", session=self.session.id, reason=reason)

    def _scan(self, data: bytes, start: "i64") -> "i64":
        """Run the ordinary requests that come next; return where they end."""
        at, requests, out_bytes, closing, got = scan(
            data,
            start,
            self.session,
            self._limits,
            self._peer.dialect.null,
            self._out,
            self._share,
            self._limits.max_tick_output_bytes - self._out_bytes,
        )
        if requests:
            self._peer.last_command = b"get" if got else b"set"
        self._share -= requests
        self.requests += requests
        self._out_bytes += out_bytes
        self.closing = closing
        return at

    def _answer(self, arguments: list[bytes]) -> bytes:
        """Run a request, or queue it."""
        session, peer = self.session, self._peer
        try:
            if arguments is DROPPED:
                raise self._refusal()
            command = command_of(arguments)
            peer.last_command = command.name
            queues = peer.queue is not None and command.in_queue != AT_ONCE
            if queues and command.in_queue == REFUSED:
                name = command.name.decode().upper().replace("|", " ")
                raise UsageError(f"{name} is not allowed between MULTI and EXEC")
            if not command.runs_always and self._budget.exhausted() and not session.unanswered:
                raise self._refusal()  # unless it has been done already, and only its answer is to be fetched
            if command.first_key:
                at, end = command.first_key, command.keys_end(len(arguments))
                while at < end:  # compiled, a range with a step takes 1,400 instructions more
                    self._check_key(arguments[at])
                    at += command.key_step
            if queues:
                return self._queue(command, arguments)
        except KvsError as error:
            if arguments is not DROPPED and arguments[0].lower() == b"exec":
                return abort(session, peer, error)
            peer.spoiled = peer.queue is not None
            raise
        self._share -= command.cost_of(arguments) - 1
        if peer.queue is not None:
            self._share -= len(peer.queue)
        reply = command.run(session, peer, arguments)
        self._share -= peer.take_extra_cost()
        self.closing = peer.closing
        return reply

    def _queue(self, command: Command, arguments: list[bytes]) -> bytes:
        peer = self._peer
        held_bytes = (len(arguments) + 1) * ARGUMENT_OVERHEAD_BYTES
        for argument in arguments:
            held_bytes += len(argument)
        if peer.queue_bytes + held_bytes > self._limits.max_queue_bytes:
            raise LimitError(
                f"The queue would hold {peer.queue_bytes + held_bytes} bytes; max_transaction_bytes is "
                f"{self._limits.max_queue_bytes}."
            )
        if peer.queue is not None:
            peer.queue.append((command, arguments))
            peer.queue_bytes += held_bytes
        return replies.QUEUED

    def _check_key(self, key: Key) -> None:
        if 0 < len(key) <= self._limits.max_key_bytes:
            return
        if key:
            raise TooLargeError(f"The key has {len(key)} bytes; max_key_bytes is {self._limits.max_key_bytes}.")
        raise UsageError("a key cannot be empty")

    # Ending.

    def _finish(self) -> None:
        """Answer for a last request that was cut short, which must not run, and close."""
        if self.unfinished:
            self.fail(UsageError("The last request was not complete, so it was not run."))
        else:
            self._stop()


@final
class RespProtocol:
    """Begins conversations in RESP."""

    __slots__ = ("_budget", "_limits", "_log", "_shared")

    def __init__(self, limits: RespLimits, shared: Shared, budget: ClientsBudget, log: FilteringBoundLogger) -> None:
        self._limits = limits
        self._shared = shared
        self._budget = budget
        self._log = log

    def converse(self, session: Session) -> Connection:
        """Return the connection of a client whose first byte has told its protocol."""
        return RespConnection(session, self._limits, self._shared, self._budget, self._log)
