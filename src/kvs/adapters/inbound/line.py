"""The line protocol: ``VERB [KEY [VALUE]]`` in, one line of JSON out. ``docs/protocol.md`` is its reference.

A request runs only when its line is complete. Nothing is decoded: the wire carries UTF-8, the store holds bytes, and
all that is ever asked of text is whether it is UTF-8 and whether it needs JSON escapes.
"""

import re
from typing import Final, final

from structlog.typing import FilteringBoundLogger

from kvs.adapters.inbound import json_line
from kvs.adapters.inbound.connection import Connection
from kvs.adapters.inbound.line_commands import BLANKS, COMMANDS, SLOW_COST, Command, LineLimits, shown, unknown_command
from kvs.application.budget import ClientsBudget
from kvs.domain.errors import (
    EncodingError,
    KvsError,
    LimitError,
    ProtocolViolationError,
    TimedOutError,
    TooLargeError,
    UsageError,
)
from kvs.ports.inbound import Session, SessionFactory

TLS_HANDSHAKE: Final = b"\x16"
_HTTP: Final = re.compile(rb" HTTP/[0-9]\.[0-9][ \t]*\Z")


@final
class LineConnection:
    """Implements :class:`kvs.adapters.inbound.connection.Connection`."""

    __slots__ = (
        "_allowance",
        "_ascii",
        "_at",
        "_budget",
        "_charged_bytes",
        "_dropping",
        "_greeted",
        "_has_cr",
        "_input_bytes",
        "_input_ended",
        "_limits",
        "_lines",
        "_log",
        "_out",
        "_out_bytes",
        "_overlong",
        "_tail",
        "closing",
        "requests",
        "session",
    )

    def __init__(self, session: Session, limits: LineLimits, budget: ClientsBudget, log: FilteringBoundLogger) -> None:
        self.session: Final = session
        self.requests = 0
        self.closing = False
        self._limits = limits
        self._budget = budget
        self._charged_bytes = 0
        self._log = log
        self._lines: list[bytes | None] = []  # complete and waiting; None: refused for want of memory
        self._at = 0  # how many of them have been run
        self._input_bytes = 0  # in all of them
        self._ascii = True  # all of them are
        self._has_cr = False  # one of them has a CR
        self._tail = bytearray()  # the line that is not complete
        self._dropping = False  # ... and is not kept, for want of memory
        self._overlong = False  # ... or is longer than all limits allow: the framing is lost
        self._greeted = False  # a first line has come and was no HTTP
        self._input_ended = False
        self._allowance = 0
        self._out: list[bytes] = []
        self._out_bytes = 0

    # Input.

    @property
    def backlog(self) -> bool:
        """See :class:`kvs.adapters.inbound.connection.Connection`."""
        return self._at < len(self._lines)

    @property
    def unfinished(self) -> bool:
        """See :class:`kvs.adapters.inbound.connection.Connection`."""
        return len(self._tail) > 0 or self._dropping

    def receive(self, data: bytes) -> None:
        """See :class:`kvs.adapters.inbound.connection.Connection`."""
        if self.closing or self._overlong or self._input_ended:
            return
        if not self._greeted and not self._tail and data.startswith(TLS_HANDSHAKE):
            self._violate("This port speaks plain text, not TLS.", data)
            self._charge()
            return
        waiting = self.backlog
        self._frame(data)
        if waiting:
            self._charge()  # this tick's share has been used up
        else:
            self.resume()

    def resume(self) -> None:
        """See :class:`kvs.adapters.inbound.connection.Connection`."""
        if self._at < len(self._lines):
            self._run()
        if not self.closing and self._at >= len(self._lines):
            if self._lines:
                self._lines.clear()
                self._at = 0
                self._input_bytes = 0
            if self._overlong:
                self.fail(TooLargeError(f"The line is longer than {self._limits.max_line_bytes} bytes."))
            elif self._input_ended:
                self._finish()
        self._charge()

    def end_of_input(self) -> None:
        """See :class:`kvs.adapters.inbound.connection.Connection`."""
        if not self._input_ended:
            self._input_ended = True
            self.resume()

    def _frame(self, data: bytes) -> None:
        """Cut lines; keep what is not complete."""
        if self._dropping:
            end = data.find(b"\n")
            if end < 0:
                return
            self._dropping = False
            self._lines.append(None)
            data = data[end + 1 :]
        if self._tail:
            if b"\n" in data:
                self._tail += data
                data = bytes(self._tail)
                self._tail = bytearray()
            else:
                self._tail += data
                data = b""
        if data:
            lines = data.split(b"\n")
            rest = lines.pop()
            if rest:
                self._tail += rest
            if lines:
                idle = self.backlog
                self._ascii = (self._ascii or not idle) and data.isascii()
                self._has_cr = (self._has_cr and idle) or b"\r" in data
                self._input_bytes += len(data) - len(rest)
                if len(data) > self._limits.max_line_bytes:
                    self._cut_overlong(lines)
                self._lines += lines
        if len(self._tail) > self._limits.max_line_bytes:
            self._overlong = True
        elif self._tail and self._budget.exhausted():
            self._dropping = True
        if self._overlong or self._dropping:
            self._tail = bytearray()

    def _cut_overlong(self, lines: list[bytes]) -> None:
        for at, line in enumerate(lines):
            if len(line) > self._limits.max_line_bytes:
                self._overlong = True
                del lines[at:]
                return

    # Running.

    def _run(self) -> None:
        """Run waiting lines, as many as one tick allows."""
        lines, at = self._lines, self._at
        out, out_bytes = self._out, self._out_bytes
        max_out_bytes = self._limits.max_tick_output_bytes
        refusing = self._budget.exhausted()
        self._allowance = self._limits.max_tick_requests
        while at < len(lines) and self._allowance > 0 and out_bytes < max_out_bytes:
            line = lines[at]
            at += 1
            try:
                if line is None:
                    raise self._refusal()
                if self._has_cr and line.endswith(b"\r"):
                    line = line[:-1]
                if not self._ascii:
                    _check_utf8(line)
                if not self._greeted:
                    self._greet(line)
                verb, _, words = line.partition(b" ")
                command = COMMANDS.get(verb)
                if command is None:
                    command, words = self._resolve(line)
                if refusing and not command.frees_memory:
                    raise self._refusal()
                self._allowance -= command.cost
                reply = command.run(self.session, self._limits, words)
                if command.closes:
                    self._stop()
            except KvsError as error:
                self._allowance -= 1
                reply = json_line.error(error.code, str(error))
                if isinstance(error, ProtocolViolationError | TimedOutError):
                    self._stop()
            out.append(reply)
            out_bytes += len(reply)
            if self.closing:
                break
        self.requests += at - self._at
        self._at = at
        self._out_bytes = out_bytes
        if self.closing:
            self._forget_input()

    def _greet(self, line: bytes) -> None:
        """Look at the first line that is not blank: an HTTP request is otherwise a well-formed GET or PUT."""
        if line.strip(BLANKS):
            self._greeted = True
            if _HTTP.search(line):
                raise self._violation("This port does not speak HTTP.", line)

    def _resolve(self, line: bytes) -> tuple[Command, bytes]:
        """Find the command of a line that does not begin with a verb in capitals and a space."""
        verb, _, words = line.lstrip(BLANKS).partition(b" ")
        verb = verb.rstrip(BLANKS)
        if not verb:
            raise UsageError("The line is empty; HELP lists the commands.")
        command = COMMANDS.get(verb.upper())
        if command is None:
            if verb.endswith(b":"):
                raise self._violation("This looks like an HTTP header, and this port does not speak HTTP.", line)
            self._allowance -= SLOW_COST
            raise unknown_command(verb)
        return command, words

    def _refusal(self) -> LimitError:
        return LimitError(
            f"The clients together hold max_clients_bytes = {self._budget.limit_bytes} or more; until that has gone "
            "down only COMMIT, ROLLBACK, INFO, PING and EXIT run."
        )

    # Output, and the end.

    def take_output(self) -> bytes:
        """See :class:`kvs.adapters.inbound.connection.Connection`."""
        output = b"".join(self._out)
        self._out.clear()
        self._out_bytes = 0
        self._charge()
        return output

    def fail(self, error: KvsError) -> None:
        """See :class:`kvs.adapters.inbound.connection.Connection`."""
        if not self.closing:
            reply = json_line.error(error.code, str(error))
            self._out.append(reply)
            self._out_bytes += len(reply)
            self._stop()
            self._forget_input()
            self._charge()

    def close(self) -> None:
        """See :class:`kvs.adapters.inbound.connection.Connection`."""
        self._stop()
        self._forget_input()
        self._out.clear()
        self._out_bytes = 0
        self._charge()

    def _finish(self) -> None:
        """Answer for a last line that was cut short, which must not run, and close."""
        if self.unfinished:
            self.fail(UsageError("The last line did not end in LF, so it was not run."))
        else:
            self._stop()

    def _stop(self) -> None:
        self.closing = True
        self.session.close()

    def _forget_input(self) -> None:
        self._lines.clear()
        self._at = 0
        self._input_bytes = 0
        self._tail = bytearray()
        self._dropping = False

    def _violate(self, message: str, data: bytes) -> None:
        self.fail(self._violation(message, data))

    def _violation(self, message: str, data: bytes) -> ProtocolViolationError:
        self._log.warning("protocol_refused", session=self.session.id, reason=message, received=shown(data))
        return ProtocolViolationError(message)

    def _charge(self) -> None:
        """Tell the budget what this connection holds now."""
        held = self._input_bytes + len(self._tail) + self._out_bytes
        self._budget.used_bytes += held - self._charged_bytes
        self._charged_bytes = held


def _check_utf8(line: bytes) -> None:
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise EncodingError(f"The line is not UTF-8 (at byte {error.start}).") from None


@final
class LineProtocol:
    """Opens line connections; its :meth:`connect` is a ``ConnectionFactory``."""

    __slots__ = ("_budget", "_limits", "_log", "_sessions")

    def __init__(
        self, sessions: SessionFactory, limits: LineLimits, budget: ClientsBudget, log: FilteringBoundLogger
    ) -> None:
        self._sessions = sessions
        self._limits = limits
        self._budget = budget
        self._log = log

    def connect(self) -> Connection:
        """Return the connection of a new client, with a session of its own."""
        return LineConnection(self._sessions.open(), self._limits, self._budget, self._log)
