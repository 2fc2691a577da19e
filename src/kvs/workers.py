"""How sessions are opened, and the threads on which those of a blocking engine run."""

import asyncio
from collections.abc import Iterator
from contextlib import closing, suppress

from kvs.adapters.inbound.net.collector import Collector
from kvs.adapters.inbound.protocol.detection import OpenSession
from kvs.application.executor import Job, Post, WorkerExecutor, WorkerThreads
from kvs.application.expiry import Expiry
from kvs.application.memory_budget import MemoryBudget
from kvs.application.registry import SessionRegistry
from kvs.config import ConfigError
from kvs.ports.session import Session
from kvs.ports.storage import Storage


def open_sessions(
    storage: Storage,
    sessions: SessionRegistry,
    expiry: Expiry,
    budget: MemoryBudget,
    worker_threads: int,
    collector: Collector,
) -> Iterator[OpenSession]:
    """Give each session of a blocking engine an executor, and none to those of other engines."""
    if not storage.blocking:
        yield lambda: (sessions.open(), None)
        return
    try:
        threads = WorkerThreads(worker_threads)
    except RuntimeError as error:
        raise ConfigError(f"worker_threads: {worker_threads} are more than can be started here ({error})") from None

    expiry.sweep_on(threads.run)
    collector.ask_engine_on(threads.run)

    def open_session() -> tuple[Session, WorkerExecutor | None]:
        executor = WorkerExecutor(threads, _this_loop(), budget)
        return sessions.open(executor.budget), executor

    with closing(threads):
        yield open_session


def _this_loop() -> Post:
    loop = asyncio.get_running_loop()

    def post(job: Job) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(job)

    return post
