"""The etcd engine: from the end of a leader to the first commit that another server acknowledges.

Three members of etcd and two servers run on this machine. A client of the server that stands by tries to commit, again
and again until it succeeds. The last commit that the former leader has acknowledged must be there.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from typing import Final, final

from bench.client import LineClient
from bench.errors import BenchError
from bench.members import Members, members
from bench.servers import Server, running, wait_for
from bench.spread import Row, Sections, spread

LEASE_S: Final = 2
TIMEOUT_S: Final = 60
PAUSE_S: Final = 0.005
KEY: Final = "failover"


def measure(python: str, rounds: int) -> Sections:
    """Measure each way in which a leader ends so many times."""
    ways: dict[str, Callable[[Members, Server], None]] = {
        "SIGTERM": lambda _, leader: os.kill(leader.pid, signal.SIGTERM),
        "kill -9": lambda _, leader: os.kill(leader.pid, signal.SIGKILL),
        "kill -9, and of the member of etcd that leads": _kill_both,
    }
    with members() as etcd, closing(_Pair(python, etcd.endpoints)) as pair:
        rows = [_row(way, [_failover(end, etcd, pair) for _ in range(rounds)]) for way, end in ways.items()]
    return {f"From the end of a leader to the next commit, lease_s={LEASE_S}": rows}


def _row(way: str, times_s: list[float]) -> Row:
    return {"how it ends": way, "times": len(times_s), "seconds": spread(times_s)}


@final
class _Pair:
    """A server that leads and one that stands by."""

    def __init__(self, python: str, endpoints: str) -> None:
        self._python = python
        self._flags: tuple[str, ...] = ("--storage", "etcd")
        for option in (f"endpoints={endpoints}", f"lease_s={LEASE_S}"):
            self._flags += ("--storage-option", option)
        self._running: list[ExitStack] = []  # the leader, and the one that stands by
        self.leader = self._start("leading")
        self.standby = self._start("following")

    def _start(self, event: str) -> Server:
        self._running.append(ExitStack())
        server = self._running[-1].enter_context(running("kvs", self._python, *self._flags))
        wait_for(server, event)
        return server

    def replace_leader(self) -> None:
        """Take the server that stood by for the leader, and start another one that stands by."""
        self._running.pop(0).close()
        self.leader, self.standby = self.standby, self._start("following")

    def close(self) -> None:
        """End both."""
        for each in self._running:
            each.close()


def _kill_both(etcd: Members, leader: Server) -> None:
    os.kill(leader.pid, signal.SIGKILL)
    etcd.kill(etcd.leader())


def _failover(end: Callable[[Members, Server], None], etcd: Members, pair: _Pair) -> float:
    """End the leader; return after how many seconds the other server has acknowledged a commit."""
    before = f"{time.monotonic_ns()}"
    with LineClient(pair.leader) as client:
        client.ask(f"PUT {KEY} {before}")
    begin_s = time.monotonic()
    end(etcd, pair.leader)
    found = _first_commit(pair.standby, before)
    taken_s = time.monotonic() - begin_s
    if not found.startswith(before):
        raise BenchError(f"a commit was lost: {found} in place of {before}")
    etcd.restart()
    pair.replace_leader()
    return taken_s


def _first_commit(server: Server, before: str) -> str:
    """Have a commit acknowledged by a server; return the value that it found."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline_s:
        # Closed, or told that there is no leader, or that the outcome is unknown: then this may find its own value.
        with suppress(OSError, BenchError), LineClient(server) as client:
            return str(client.ask("START", f"GET {KEY}", f"PUT {KEY} {before}/next", "COMMIT")[1])
        time.sleep(PAUSE_S)
    raise BenchError("no other server leads")
