"""Sessions of a blocking engine: its calls are made by worker threads, so that a slow one holds up nobody else.

A :class:`WorkerSession` stands before an :class:`EngineSession`. What takes no call of the engine it asks at once.
All else it hands to a worker, whole, and raises :class:`kvs.ports.session.Unfinished`; whoever asked is woken when the
call has ended, asks the same again, and gets the answer.

*Threads.* The session inside belongs to one thread at a time: to a worker while a call is in flight, to the loop (the
thread that asks) otherwise. It goes there through the queue of calls and comes back through ``post``, so it needs no
lock. What sessions share is touched by the loop alone: the session inside charges a budget of its own, from which the
loop settles with the budget of all clients; and the loop takes it off the list of open ones. INFO looks into sessions
that are in flight, for single figures only, each of them one that there was.

*Bounds.* A session has at most one call in flight, be its client there or gone. So no more calls wait for a worker than
there are clients, if a client counts until its session has ended.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeAlias, TypeVar, cast, final

from kvs.application.memory_budget import ClientsBudget
from kvs.application.registry import EngineSessions
from kvs.domain.commit import Committed, Conflict
from kvs.domain.errors import KvsError
from kvs.domain.updates import Update, Updated
from kvs.domain.values import Key, Value
from kvs.ports.session import Session, Unfinished

T = TypeVar("T")

Task: TypeAlias = Callable[[], None]

Post: TypeAlias = Callable[[Task], None]
"""Has a task run by the loop, soon. Called by any thread; when the loop has ended it does nothing."""


@final
class WorkerThreads:
    """A fixed number of threads, which run tasks in the order they come in.

    They are daemons: one that hangs in a task does not keep the process from ending.

    Args:
        number: How many.

    Raises:
        RuntimeError: So many threads cannot be started.
    """

    __slots__ = ("_tasks", "_threads")

    def __init__(self, number: int) -> None:
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._threads: list[Thread] = []
        try:
            for _ in range(number):
                thread = Thread(target=self._work, name="kvs-worker", daemon=True)
                thread.start()
                self._threads.append(thread)
        except RuntimeError:
            self.close()
            raise

    def run(self, task: Task) -> None:
        """Have a task run by the next thread that is free. It must not raise."""
        self._tasks.put(task)

    def close(self) -> None:
        """End the threads behind the last of their tasks."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            if task is None:
                return
            task()
            del task  # nothing of a client that has gone is kept until the next one comes


@final
class _Call:
    """What a worker is to ask, and what has come of it."""

    __slots__ = ("_answer", "_error", "_question")

    def __init__(self, question: "partial[Any]") -> None:
        self._question = question
        self._answer: object = None
        self._error: BaseException | None = None

    def asks(self, question: "partial[Any]") -> bool:
        """Return whether this is the question."""
        mine = self._question
        return (mine.func, mine.args, mine.keywords) == (question.func, question.args, question.keywords)

    def make(self) -> None:
        """Ask until there is an answer: a listing need not make way for others here. By a worker."""
        while True:
            try:
                self._answer = self._question()
            except Unfinished:
                continue
            except BaseException as error:  # noqa: BLE001  # raised where it was asked; the worker lives on
                self._error = error
            return

    def answer(self) -> object:
        """Return the answer, or raise what was raised in its place. Once."""
        if self._error is None:
            return self._answer
        try:
            raise self._error
        finally:
            self._error = None  # it has a traceback, which has this frame, which has this call: a cycle


@final
class WorkerSession(Session):
    """A session whose engine is called by workers."""

    __slots__ = ("_budget", "_call", "_closed", "_in_flight", "_inner", "_post", "_threads", "_untold", "_wake")

    def __init__(self, sessions: EngineSessions, threads: WorkerThreads, post: Post) -> None:
        untold = ClientsBudget(sessions.budget.limit_bytes)
        inner = sessions.open(untold)
        super().__init__(inner.id, inner.totals)
        self._inner = inner
        self._untold = untold  # what has been charged inside, and the budget of all clients has not been told of
        self._budget = sessions.budget
        self._threads = threads
        self._post = post
        self._call: _Call | None = None  # in flight, or ended and not answered yet
        self._in_flight = False
        self._wake: Task | None = None
        self._closed = False

    @property
    def in_flight(self) -> bool:
        """See :class:`kvs.ports.session.Session`."""
        return self._in_flight

    @property
    def unanswered(self) -> bool:
        """See :class:`kvs.ports.session.Session`."""
        return self._call is not None

    def when_ended(self, wake: Task) -> None:
        """See :class:`kvs.ports.session.Session`."""
        if self._in_flight:
            self._wake = wake
        else:
            wake()

    @property
    def depth(self) -> int:
        """See :class:`kvs.ports.session.Session`."""
        return self._inner.depth

    @property
    def held_bytes(self) -> int:
        """See :class:`kvs.ports.session.Session`."""
        return self._inner.held_bytes

    @property
    def expired(self) -> bool:
        """See :class:`kvs.ports.session.Session`. Not while a call is in flight: a worker has the snapshot then."""
        return not self._in_flight and self._inner.expired

    def get(self, key: Key) -> Value | None:
        """See :class:`kvs.ports.session.Session`."""
        return self._ask(partial(self._inner.get, key), at_once=self._inner.has_pending(key))

    def put(self, key: Key, value: Value) -> None:
        """See :class:`kvs.ports.session.Session`."""
        self._ask(partial(self._inner.put, key, value), at_once=self.depth > 0)

    def delete(self, key: Key) -> bool:
        """See :class:`kvs.ports.session.Session`."""
        return self._ask(partial(self._inner.delete, key), at_once=self._inner.has_pending(key))

    def keys(self, prefix: Key, after: Key, limit: int) -> list[Key]:
        """See :class:`kvs.ports.session.Session`."""
        return self._ask(partial(self._inner.keys, prefix, after, limit), at_once=False)

    def count(self, prefix: Key) -> int:
        """See :class:`kvs.ports.session.Session`."""
        return self._ask(partial(self._inner.count, prefix), at_once=False)

    def update(self, key: Key, change: Update) -> Updated:
        """See :class:`kvs.ports.session.Session`."""
        return self._ask(partial(self._inner.update, key, change), at_once=self._inner.has_pending(key))

    def put_all(self, entries: Mapping[Key, Value]) -> None:
        """See :class:`kvs.ports.session.Session`."""
        self._ask(partial(self._inner.put_all, entries), at_once=self.depth > 0)

    def clear(self) -> None:
        """See :class:`kvs.ports.session.Session`."""
        self._ask(partial(self._inner.clear), at_once=False)

    def atomically(self, unit: Callable[[Session], T], *, read_only: bool = False) -> T:
        """See :class:`kvs.ports.session.Session`. The unit is run by a worker, on the session inside."""
        return self._ask(partial(self._inner.atomically, unit, read_only=read_only), at_once=False)

    def watch(self, keys: Collection[Key]) -> None:
        """See :class:`kvs.ports.session.Session`."""
        self._ask(partial(self._inner.watch, keys), at_once=self.depth > 0)

    def unwatch(self) -> None:
        """See :class:`kvs.ports.session.Session`."""
        self._ask(partial(self._inner.unwatch), at_once=not self._inner.watching)

    @property
    def watching(self) -> bool:
        """See :class:`kvs.ports.session.Session`."""
        return self._inner.watching

    def execute(self, unit: Callable[[Session], T]) -> T | Conflict:
        """See :class:`kvs.ports.session.Session`. The unit is run by a worker, on the session inside."""
        return self._ask(partial(self._inner.execute, unit), at_once=self.depth > 0)

    def start(self, *, read_only: bool = False) -> None:
        """See :class:`kvs.ports.session.Session`."""
        self._ask(partial(self._inner.start, read_only=read_only), at_once=self.depth > 0 or self.watching)

    def commit(self) -> Committed | Conflict:
        """See :class:`kvs.ports.session.Session`."""
        return self._ask(partial(self._inner.commit), at_once=self.depth != 1)

    def rollback(self) -> None:
        """See :class:`kvs.ports.session.Session`."""
        self._ask(partial(self._inner.rollback), at_once=self.depth != 1)

    def reset(self) -> None:
        """See :class:`kvs.ports.session.Session`."""
        self._ask(partial(self._inner.reset), at_once=not (self.depth or self._inner.watching))

    def info(self) -> dict[str, dict[str, object]]:
        """See :class:`kvs.ports.session.Session`. O(number of sessions)."""
        return self._inner.info_with(self._ask(partial(self._inner.engine_figures), at_once=False))

    def close(self) -> None:
        """See :class:`kvs.ports.session.Session`."""
        if not self._closed:
            self._closed = True
            if not self._in_flight:
                self._leave()

    def _ask(self, question: "partial[T]", *, at_once: bool) -> T:
        """Return the answer of the session inside, or have a worker ask for it.

        Args:
            question: What is asked.
            at_once: Whether it takes no call of the engine. Of no meaning before the last question has been answered.

        Raises:
            Unfinished: The call is in flight.
        """
        call = self._call
        if call is None:
            if at_once:
                try:
                    return question()
                finally:
                    self._settle()
            self._hand_over(question)
        if call is None or self._in_flight:
            raise Unfinished
        if not call.asks(question):
            raise RuntimeError("another question was asked while an answer was due")
        self._call = None
        return cast("T", call.answer())

    def _hand_over(self, question: "partial[Any]") -> None:
        call = self._call = _Call(question)
        self._in_flight = True
        self._threads.run(partial(self._make, call))

    def _make(self, call: _Call) -> None:
        """Make the call, and give the session back. By a worker."""
        call.make()
        self._post(self._ended)

    def _ended(self) -> None:
        """Take the session back, and wake whoever waits. By the loop."""
        self._in_flight = False
        self._settle()
        try:
            if self._closed:
                self._leave()
        finally:
            wake = self._wake
            if wake is not None and not self._in_flight:
                self._wake = None
                wake()

    def _settle(self) -> None:
        """Tell the budget what has changed inside."""
        self._budget.used_bytes += self._untold.used_bytes
        self._untold.used_bytes = 0
        self.started_at_s = self._inner.started_at_s

    def _leave(self) -> None:
        """Close the session inside; an open transaction is ended by a worker first, since that closes a snapshot."""
        call, self._call = self._call, None
        if self._inner.depth or self._inner.watching:
            self._hand_over(partial(self._inner.abort))
        else:
            self._inner.close()
        if call is not None:
            with suppress(KvsError):  # there is nobody to be told; of anything else, a bug, the loop tells
                call.answer()


@final
class WorkerSessions:
    """Opens sessions whose engine is called by workers. Implements ``SessionFactory``.

    Args:
        sessions: Opens the sessions inside.
        threads: The workers.
        find_loop: Returns how to have tasks run by the thread that calls it.
    """

    __slots__ = ("_find_loop", "_sessions", "_threads")

    def __init__(self, sessions: EngineSessions, threads: WorkerThreads, find_loop: Callable[[], Post]) -> None:
        self._sessions = sessions
        self._threads = threads
        self._find_loop = find_loop

    def open(self) -> WorkerSession:
        """Open a session, for the thread that calls."""
        return WorkerSession(self._sessions, self._threads, self._find_loop())
