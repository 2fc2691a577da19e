"""Collects the figures of a server for the admin port, whose thread never looks at an engine or a session by itself.

The loop collects, when it is asked to, in steps of about a tenth of a millisecond. After each step it pauses for
:data:`PAUSE_FACTOR` times as long, and after the last as well; so however often it is asked, that takes at most 5 % of
the loop. A request in between gets the figures that were collected last.

A blocking engine's own figures are collected by a worker.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, final

from kvs.adapters.inbound.net.reasons import KILLED
from kvs.adapters.inbound.net.registry import ChannelRegistry
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.protocol.slow_log import SlowCommand
from kvs.application.conflict_keys import ConflictKey
from kvs.application.figures import Reading
from kvs.application.registry import SessionRegistry
from kvs.domain.errors import TimedOutError
from kvs.log_type import FilteringBoundLogger
from kvs.ports.histogram import Counts
from kvs.ports.storage import Storage
from kvs.ports.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Generator

PAUSE_FACTOR: Final = 19

SHORTEST_S: Final = 0.2
"""Least time between two collections."""

ENGINE_PATIENCE_S: Final = 1.0
"""Longest wait for what a blocking engine tells of itself."""

COMMANDS_PER_STEP: Final = 10
CHANNELS_PER_STEP: Final = 250
MAX_TRANSACTIONS: Final = 100
MAX_CONFLICT_KEYS: Final = 20
MAX_SLOW_COMMANDS: Final = 20

ENDED_BY_OPERATOR: Final = "The transaction was ended by an operator."

RunJob: TypeAlias = Callable[[Callable[[], None]], None]
"""Has a worker run something."""


class OpenTransaction(NamedTuple):
    """A transaction of a client.

    Attributes:
        session: Number of the session.
        age_s: How old it is.
        depth: Levels of nesting.
        held_bytes: Its memory.
        address: Of the client.
        name: Of the client, as it has set it.
        user: Who the client is; empty: nobody in particular.
    """

    session: int
    age_s: float
    depth: int
    held_bytes: int
    address: str
    name: bytes
    user: str


class Collected(NamedTuple):
    """What was collected.

    Attributes:
        figures: See :mod:`kvs.application.figures`.
        transactions: The oldest that are open.
        conflict_keys: Those named most often.
        slow_commands: The latest.
        unix_s: When that was.
        seen_s: The same in seconds of the loop's clock.
    """

    figures: Reading
    transactions: list[OpenTransaction]
    conflict_keys: list[ConflictKey]
    slow_commands: list[SlowCommand]
    unix_s: float
    seen_s: float


Receiver: TypeAlias = Callable[[Collected], None]
Answer: TypeAlias = Callable[[bool], None]


@final
class Collector:
    """Collects figures while a server runs.

    Args:
        sessions: All sessions, and what further sources there are.
        storage: The engine.
        clients: All clients.
        observation: What is known of commands.
        topology: The servers of the data set; None: there is only this one.
        log: Bound logger.
        clock: Monotonic seconds, that of the sessions.
        timer: Monotonic seconds, to measure its own steps.
    """

    def __init__(
        self,
        sessions: SessionRegistry,
        storage: Storage,
        clients: ChannelRegistry,
        observation: Observation,
        topology: Topology | None,
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._sessions = sessions
        self._storage = storage
        self._clients = clients
        self._observation = observation
        self._topology = topology
        self._clock = clock
        self._run_job: RunJob | None = None
        self._log = log
        self._timer = timer
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock: Final = Lock()
        self._receivers: list[Receiver] = []  # under the lock, as are these
        self._collecting = False
        self._last: Collected | None = None
        self._not_before_s = 0.0
        self._steps: Generator[None, None, Collected] | None = None
        self._engine: Reading = {}
        self._asking_engine = False
        self._patience: asyncio.TimerHandle | None = None  # while the engine is waited for
        self._asked_s = 0.0
        self._delay_s = 0.0

    def ask_engine_on(self, run_job: RunJob) -> None:
        """Have workers ask the engine: it is blocking."""
        self._run_job = run_job

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Collect on a loop from now on."""
        self._loop = loop

    # By any thread.

    def ask(self, receiver: Receiver) -> None:
        """Have a function called with figures, by this thread at once or later by the loop's.

        It is not called if the loop ends before.
        """
        with self._lock:
            last = self._last
            if last is None or self._timer() >= self._not_before_s or self._collecting:
                self._receivers.append(receiver)
                begins, self._collecting = not self._collecting, True
            else:
                begins = False
                receiver(last)
        if begins:
            self._asked_s = self._timer()
            self._post(self._begin)

    def give_up(self, receiver: Receiver) -> Collected | None:
        """Do not call a function any more; return what was collected last, if anything."""
        with self._lock:
            if receiver in self._receivers:
                self._receivers.remove(receiver)
            return self._last

    def turn(self, turned: Callable[[], None]) -> None:
        """Have the loop call a function."""
        self._post(turned)

    def abort(self, session: int, seen_s: float, answer: Answer) -> None:
        """Have the loop end a transaction, and call a function, told whether it did.

        Args:
            session: Number of its session.
            seen_s: When it was seen, by :attr:`Collected.seen_s`: a later one of that session is not ended.
            answer: Called by the loop.
        """
        self._post(lambda: answer(self._abort(session, seen_s)))

    def _post(self, callback: Callable[[], None]) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(callback)

    # By the loop.

    def _abort(self, session_id: int, seen_s: float) -> bool:
        """End a transaction, unless that is over already; return whether it was done."""
        channel = self._clients.channels.get(session_id)
        if channel is None or channel.connection.busy:  # by a worker, which may be committing
            return False
        session = channel.connection.session
        if not session.depth or session.started_at_s > seen_s or channel.connection.closing:
            return False
        channel.fail(TimedOutError(ENDED_BY_OPERATOR), KILLED)
        self._log.info("transaction_aborted", peer=channel.remote_address, session=session_id)
        return True

    def _begin(self) -> None:
        self._delay_s = self._timer() - self._asked_s
        if self._run_job is None or self._asking_engine or self._loop is None:
            self._begin_steps()
        else:
            self._asking_engine = True
            self._patience = self._loop.call_later(ENGINE_PATIENCE_S, self._engine_answered)
            self._run_job(self._ask_engine)

    def _ask_engine(self) -> None:
        """Ask the engine about itself. By a worker."""
        self._engine = self._read_engine()
        self._asking_engine = False
        self._post(self._engine_answered)

    def _engine_answered(self) -> None:
        """Go on: the engine has answered, or takes too long, and its last answer is shown."""
        patience, self._patience = self._patience, None
        if patience is not None:
            patience.cancel()
            self._begin_steps()

    def _begin_steps(self) -> None:
        self._steps = self._collect()
        self._advance()

    def _advance(self) -> None:
        """Take a step, and pause."""
        loop, steps = self._loop, self._steps
        if loop is None or steps is None:
            return
        began_s = self._timer()
        done: Collected | None = None
        try:
            next(steps)
        except StopIteration as end:
            done = end.value
        except BaseException:
            with self._lock:
                self._collecting = False
                self._receivers.clear()
            raise
        took_s = self._timer() - began_s
        if done is None:
            loop.call_later(PAUSE_FACTOR * took_s, self._advance)
        else:
            self._finish(done, took_s)

    def _finish(self, done: Collected, took_s: float) -> None:
        with self._lock:
            self._last = done
            self._not_before_s = self._timer() + max(SHORTEST_S, PAUSE_FACTOR * took_s)
            self._collecting = False
            receivers, self._receivers = self._receivers, []
        for receiver in receivers:
            receiver(done)

    def _read_engine(self) -> Reading:
        """Return the engine's figures; nothing if it fails."""
        try:
            return {**self._storage.stats(), **self._storage.distributions()}
        except Exception as error:  # noqa: BLE001  # whatever it raises
            self._log.error("engine_failed", call="Storage.stats", exc_info=error)
            return {}

    def _collect(self) -> "Generator[None, None, Collected]":
        if self._run_job is None:
            self._engine = self._read_engine()
            yield
        figures: Reading = yield from self._sessions.steps()
        yield
        figures.update(self._engine)
        yield from self._add_commands(figures)
        figures["errors"] = {code.decode(): count for code, count in list(self._observation.statistics.errors.items())}
        figures.update(_of_roles(self._topology))
        figures["loop_delay_s"] = self._delay_s
        figures["cpu_s"] = time.process_time()
        yield
        seen_s = self._clock()
        transactions = yield from self._open_transactions(seen_s)
        conflict_keys = self._sessions.conflict_keys.most(MAX_CONFLICT_KEYS)
        slow = [*self._observation.slow_log.entries][:MAX_SLOW_COMMANDS]
        return Collected(figures, transactions, conflict_keys, slow, time.time(), seen_s)

    def _add_commands(self, figures: Reading) -> "Generator[None, None, None]":
        durations: dict[str, Counts] = {}
        failed: dict[str, int] = {}
        refused: dict[str, int] = {}
        for at, (name, command) in enumerate(self._observation.statistics.by_name().items(), 1):
            text = name.decode()
            if command.calls:
                durations[text] = Counts(command.durations.counts(), int(command.total_ns))
                failed[text] = int(command.failed)
            refused[text] = int(command.refused)
            if at % COMMANDS_PER_STEP == 0:
                yield
        figures["command_ns"] = durations
        figures["commands_failed"] = failed
        figures["commands_refused"] = refused

    def _open_transactions(self, now_s: float) -> "Generator[None, None, list[OpenTransaction]]":
        """Return the oldest."""
        found: list[OpenTransaction] = []
        for at, session_id in enumerate(list(self._clients.channels), 1):
            channel = self._clients.channels.get(session_id)
            if channel is not None and channel.connection.session.depth:
                session, peer = channel.connection.session, channel.connection.peer
                age_s = max(0.0, now_s - session.started_at_s)
                user = peer.user
                place = (peer.address, peer.name, "" if user is None else user.name)
                found.append(OpenTransaction(session_id, age_s, session.depth, session.held_bytes, *place))
            if at % CHANNELS_PER_STEP == 0:
                found = _oldest(found)
                yield
        return _oldest(found)


def _oldest(transactions: list[OpenTransaction]) -> list[OpenTransaction]:
    return sorted(transactions, key=_youth)[:MAX_TRANSACTIONS]


def _youth(transaction: OpenTransaction) -> float:
    return -transaction.age_s


def _of_roles(topology: Topology | None) -> Reading:
    if topology is None:
        return {"leads": 1, "has_leader": 1, "standbys": 0}
    found: Reading = {
        "leads": int(topology.leads and topology.has_leader),
        "has_leader": int(topology.has_leader),
        "standbys": len(topology.replicas),
    }
    if not topology.leads:
        found["replica_entries"] = topology.entries
    return found
