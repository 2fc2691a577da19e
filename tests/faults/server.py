"""A server process that may end at any moment, and how the script is played to it."""

import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.faults.ledger import Progress
from tests.faults.recovery import FORKING
from tests.faults.workload import CONNECTIONS, Phase, Round
from tests.support.launcher import KVS, LoggedProcess
from tests.support.waiting import TIMEOUT_S, polling

__all__ = ["OUTCOME_UNKNOWN", "TIMEOUT_S", "Players", "ServerProcess"]

THREADS: Final = ("loop", "log", "journal", "compaction")
"""Of a server with the sqlite engine, in the order in which they are started."""

ENGINE_FLAGS: Final = ("--storage-option", "max_journal_bytes=1MiB")
"""The smallest journal there is, so that it is compacted and the WAL is copied again and again."""


class ServerProcess(LoggedProcess):
    """A ``python -m kvs`` process. Use it as a context manager: it is killed on every way out.

    Args:
        directory: The data directory.
        flags: Further flags.
        before: What comes before the command, such as a tracer that replaces itself by it.
        env: Further environment variables; those of kvs are not inherited.
        storage: Name of the engine.
        options: Flags of the engine.
    """

    def __init__(
        self,
        directory: Path,
        *flags: str,
        before: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        storage: str = "sqlite",
        options: Sequence[str] = ENGINE_FLAGS,
    ) -> None:
        engine = ("--storage", storage, "--data-dir", str(directory), *options)
        command = [*before, *KVS, "--port", "0", "--log-format", "json", *engine, *flags]
        super().__init__(command, env, lock=FORKING)
        self.directory: Final = directory

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.end()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.events("listening")[0]["port"])

    def listens(self) -> bool:
        """Wait until it listens; return False if it ends before."""
        return self.wait_for_any(("listening",)) is not None

    def thread(self, name: str) -> int:
        """Return the number of a thread. Those of the start may take a moment to be gone."""
        for _ in polling("the server has four threads"):
            threads = sorted(int(task.name) for task in Path(f"/proc/{self.pid}/task").iterdir())  # the oldest first
            if len(threads) == len(THREADS):
                return threads[THREADS.index(name)]
        raise AssertionError


OUTCOME_UNKNOWN: Final = b'"outcome_unknown"'
"""In the last reply of a server whose engine has failed."""


class Players:
    """The connections of a script.

    Attributes:
        ports: The port of each, on this side.
    """

    def __init__(self, server: ServerProcess, progress: Progress) -> None:
        self._server = server
        self._progress = progress
        self._sockets = [socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) for _ in range(CONNECTIONS)]
        self._replies = [sock.makefile("rb") for sock in self._sockets]
        self.ports: Final = [int(sock.getsockname()[1]) for sock in self._sockets]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for replies, sock in zip(self._replies, self._sockets, strict=True):
            replies.close()
            sock.close()

    def play(self, script: Sequence[Phase]) -> bool:
        """Play some phases, each with some compaction and a checkpoint; return False if the server ends first."""
        compacted = len(self._server.events("journal_compacted"))
        for number, phase in enumerate(script, compacted + 1):
            copied_ns = self._database_changed_ns()
            if not all(self._play_round(round_) for round_ in phase):
                return False
            self._server.wait_for_any(("journal_compacted", "compaction_failed"), number)
            self._await_checkpoint(copied_ns)
        return self._ask_all([(b"PING",)] * CONNECTIONS, noting=False)  # what has failed meanwhile ends it now

    def _await_checkpoint(self, since_ns: int) -> None:
        """Wait until the WAL is copied into the database, if that can still happen."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while self._database_changed_ns() == since_ns:
            if self._server.log_ended or self._server.events("compaction_failed"):
                return
            assert time.monotonic() < deadline_s, "the WAL is never copied into the database"
            time.sleep(0.002)  # gives the processor to those who are to get there

    def _database_changed_ns(self) -> int:
        return (self._server.directory / "kvs.db").stat().st_mtime_ns

    def _play_round(self, round_: Round) -> bool:
        return self._ask_all([[line for step in steps for line in step.lines] for steps in round_], noting=True)

    def _ask_all(self, requests: Sequence[Sequence[bytes]], *, noting: bool) -> bool:
        alive = True
        for sock, lines in zip(self._sockets, requests, strict=True):
            try:
                sock.sendall(b"".join(line + b"\n" for line in lines))
            except ConnectionError:
                alive = False
        for at, lines in enumerate(requests):
            for _ in lines:
                reply = self._reply(at)
                if reply is None or OUTCOME_UNKNOWN in reply:
                    alive = False
                    break
                if noting:
                    self._progress.note(at, reply)
        return alive

    def _reply(self, at: int) -> bytes | None:
        """Return the next whole reply, None if none comes any more."""
        try:
            reply = self._replies[at].readline()
        except ConnectionError:
            return None
        return reply if reply.endswith(b"\n") else None
