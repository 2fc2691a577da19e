"""A connection: bytes in, bytes out, without I/O. Channels call it.

If the engine is blocking, the first request that needs it moves the connection to a worker thread, which runs that
request and all complete ones after it, and hands the connection back: one hop per packet. While the connection is
*busy* the loop only collects input for it.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Final, TypeAlias

from kvs.adapters.inbound.protocol.base_connection import UNBOUNDED
from kvs.adapters.inbound.protocol.errors import ProtocolViolationError
from kvs.adapters.inbound.protocol.messages import printable
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.protocol.run_loop import RunLoop
from kvs.application.executor import WorkerExecutor
from kvs.application.memory_budget import MemoryBudget
from kvs.domain.errors import KvsError, UsageError
from kvs.log_type import FilteringBoundLogger
from kvs.override import override
from kvs.ports.session import Session

TOO_SLOW: Final = "too slow"  # why a client is closed that does not read its output

CHARGE_STEP_BYTES: Final = 4096
"""Change of a connection's memory below which the budget is not updated: an update per reply costs 5 % of a GET."""

WORKER_STEP_BYTES: Final = 1 << 20
"""Change of what a command on a worker holds below which the loop does not update the memory budget."""

HOP_S: Final = 0.01
"""How long a worker runs the requests of one connection before it serves others."""


class Connection(RunLoop):
    """One client's session, unparsed input and unsent replies.

    Args:
        session: The client's session.
        budget: Memory budget of all clients.
        executor: Runs requests on worker threads; None if the engine is non-blocking.
        max_share: Maximum units of work in one share, and so of requests.
        room_bytes: Length of the replies of one share at which the next request waits.
        observation: Records every request.
        log: For clients that do not speak the protocol.
    """

    __slots__ = (
        "_arrived",
        "_budget",
        "_charged_bytes",
        "_closed",
        "_closing_session",
        "_failure",
        "_finished",
        "_input_ended",
        "_log",
        "_max_share",
        "_on_close",
        "_pushed_bytes",
    )

    def __init__(
        self,
        session: Session,
        budget: MemoryBudget,
        executor: WorkerExecutor | None,
        max_share: int,
        room_bytes: int,
        observation: Observation,
        log: FilteringBoundLogger,
    ) -> None:
        super().__init__(session, executor, room_bytes, observation)
        self._budget = budget
        self._max_share = max_share
        self._log = log
        self._charged_bytes = 0
        self._input_ended = False
        self._arrived: list[bytes] = []  # input that arrived while a worker had the buffer
        self._pushed_bytes = 0  # of messages since the client has last had room for output
        self._finished: list[bytes] = []  # replies from before the worker began, which can be taken meanwhile
        self._failure: BaseException | None = None  # of a worker
        self._closed = False
        self._closing_session = False
        self._on_close: Callable[[], None] | None = None

    # Provided by the protocol.

    @abstractmethod
    def _parsed_bytes(self) -> int:
        """Return the memory of requests outside the buffer."""

    @abstractmethod
    def _forget_input(self) -> None:
        """Release the memory of requests outside the buffer."""

    @abstractmethod
    def _incomplete_message(self) -> str:
        """Return the message for a last request that is incomplete."""

    # Called by the channel.

    @property
    @override
    def busy(self) -> bool:
        return self._on_worker or self.peer.checking

    @override
    def held_bytes(self) -> int:
        return self.input_bytes() + self._work.held_bytes + self._out_bytes

    @override
    def receive(self, data: bytes, quota: int = UNBOUNDED) -> int:
        if self.closing or self._input_ended:
            return 0
        if self._on_worker:
            self._arrived.append(data)
            return 0
        complete = self._feed(data)
        if complete and not self.backlog and quota > 0:
            return self._run_share(quota)
        self.backlog = self.backlog or complete
        self._charge()
        return 0

    @override
    def resume(self, quota: int = UNBOUNDED) -> int:
        if self._failure is not None:
            self._raise_failure()
        return 0 if self._on_worker or self.peer.checking or self.closing else self._run_share(quota)

    @override
    def end_of_input(self) -> None:
        if not (self._input_ended or self.closing):
            self._input_ended = True
            if not (self._on_worker or self.backlog):
                self._finish_share()

    @override
    def fail(self, error: KvsError) -> None:
        if not self.closing:
            self.close_reason = error.code
            reply = self._error_reply(error)
            if self._on_worker:
                self._pushed.append(reply)  # after the reply to the running request
            else:
                self._append(reply)
            self._stop()

    @override
    def fail_instead(self, error: KvsError) -> None:
        self._out = [self._error_reply(error)]
        self._out_bytes = len(self._out[0])
        self.close_reason = self.close_reason or error.code
        self._stop()

    def push(self, message: bytes) -> None:
        """Send something that no request asked for. A client with more of it unread than allowed is closed."""
        if self.closing:
            return
        self._pushed_bytes += len(message)
        if len(message) < self._pushed_bytes > self._room_bytes:
            self.close_reason = TOO_SLOW
            self._stop()
        elif self._on_worker or self._steps is not None:
            self._pushed.append(message)
            return
        else:
            self._append(message)
        self.wake()

    @override
    def take_output(self) -> tuple[list[bytes], int]:
        if not (self.output_full or self._pushed):
            self._pushed_bytes = 0
        if self._on_worker or self._finished:
            return self._take_finished()
        out, size = self._out, self._out_bytes
        if out:
            self._out = []
            self._out_bytes = 0
            if self._charged_bytes:
                self._charge()
        return out, size

    def _take_finished(self) -> tuple[list[bytes], int]:
        """Remove and return the output that a worker does not change."""
        out, self._finished = self._finished, []
        if not self._on_worker:
            out += self._out
            self._out = []
            self._out_bytes = 0
            self._charge()
        return out, sum([len(piece) for piece in out])

    @override
    def close(self) -> None:
        self._closed = True
        self._finished.clear()
        if not self._on_worker:
            self._out.clear()
            self._out_bytes = 0
        self._stop()

    @override
    def when_closed(self, callback: Callable[[], None]) -> None:
        if self._closed and not (self._on_worker or self._closing_session):
            callback()
        else:
            self._on_close = callback

    # The run loop.

    def _run_share(self, quota: int) -> int:
        work = self._work
        share = min(self._max_share, quota)
        work.left = share
        clean = self._run()
        used = share - work.left
        if clean and self._out_bytes <= CHARGE_STEP_BYTES and not (self._charged_bytes or self._input_ended):
            return used  # the usual case
        if self._moved is not None or (self._steps is not None and self._is_on_wrong_thread()):
            self._move_to_worker()
        else:
            if self.executor is not None:
                self.executor.settle()
            self._finish_share()
        return used

    def _feed(self, data: bytes) -> bool:
        """Take input; return whether it may have completed a request."""
        self._buffer.feed(data)
        return True

    @override
    def _finish_share(self) -> None:
        if self._unanswered is not None and self.hand_over is not None and not self.closing:
            self.hand_over()
        elif self.closing:
            self._stop()
            violation, self._violation = self._violation, None
            if violation is not None:
                self._log_violation(violation)
        elif self._input_ended and not self.backlog:
            if self.mid_request:
                self.fail(UsageError(self._incomplete_message()))
            else:
                self._stop()
        else:
            self._charge()

    def _log_violation(self, violation: ProtocolViolationError) -> None:
        reason = printable(str(violation))
        self._log.warning("protocol_refused", peer=self.peer.address, session=self.session.id, reason=reason)

    # Workers.

    def _move_to_worker(self) -> None:
        if self.executor is not None:
            self._on_worker = True
            self._finished += self._out
            self._out = []
            self._out_bytes = 0
            self.executor.run(self._run_on_worker, self._back_from_worker)

    def _run_on_worker(self) -> None:
        """Run the request that was moved, and those after it, for at most the time of a hop. By a worker.

        A request that was moved is run even if the client has disconnected; a long one is then abandoned between steps.
        """
        executor = self.executor
        if executor is None:
            return
        try:
            end_s = executor.clock() + HOP_S
            charged_bytes = 0
            while True:
                self._work.left = 1
                self._run()
                held_bytes = self._work.held_bytes
                if abs(held_bytes - charged_bytes) >= WORKER_STEP_BYTES:
                    charged_bytes = held_bytes
                    executor.post(self._charge)
                if self._moved is not None or self._is_on_wrong_thread() or self.closing or not self.backlog:
                    return
                if self._steps is None and (self._out_bytes >= self._room_bytes or executor.clock() >= end_s):
                    return
        except BaseException as error:  # noqa: BLE001  # a fault of ours: it ends this client, and is reported by the loop
            self._failure = error

    def _back_from_worker(self) -> None:
        """Take the connection back. By the loop."""
        self._on_worker = False
        self._observation.monitors.flush()
        self.peer.announce()
        for data in self._arrived:
            self.backlog = self._feed(data) or self.backlog
        self._arrived = []
        if self._steps is None or self.closing:
            self._append_pushed()
        if self._moved is not None or self._steps is not None or self._failure is not None:
            self.backlog = True
        if self._closed:
            self._out.clear()
            self._out_bytes = 0
            self._stop()
            if self._failure is not None:
                self._raise_failure()  # resume is not called any more
        else:
            self._finish_share()
            self.wake()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # it holds this frame

    # The end.

    def _stop(self) -> None:
        """Take no more input and drop the unparsed; outstanding replies are still sent."""
        self.closing = True
        self.backlog = False
        if self._on_worker:
            return  # continued when the worker has finished
        self._moved = None
        self._buffer.clear()
        self._forget_input()
        self._end_session()
        self._charge()

    def _end_session(self) -> None:
        """Close the session; on a worker if that closes a snapshot of a blocking engine."""
        if self._closing_session:
            return
        if self.executor is None or not self.session.holds_snapshot:
            self._close_steps()
            self.session.close()
            if self.executor is not None:
                self.executor.settle()
            self._report_closed()
        else:
            self._closing_session = True
            self.executor.run(self._abort, self._session_aborted)

    def _abort(self) -> None:
        """Close the session's snapshots. By a worker."""
        try:
            self._close_steps()
            self.session.abort()
        except BaseException as error:  # noqa: BLE001  # a fault of ours, reported by the loop
            self._failure = error

    def _session_aborted(self) -> None:
        self._closing_session = False
        self.session.close()
        self._charge()
        self._report_closed()
        if self._failure is not None:
            self._raise_failure()

    def _report_closed(self) -> None:
        callback, self._on_close = self._on_close, None
        if callback is not None and self._closed:
            callback()

    # Memory.

    @override
    def input_bytes(self) -> int:
        return self._buffer.held_bytes + self._parsed_bytes()

    @override
    def _full_bytes(self) -> int:
        budget = self._budget
        return budget.limit_bytes if budget.exhausted() else -1

    @override
    def _charge(self) -> None:
        held = self.held_bytes()
        change = held - self._charged_bytes
        if change > CHARGE_STEP_BYTES or change < -CHARGE_STEP_BYTES or self.closing:
            self._budget.used_bytes += change
            self._charged_bytes = held


ConnectionFactory: TypeAlias = Callable[[], Connection]
"""Makes the connection of a new client."""
