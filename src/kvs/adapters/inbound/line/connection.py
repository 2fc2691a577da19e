"""The line protocol: ``VERB [KEY [VALUE]]`` in, one line of JSON out. ``docs/protocol.md`` is its reference.

A request runs only when its line is complete. Nothing is decoded: the wire carries UTF-8, the store holds bytes, and
the only checks of text are whether it is UTF-8 and whether it needs JSON escapes.
"""

from functools import partial
from typing import TYPE_CHECKING, Final, cast, final

from kvs.adapters.inbound.line import fast_path, replies
from kvs.adapters.inbound.line.commands import COMMANDS, PING_OF_REDIS, unknown_command
from kvs.adapters.inbound.line.context import LineContext
from kvs.adapters.inbound.line.figures import LineFigures
from kvs.adapters.inbound.line.keys import BLANKS
from kvs.adapters.inbound.line.limits import LINE_OVERHEAD_BYTES, LineLimits
from kvs.adapters.inbound.protocol.base_connection import UNBOUNDED
from kvs.adapters.inbound.protocol.client_info import ClientInfo
from kvs.adapters.inbound.protocol.client_state import ClientState
from kvs.adapters.inbound.protocol.command import ANSWERED, RELAYED, SLOW_COST, Command, Reply
from kvs.adapters.inbound.protocol.connection import Connection
from kvs.adapters.inbound.protocol.detection import MAX_OPENING_BYTES, RESP_FIRST_BYTE, OpenConnection
from kvs.adapters.inbound.protocol.errors import EncodingError, FramingLostError, ProtocolViolationError
from kvs.adapters.inbound.protocol.gate import Gate
from kvs.adapters.inbound.protocol.http_lines import is_header, is_request_line
from kvs.adapters.inbound.protocol.messages import excerpt, sentence
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.protocol.run_loop import Request
from kvs.adapters.inbound.protocol.security import STRANGER_REQUEST_BYTES, Security, unauthenticated
from kvs.application.executor import WorkerExecutor
from kvs.application.memory_budget import MemoryBudget
from kvs.domain.errors import ForbiddenError, KvsError, UsageError
from kvs.log_type import FilteringBoundLogger
from kvs.override import override
from kvs.ports.session import RECEIVED_BYTES_PER_UNIT, Session

if TYPE_CHECKING:
    from kvs.adapters.inbound.line.command import LineCommand

TLS_HANDSHAKE: Final = 0x16
PROXY_HEADER: Final = b"PROXY "
CR: Final = 13
LF: Final = 10

TERMINAL_LINE_BYTES: Final = 4096
"""The longest line, with its LF, that Linux's terminals deliver. They silently drop the rest of a longer one."""

MAY_BE_CUT: Final = (
    b'{"status": "Ok", "mesg": "The line has 4,095 bytes, the most that a terminal passes on; if you typed or pasted '
    b'it, it may have been cut there."}\n'
)

OVER_BUDGET: Final[Request] = []
"""Stands for a line that was dropped over the memory budget; no request is empty."""

LONG_LINE_BYTES: Final = 1 << 16
HEAD_BYTES: Final = 1 << 14  # has the verb and the key

UNDECIDED: Final[Request] = [b"PING"]
"""Stands for a PING that does not tell the protocol."""


@final
class LineConnection(Connection):
    """A connection in the line protocol."""

    __slots__ = (
        "_context",
        "_cut_request",
        "_dropping",
        "_figures",
        "_first_byte_seen",
        "_first_line_seen",
        "_gate",
        "_limits",
        "_partial",
        "_received",
    )

    def __init__(
        self,
        session: Session,
        executor: WorkerExecutor | None,
        limits: LineLimits,
        gate: Gate,
        budget: MemoryBudget,
        observation: Observation,
        figures: LineFigures,
        log: FilteringBoundLogger,
    ) -> None:
        room_bytes = limits.max_tick_output_bytes
        super().__init__(session, budget, executor, limits.max_tick_requests, room_bytes, observation, log)
        self._figures = figures
        self._limits = limits
        self._gate = gate
        self._context = LineContext(limits, self.peer, gate.security)
        self.peer.user = gate.security.first_user()
        self._partial = False  # the buffer begins with a line that is not complete
        self._dropping = False  # such a line is dropped, over the memory budget
        self._first_byte_seen = False
        self._first_line_seen = False  # and it was not HTTP
        self._cut_request = 0  # number of the request that a terminal may have cut; 0: of none
        self._received = b""  # in place of a line, to be logged

    @property
    @override
    def mid_request(self) -> bool:
        return self._partial or self._dropping

    @override
    def client_info(self) -> ClientInfo:
        return ClientInfo(self.input_bytes(), self._out_bytes)

    @override
    def receive(self, data: bytes, quota: int = UNBOUNDED) -> int:
        if (
            len(data) == TERMINAL_LINE_BYTES
            and not (self.backlog or self.busy or self.mid_request)
            and data.find(b"\n") == TERMINAL_LINE_BYTES - 1
            and data.lstrip(BLANKS)[:4].upper() == b"PUT "
        ):
            self._cut_request = self.requests + 1
            used = super().receive(data, quota)
            self._warn_of_cut()
            return used
        return super().receive(data, quota)

    @override
    def _finish_share(self) -> None:
        if self.successor is not None:
            return
        if self._cut_request:
            self._warn_of_cut()
        super()._finish_share()

    def _warn_of_cut(self) -> None:
        """Put a warning into the reply to a PUT that a terminal may have cut, if it has succeeded."""
        if self.requests < self._cut_request:
            return
        if self.requests == self._cut_request and self._out and self._out[-1] == replies.OK:
            self._out[-1] = MAY_BE_CUT
            self._out_bytes += len(MAY_BE_CUT) - len(replies.OK)
        self._cut_request = 0

    # Framing.

    @override
    def _feed(self, data: bytes) -> bool:
        if self._dropping:
            end = data.find(b"\n")
            if end < 0:
                return False
            self._buffer.feed(data[end:])  # with the line feed, which gets a reply
            return True
        self._buffer.feed(data)
        if not self._partial or b"\n" in data:
            return True
        if self._buffer.held_bytes > self._max_line_bytes():
            return True
        self._drop_if_full()
        return False

    @override
    def _parse(self) -> Request | None:
        buffer = self._buffer
        buffer.ready()
        data, at = buffer.data, buffer.at
        size = len(data)
        if at == size:
            return None
        if not self._first_byte_seen:
            self._first_byte_seen = True
            if data[at] == TLS_HANDSHAKE:
                raise self._refuse("This port speaks plain text, not TLS.", b"\x16")
        end = data.find(b"\n", at)
        if self.detector is not None and (end >= 0 or data.startswith(RESP_FIRST_BYTE, at)):
            stop = size if end < 0 else end + 1
            detected = self.detector(self, data[at : min(stop, at + MAX_OPENING_BYTES)])
            if detected is None:
                self._partial = False
                buffer.at = stop
                return UNDECIDED
            if detected is not self:
                self.successor = detected
                return None
        if (size if end < 0 else end) - at > self._max_line_bytes():
            raise FramingLostError(f"The line is longer than {self._max_line_bytes()} bytes.")
        if end < 0:
            self._partial = True
            self._drop_if_full()
            return None
        self._partial = False
        buffer.at = end + 1
        if self._dropping:
            self._dropping = False
            return OVER_BUDGET
        self._work.left -= (end - at) // RECEIVED_BYTES_PER_UNIT
        if end > at and data[end - 1] == CR:
            end -= 1
        if end - at > LONG_LINE_BYTES and self._first_line_seen:
            request = _split_long(data, at, end)
            if request is not None:
                return request
        line = data[at:end]
        if not self._first_line_seen and line.strip(BLANKS):
            self._first_line_seen = True
            if is_request_line(line):  # it would otherwise be a well-formed PUT
                raise self._refuse("This port does not speak HTTP.", line)
            if line.startswith(PROXY_HEADER):  # the requests behind it are not of this peer
                raise self._refuse("No header of the PROXY protocol is taken from this address.", line)
        if not line.isascii():
            try:
                line.decode()
            except UnicodeDecodeError as error:
                raise EncodingError(f"The line is not UTF-8 (at byte {error.start}).") from None
        return line.lstrip(BLANKS).split(b" ", 2)

    def _max_line_bytes(self) -> int:
        limit_bytes = self._limits.max_line_bytes
        return limit_bytes if self.peer.user is not None else min(limit_bytes, STRANGER_REQUEST_BYTES)

    def _drop_if_full(self) -> None:
        """Drop an incomplete line that is longer than commands that always run, if clients hold too much memory."""
        if self._buffer.held_bytes > LINE_OVERHEAD_BYTES and not self._gate.is_open():
            self._dropping = True
            self._partial = False
            self._buffer.clear()

    # Running.

    @override
    def _run_fast_path(self) -> bool:
        buffer = self._buffer
        buffer.ready()
        data, at = buffer.data, buffer.at
        end = size = len(data)
        if at == size:
            return True
        if data[size - 1] != LF:  # one method call less for whole lines, as nearly always: 1,000 instructions
            end = data.rfind(b"\n", at) + 1
        if end <= at or self._dropping or not self._fast_path_applies():
            return False
        work = self._work
        room_bytes = self._room_bytes - self._out_bytes
        stop, requests, out_bytes, closing = fast_path.run(
            data, at, end, self.session, self._limits, self._figures, self._out, work.left, room_bytes
        )
        buffer.at = stop
        self._charge_fast_path(requests, stop - at, out_bytes, closing)
        if stop == size:
            self._partial = False  # what was incomplete has been run
        return stop == size

    def _fast_path_applies(self) -> bool:
        """Return whether the connection's state allows it, and the gate accepts every request."""
        return self._has_fast_path() and self._first_line_seen and self._gate.is_open()

    @override
    def _admit(self, request: Request) -> Command:
        if request is OVER_BUDGET:
            raise unauthenticated() if self.peer.user is None else self._gate.refusal()
        if request is UNDECIDED:
            self._command = PING_OF_REDIS
            return PING_OF_REDIS
        verb = request[0].rstrip(BLANKS)
        if not verb:
            raise UsageError("The line is empty; HELP lists the commands.")
        command = COMMANDS.get(verb.upper())
        if command is None:
            if is_header(verb):
                message = "This looks like an HTTP header, and this port does not speak HTTP."
                raise self._refuse(message, verb)
            if self.peer.user is None:
                raise unauthenticated()
            self._work.left -= SLOW_COST  # for the search for a suggestion
            raise unknown_command(verb)
        self._command = command
        if not command.takes_value:
            _strip_blanks(request)
        self._gate.check(command, request, self.peer, self.session)
        return command

    @override
    def _start(self, command: Command, request: Request) -> Reply:
        command = cast("LineCommand", command)
        self._work.left -= command.cost
        if command.closes:
            self.closing = True
            self.close_reason = command.name.decode()
        security = self._gate.security
        if command.ends_transaction and security.must_check_writes(command, self.peer, self.session):
            return security.run_after_check(
                partial(command.run, self.session, self._context, request), self.peer, self.session
            )
        return command.run(self.session, self._context, request)

    # A server that stands by.

    @override
    def _answered_by_standbys(self, request: Request) -> int:
        if request is OVER_BUDGET or request is UNDECIDED:
            return ANSWERED
        verb = request[0].rstrip(BLANKS)
        command = COMMANDS.get(verb.upper())
        if command is None:  # the leader may be of another version, but no line of HTTP gets there
            return ANSWERED if not verb or is_header(verb) else RELAYED
        return command.on_standby if command.runs_when_full or self._gate.is_open() else ANSWERED

    @override
    def _encoded(self, request: Request) -> bytes:
        return b" ".join(request) + b"\n"

    @override
    def state(self) -> ClientState:
        return ClientState(user=self._gate.security.user_to_relay(self.peer))

    @override
    def restore(self, state: ClientState) -> None:
        self._first_byte_seen = self._first_line_seen = True
        self.peer.become(self._gate.security.restored_user(state.user))
        self.peer.announce()

    @override
    def _error_reply(self, error: KvsError) -> bytes:
        if isinstance(error, ForbiddenError):
            return replies.error(error.code, sentence(str(error), error.hint))
        return replies.error(error.code, str(error))

    @override
    def _error_code(self, reply: bytes) -> bytes:
        return replies.error_code(reply)

    @override
    def _parsed_bytes(self) -> int:
        return 0

    @override
    def _forget_input(self) -> None:
        self._partial = False
        self._dropping = False

    @override
    def _incomplete_message(self) -> str:
        return "The last line did not end in LF, so it was not run."

    def _refuse(self, message: str, data: bytes) -> ProtocolViolationError:
        self._received = data.lstrip(BLANKS).split(b" ", 1)[0]  # not the rest, which may be a value
        return ProtocolViolationError(message)

    @override
    def _log_violation(self, violation: ProtocolViolationError) -> None:
        self._log.warning(
            "protocol_refused",
            peer=self.peer.address,
            session=self.session.id,
            reason=str(violation),
            received=excerpt(self._received),
        )


def _split_long(data: bytes, at: int, end: int) -> Request | None:
    """Return the words of a long line, which is not copied; None if it is not a plain one with a value."""
    head = data[at : at + HEAD_BYTES]
    words = head.split(b" ", 2)
    if len(words) < 3 or head[:1] in BLANKS or not head.isascii():
        return None
    value = data[at + len(head) - len(words[2]) : end]
    return [words[0], words[1], value] if value.isascii() else None


def _strip_blanks(request: Request) -> None:
    """Ignore blanks after the last word."""
    if len(request) == 3 and not request[2].strip(BLANKS):
        del request[2]
    if len(request) == 2:
        request[1] = request[1].rstrip(BLANKS)
        if not request[1]:
            del request[1]


def line_protocol(
    limits: LineLimits, budget: MemoryBudget, observation: Observation, security: Security, log: FilteringBoundLogger
) -> OpenConnection:
    """Return a function that opens connections in the line protocol."""
    gate = Gate(limits.max_key_bytes, limits.max_value_bytes, budget, security, observation.audit)
    return partial(
        LineConnection,
        limits=limits,
        gate=gate,
        budget=budget,
        observation=observation,
        figures=LineFigures(observation),
        log=log,
    )
