"""The run loop, which is the same for every protocol.

Parse a request, check it at the gate, run it, append its reply, record it; until the input, the quota of work or the
room for output is used up. A long command is a generator, which is kept here and advanced by one share at a time. A
command that must continue on another thread is left for it.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from kvs.adapters.inbound.protocol.base_connection import BaseConnection
from kvs.adapters.inbound.protocol.buffer import ReceiveBuffer
from kvs.adapters.inbound.protocol.client_state import ClientState
from kvs.adapters.inbound.protocol.command import ANSWERED, BEGINS, Command, Reply, WholeReply
from kvs.adapters.inbound.protocol.errors import ProtocolViolationError
from kvs.adapters.inbound.protocol.messages import is_fatal
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.protocol.security import STRANGER_OUTPUT_BYTES
from kvs.application.executor import WorkerExecutor
from kvs.build import BUILD
from kvs.domain.errors import KvsError, TimedOutError
from kvs.domain.grants import WRITE
from kvs.ports.session import COPIED_BYTES_PER_UNIT, Session, Steps, Work

if TYPE_CHECKING:
    from collections.abc import Generator

    from mypy_extensions import i64  # an int in a register, to the compiler

# Where a suspended command has to go on, if the engine's calls may wait.
ANY_THREAD: Final = 0
LOOP: Final = 1
WORKER: Final = 2

HAS_FAST_PATH: Final = BUILD == "compiled"
"""Interpreted, a scan byte by byte would cost more than it saves."""

Request: TypeAlias = list[bytes]
"""The name of a command and its arguments."""

NO_REQUEST: Final[Request] = []


class RunLoop(BaseConnection):
    """Runs the requests of one client.

    Args:
        session: The client's session.
        executor: Runs requests on worker threads; None if the engine is non-blocking.
        room_bytes: Length of the replies of one share at which the next request waits.
        observation: Records every request.

    Attributes:
        executor: See above.
        hand_over: Called at a request that only the leader can answer, while this server stands by; nothing is run any
            more until that is refused. None: this server answers all. Set by the channel.
    """

    __slots__ = (
        "_began_s",
        "_buffer",
        "_command",
        "_moved",
        "_observation",
        "_on_worker",
        "_out",
        "_out_bytes",
        "_pushed",
        "_request",
        "_room_bytes",
        "_spent_s",
        "_steps",
        "_unanswered",
        "_violation",
        "_work",
        "executor",
        "hand_over",
    )

    def __init__(
        self, session: Session, executor: WorkerExecutor | None, room_bytes: int, observation: Observation
    ) -> None:
        super().__init__(session)
        self.executor: Final = executor
        self.hand_over: HandOver | None = None
        self._work: Final[Work] = session.work
        self._room_bytes = room_bytes
        self._observation: Final = observation
        self._command: Command | None = None  # whose reply is due, as far as it is known
        self._request = NO_REQUEST
        self._began_s = 0.0  # when its last share began; 0: it has not been run
        self._spent_s = 0.0  # in the shares before
        self._buffer = ReceiveBuffer()
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._steps: Generator[WholeReply | None, None, None] | None = None  # a command that has used up its share
        self._moved: tuple[Command, Request] | None = None  # admitted, to be started by the other thread
        self._on_worker = False
        self._pushed: list[bytes] = []  # messages that wait for the reply to a command that is under way
        self._violation: ProtocolViolationError | None = None  # to be logged
        self._unanswered: Request | None = None  # the request that is handed over

    # Provided by the protocol.

    @abstractmethod
    def _run_fast_path(self) -> bool:
        """Run the most common requests straight from the buffer, if the connection's state allows it.

        Returns:
            Whether all input is used up.
        """

    @abstractmethod
    def _parse(self) -> Request | None:
        """Return the next request, or None if it is incomplete."""

    @abstractmethod
    def _admit(self, request: Request) -> Command:
        """Return the command of a request, and note it as soon as it is known.

        Raises:
            KvsError: The command is unknown, or may not run now.
        """

    @abstractmethod
    def _start(self, command: Command, request: Request) -> Reply:
        """Run a command that has been admitted."""

    @abstractmethod
    def _answered_by_standbys(self, request: Request) -> int:
        """Return what a server that stands by does with a request: see :mod:`kvs.adapters.inbound.protocol.command`."""

    @abstractmethod
    def _encoded(self, request: Request) -> bytes:
        """Return a request as it is sent."""

    @abstractmethod
    def state(self) -> ClientState:
        """Return what the client has set, for the server that goes on with it."""

    @abstractmethod
    def restore(self, state: ClientState) -> None:
        """Set that, for a client of another server."""

    @abstractmethod
    def _error_reply(self, error: KvsError) -> bytes:
        """Return the reply that reports an error."""

    @abstractmethod
    def _error_code(self, reply: bytes) -> bytes:
        """Return the code of the error that a reply reports, in capitals; empty if it reports none."""

    # Provided by the connection.

    @abstractmethod
    def _finish_share(self) -> None:
        """Decide how to continue after a share."""

    @abstractmethod
    def _charge(self) -> None:
        """Update the budget if the connection's memory has changed by enough to matter."""

    @abstractmethod
    def _full_bytes(self) -> int:
        """Return what all clients together may hold, if they hold that much; else -1."""

    # The loop.

    def _run(self) -> bool:
        """Run requests until input, quota or room for output is used up, or another thread has to continue.

        Returns:
            Whether the fast path has used up all input, so that only replies hold memory.
        """
        work = self._work
        room_bytes = self._room_bytes
        if self.peer.user is None:
            room_bytes = min(room_bytes, STRANGER_OUTPUT_BYTES)
        self.backlog = True
        reply: bytes | list[bytes] | None
        while work.left > 0 and self._out_bytes < room_bytes and (not self.closing or self._is_due()):
            try:
                if self._moved is not None:
                    command, request = self._moved
                    if command.on_loop and self._on_worker:
                        return False
                    self._moved = None
                    reply = self._run_command(command, request)
                elif self._steps is not None:
                    self._began_s = self._observation.timer()
                    reply = self._advance(self._steps)
                else:
                    if self._run_fast_path():
                        self.backlog = False
                        return not self.closing
                    if work.left <= 0 or self._out_bytes >= room_bytes or self.closing:
                        return False
                    parsed = self._parse()
                    if parsed is None:
                        self.backlog = False
                        return False
                    work.left -= 1
                    if self.hand_over is not None and self._is_leaders(parsed):
                        self._unanswered = parsed
                        self.backlog = False
                        return False
                    self._request = parsed
                    command = self._admit(parsed)
                    if self.executor is not None and self._is_for_other_thread(command, parsed):
                        self._moved = (command, parsed)
                        return False
                    reply = self._run_command(command, parsed)
            except KvsError as error:
                self._steps = None
                work.held_bytes = 0
                reply = self._error_reply(error)
                if is_fatal(error):
                    self.closing = True
                    self.close_reason = error.code
                    if isinstance(error, ProtocolViolationError):
                        self._violation = error
            if reply is not None:
                self.requests += 1
                self._emit(reply)
                self._observe(reply)
                if isinstance(reply, bytes):
                    work.left -= len(reply) // COPIED_BYTES_PER_UNIT
                if not self._buffer.held_bytes:
                    self.backlog = False
                    return False
            elif self.peer.checking or self._is_on_wrong_thread():
                return False
        return False

    def _has_fast_path(self) -> bool:
        """Return whether requests may go past the gate.

        This build has a fast path, this thread may call the engine, nobody looks at requests, and no grant limits the
        client.
        """
        return (
            HAS_FAST_PATH
            and self.peer.is_unrestricted
            and not self._observation.sees_all
            and (self.executor is None or self._on_worker)
            and self.hand_over is None
        )

    def _charge_fast_path(self, requests: "i64", input_bytes: "i64", out_bytes: "i64", closing: bool) -> None:  # noqa: FBT001
        """Account for what the fast path has run."""
        self.requests += requests
        self._out_bytes += out_bytes
        self._work.left -= requests + (input_bytes + out_bytes) // COPIED_BYTES_PER_UNIT
        if closing:
            self.closing = True
            self.close_reason = TimedOutError.code

    def _is_leaders(self, request: Request) -> bool:
        """Return whether a request is for the leader to answer: not that of a client that has not authenticated."""
        return self.peer.user is not None and self._answered_by_standbys(request) != ANSWERED

    def _is_due(self) -> bool:
        """Return whether a request is moved to a worker that has not begun it."""
        return self._on_worker and self._moved is not None

    def _run_command(self, command: Command, request: Request) -> bytes | list[bytes] | None:
        """Run a command; return its reply, or None if it is not finished."""
        self._began_s = self._observation.timer()
        if command.categories & WRITE:  # whatever it would find
            self.session.check_may_write()
        reply = self._start(command, request)
        if isinstance(reply, bytes):
            return reply
        if isinstance(reply, list):  # apart: the compiler makes a union of types anew for each check
            return reply
        self._steps = steps = _yield_reply(reply)
        return self._advance(steps)

    def _advance(self, steps: "Generator[WholeReply | None, None, None]") -> WholeReply | None:
        """Run a command by a share; return its reply, or None if it is not finished."""
        work = self._work
        work.full_bytes = self._full_bytes()
        reply = next(steps)
        if reply is not None:
            self._steps = None
            work.held_bytes = 0
        else:
            self._spent_s += self._observation.timer() - self._began_s
        return reply

    def _observe(self, reply: bytes | list[bytes]) -> None:
        """Record the request that a reply answers, and let messages follow."""
        if self._pushed and not self._on_worker:
            self._append_pushed()
        command, self._command = self._command, None
        began_s, self._began_s = self._began_s, 0.0
        request, self._request = self._request, NO_REQUEST
        error = self._error_code(reply) if isinstance(reply, bytes) else b""
        if began_s == 0:
            self._work.left -= self._observation.refused(self.peer, command, request, error)
        elif command is not None:
            spent_s, self._spent_s = self._spent_s, 0.0
            spent_s += self._observation.timer() - began_s
            self._work.left -= self._observation.ran(self.peer, command, request, spent_s, error)
            if self.executor is not None and not self._on_worker:
                self._observation.monitors.flush()

    def _wanted_thread(self) -> int:
        """Return where the suspended command has to continue."""
        return ANY_THREAD

    def _is_on_wrong_thread(self) -> bool:
        wanted = self._wanted_thread()
        return wanted != ANY_THREAD and self.executor is not None and (wanted == LOOP) == self._on_worker

    def _emit(self, reply: bytes | list[bytes]) -> None:
        """Append the reply to a request."""
        if isinstance(reply, bytes):
            self._append(reply)
        else:
            for piece in reply:
                self._append(piece)

    def _append(self, reply: bytes) -> None:
        self._out.append(reply)
        self._out_bytes += len(reply)

    def _append_pushed(self) -> None:
        """Append the messages that waited for a reply."""
        pushed, self._pushed = self._pushed, []
        for message in pushed:
            self._append(message)

    def _is_for_other_thread(self, command: Command, request: Request) -> bool:
        """Return whether a request calls the engine on the loop, or is about connections on a worker."""
        if self._on_worker:
            return command.on_loop
        return not (command.on_loop or command.is_local(self.session, request))

    def _close_steps(self) -> None:
        """Abandon the suspended command, and the messages that wait for its reply."""
        self._pushed.clear()
        steps, self._steps = self._steps, None
        if steps is not None:
            steps.close()
            self._work.held_bytes = 0

    # A server that stands by.

    def release_input(self) -> list[bytes]:
        """Remove and return all input from the request on that is handed over: another server answers it."""
        request, self._unanswered = self._unanswered, None
        buffer = self._buffer
        pieces = [] if request is None else [self._encoded(request)]
        if buffer.held_bytes:
            pieces.append(buffer.take(buffer.held_bytes))
        self._charge()
        return pieces

    def refuse(self, error: KvsError) -> None:
        """Answer the request that is handed over with an error, and go on with the next one.

        Not if that one may depend on what this one would have begun: it would be run by itself.
        """
        request, self._unanswered = self._unanswered, None
        if request is None:
            return
        if self._answered_by_standbys(request) == BEGINS:
            self.closing = True
            self.close_reason = error.code
        reply = self._error_reply(error)
        self.requests += 1
        self._emit(reply)
        self._observe(reply)
        self.backlog = self._buffer.held_bytes > 0
        self._finish_share()


HandOver: TypeAlias = Callable[[], None]


def _yield_reply(steps: Steps[bytes] | Steps[WholeReply]) -> "Generator[WholeReply | None, None, None]":
    """Yield None after each share of a command, and its reply at the end.

    To take what a generator returns takes an exception: 4,000 instructions in the compiled build.
    """
    reply = yield from steps
    yield reply
