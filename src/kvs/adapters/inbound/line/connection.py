"""The line protocol: ``VERB [KEY [VALUE]]`` in, one line of JSON out. ``docs/protocol.md`` is its reference.

A request runs only when its line is complete. Nothing is decoded: the wire carries UTF-8, the store holds bytes, and
all that is ever asked of text is whether it is UTF-8 and whether it needs JSON escapes.
"""

import re
from typing import Final, final

from structlog.typing import FilteringBoundLogger

from kvs.adapters.inbound.line import replies
from kvs.adapters.inbound.line.commands import (
    COMMANDS,
    LINE_OVERHEAD_BYTES,
    SLOW_COST,
    Command,
    LineLimits,
    bare,
    get,
    put,
    unknown_command,
)
from kvs.adapters.inbound.line.fast_path import scan
from kvs.adapters.inbound.line.keys import BLANKS
from kvs.adapters.inbound.protocol.buffered import CHARGE_STEP_BYTES, Conversation
from kvs.adapters.inbound.protocol.connection import Connection
from kvs.adapters.inbound.protocol.messages import ends_conversation, shown
from kvs.application.memory_budget import ClientsBudget
from kvs.build import BUILD
from kvs.domain.errors import (
    EncodingError,
    KvsError,
    ProtocolViolationError,
    TooLargeError,
    UsageError,
)
from kvs.ports.session import Session, Unfinished

TLS_HANDSHAKE: Final = b"\x16"

TYPED_BYTES: Final = 4096
"""The longest line that Linux's terminals pass on, with its LF. Of a longer one they drop the rest without a word."""

MAY_BE_CUT: Final = (
    b'{"status": "Ok", "mesg": "The line has 4,095 bytes, the most that a terminal passes on; if you typed or pasted '
    b'it, it may have been cut there."}\n'
)

DROPPED: Final = b"\n"
"""Stands for a line that was not kept, for want of memory; no line has a line feed in it."""

SCANS: Final = BUILD == "compiled"
"""Interpreted, going byte by byte would cost 2 us a request, and :meth:`LineConnection._run` does it all."""

# Bytes as numbers: `in` is then one memchr, where b"\r" in place of 13 first raises and drops a TypeError, 0.3 us.
_CR: Final = 13
_TAB: Final = 9
_HTTP: Final = re.compile(rb" HTTP/[0-9]\.[0-9][ \t]*\Z")


@final
class LineConnection(Conversation):
    """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""

    __slots__ = (
        "_cut",
        "_dropping",
        "_ended",
        "_greeted",
        "_input_bytes",
        "_limits",
        "_lines",
        "_odd",
        "_opened",
        "_overlong",
        "_plain",
        "_tail",
    )

    def __init__(self, session: Session, limits: LineLimits, budget: ClientsBudget, log: FilteringBoundLogger) -> None:
        super().__init__(session, budget, log)
        self._limits = limits
        self._lines: list[bytes] = []  # complete and waiting
        self._input_bytes = 0  # in all of them, and in those that came with them
        self._plain = True  # all of them are plain
        self._tail = bytearray()  # the line that is not complete
        self._dropping = False  # ... and is not kept, for want of memory
        self._overlong = False  # ... or is longer than all limits allow: the framing is lost
        self._opened = False  # a first byte has come
        self._greeted = False  # a first line has come and was no HTTP
        self._ended = False  # no more input is taken: it has ended, or a line was overlong
        self._cut = False  # what is being run may be part of what was typed
        self._odd = True  # input needs more thought than whole lines behind whole lines that have been run

    # Input.

    @property
    def unfinished(self) -> bool:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        return len(self._tail) > 0 or self._dropping

    def receive(self, data: bytes) -> None:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        self._share = self._limits.max_tick_requests
        if len(data) == TYPED_BYTES and self._may_be_cut(data):
            self._cut = True
            self._receive_odd(data)
            self._tell_of_cut()
            return
        if self._odd or len(data) > self._limits.max_line_bytes:
            self._receive_odd(data)
            return
        if SCANS and data.endswith(b"\n") and not self._budget.exhausted():
            data = self._scan(data)
            if not data:
                if self._out_bytes > CHARGE_STEP_BYTES:
                    self._settle()
                return
        lines = data.split(b"\n")
        if lines.pop():
            self._receive_odd(data)
            return
        self._plain = is_plain(data)
        self._run(lines)
        if self.backlog:
            self._input_bytes = len(data)
        if self.backlog or self._out_bytes > CHARGE_STEP_BYTES:
            self._settle()

    def resume(self) -> None:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        self._share = self._limits.max_tick_requests
        self._run_waiting()
        if self._cut:
            self._tell_of_cut()

    def _run_waiting(self) -> None:
        if self._lines:
            self._run(self._lines)
        if not self._lines and not self.closing:
            self._input_bytes = 0
            if self._overlong:
                self.fail(TooLargeError(f"The line is longer than {self._limits.max_line_bytes} bytes."))
            elif self._input_ended:
                self._finish()
        self._settle()

    def end_of_input(self) -> None:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        if not self._input_ended:
            self._input_ended = True
            self._ended = True
            self.resume()

    def _receive_odd(self, data: bytes) -> None:
        """Take bytes that come first, or do not end where a line does, or come while others wait, or are very many."""
        if self.closing or self._ended:
            return
        if not self._opened:
            self._opened = True
            if data.startswith(TLS_HANDSHAKE):
                self.fail(self._violation("This port speaks plain text, not TLS.", TLS_HANDSHAKE))
                return
        waiting = self.backlog
        self._frame(data)
        if waiting:
            self._cut = False  # nobody types that fast
            self._settle()  # this tick's share has been used up
        else:
            self._run_waiting()

    def _may_be_cut(self, data: bytes) -> bool:
        """Return whether input of that length is one PUT, by itself, as a terminal cuts it."""
        return (
            data.find(b"\n") == TYPED_BYTES - 1
            and not (self.backlog or self.unfinished)
            and data.lstrip(BLANKS)[:4].upper() == b"PUT "
        )

    def _tell_of_cut(self) -> None:
        """Put a warning into the reply to that PUT, if it has one by now and has succeeded."""
        if not self.backlog:
            self._cut = False
            if self._out and self._out[-1] == replies.OK:
                self._out[-1] = MAY_BE_CUT
                self._out_bytes += len(MAY_BE_CUT) - len(replies.OK)

    def _settle(self) -> None:
        """Find out whether what comes next may be taken for ordinary, and tell the budget what is held."""
        ordinary = self._greeted and not (self._lines or self._tail or self._dropping or self._ended or self.closing)
        self._odd = not ordinary
        self._charge()

    def _frame(self, data: bytes) -> None:
        """Cut lines; keep what is not complete."""
        if self._dropping:
            end = data.find(b"\n")
            if end < 0:
                return
            self._dropping = False
            self._lines.append(DROPPED)
            self._plain = False
            data = data[end + 1 :]
        if self._tail:
            self._tail += data
            if data.find(b"\n") < 0:
                self._check_tail()
                return
            data = bytes(self._tail)
            self._tail = bytearray()
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines:
            plain = is_plain(data)
            if len(data) > self._limits.max_line_bytes:
                self._cut_overlong(lines)
            self._plain = plain and (self._plain or not self._lines)
            self._lines += lines
            self._input_bytes += len(data) - len(rest)
        if rest and not self._overlong:
            self._tail += rest
            self._check_tail()

    def _check_tail(self) -> None:
        """Let go of a line that may not be kept until it is complete."""
        if len(self._tail) > self._limits.max_line_bytes:
            self._overlong = True
            self._ended = True
        elif len(self._tail) > LINE_OVERHEAD_BYTES and self._budget.exhausted():
            self._dropping = True  # longer than any command that runs always
        else:
            return
        self._tail = bytearray()

    def _cut_overlong(self, lines: list[bytes]) -> None:
        for at, line in enumerate(lines):
            if len(line) > self._limits.max_line_bytes:
                self._overlong = True
                self._ended = True
                del lines[at:]
                return

    # Running.

    def _scan(self, data: bytes) -> bytes:
        """Run the ordinary requests that whole lines begin with; return the rest."""
        room_bytes = self._limits.max_tick_output_bytes - self._out_bytes
        at, requests, out_bytes, closing = scan(data, self.session, self._limits, self._out, self._share, room_bytes)
        self._share -= requests
        self.requests += requests
        self._out_bytes += out_bytes
        if closing:
            self._stop()
            return b""
        return data[at:]

    def _run(self, lines: list[bytes]) -> None:
        """Run lines, as many as this tick still allows, and keep the rest."""
        session, limits = self.session, self._limits
        out, out_bytes, max_out_bytes = self._out, self._out_bytes, limits.max_tick_output_bytes
        # What is out of the ordinary costs the ordinary nothing.
        quick = self._plain and self._greeted and not self._budget.exhausted()
        if out_bytes >= max_out_bytes:
            self._share = 0
        at = 0
        for line in lines:
            if at >= self._share:
                break
            at += 1
            try:
                if not quick:
                    reply = self._run_other(line)
                else:
                    words = line.split(b" ", 2)
                    if len(words) == 3 and words[0] == b"PUT":
                        reply = put(session, limits, words[1], words[2])
                    elif len(words) == 2 and words[0] == b"GET":
                        reply = get(session, limits, words[1])
                    else:
                        reply = bare(session, line) or self._run_other(line)
            except Unfinished:
                at -= 1  # to be run again
                break
            except KvsError as error:
                reply = replies.error(error.code, str(error))
                if ends_conversation(error):
                    self._share = 0
                    self.closing = True
            out.append(reply)
            out_bytes += len(reply)
            if out_bytes >= max_out_bytes:
                break
        self.requests += at
        self._out_bytes = out_bytes
        if self.closing:
            self._stop()
        elif at < len(lines):
            del lines[:at]  # a copy of the rest, for each call of a blocking engine, would take ten times as long
            self._lines = lines
            self.backlog = True
        elif self._lines:
            self._lines = []
            self.backlog = False

    def _run_other(self, line: bytes) -> bytes:
        """Run whatever it is."""
        if not (self._plain and self._greeted):
            line = self._vet(line)
        words = line.lstrip(BLANKS).split(b" ", 2)
        command = self._resolve(words[0].rstrip(BLANKS), line)
        if not command.runs_always and self._budget.exhausted() and not self.session.unanswered:
            raise self._refusal()  # unless it has been done already, and only its answer is to be fetched
        reply = command.run(self.session, self._limits, words)
        self._share -= command.cost - 1
        if command.closes:
            self._share = 0
            self.closing = True
        return reply

    def _vet(self, line: bytes) -> bytes:
        """Return the line as it is to be run; look at what cannot be told of many lines at once."""
        if line == DROPPED:
            raise self._refusal()
        if line.endswith(b"\r"):
            line = line[:-1]
        if not self._greeted and line.strip(BLANKS):
            self._greeted = True  # the first line that is not blank
            if _HTTP.search(line):  # ... would otherwise be a well-formed PUT
                raise self._violation("This port does not speak HTTP.", line)
        try:
            line.decode()
        except UnicodeDecodeError as error:
            raise EncodingError(f"The line is not UTF-8 (at byte {error.start}).") from None
        return line

    def _resolve(self, verb: bytes, line: bytes) -> Command:
        """Find the command of a verb that is not in capitals, or not the very first thing in its line."""
        if not verb:
            raise UsageError("The line is empty; HELP lists the commands.")
        command = COMMANDS.get(verb.upper())
        if command is None:
            if verb.endswith(b":"):
                raise self._violation("This looks like an HTTP header, and this port does not speak HTTP.", line)
            self._share -= SLOW_COST - 1  # for the search for what may have been meant
            raise unknown_command(verb)
        return command

    # What all conversations have.

    def _error_reply(self, error: KvsError) -> bytes:
        return replies.error(error.code, str(error))

    def _input_held_bytes(self) -> int:
        return self._input_bytes + len(self._tail)

    def _forget_input(self) -> None:
        self._lines = []
        self._input_bytes = 0
        self._tail = bytearray()
        self._dropping = False
        self._odd = True

    def _finish(self) -> None:
        """Answer for a last line that was cut short, which must not run, and close."""
        if self.unfinished:
            self.fail(UsageError("The last line did not end in LF, so it was not run."))
        else:
            self._stop()

    def _violation(self, message: str, data: bytes) -> ProtocolViolationError:
        first_word = data.lstrip(BLANKS).split(b" ", 1)[0]  # no more: what follows may be a value
        self._log.warning("protocol_refused", session=self.session.id, reason=message, received=shown(first_word))
        return ProtocolViolationError(message)


def is_plain(data: bytes) -> bool:
    """Return whether all lines are ASCII, and none has a CR, or a tab, which is a blank in some places."""
    return data.isascii() and _CR not in data and _TAB not in data


@final
class LineProtocol:
    """Begins conversations in the line protocol."""

    __slots__ = ("_budget", "_limits", "_log")

    def __init__(self, limits: LineLimits, budget: ClientsBudget, log: FilteringBoundLogger) -> None:
        self._limits = limits
        self._budget = budget
        self._log = log

    def converse(self, session: Session) -> Connection:
        """Return the connection of a client."""
        return LineConnection(session, self._limits, self._budget, self._log)
