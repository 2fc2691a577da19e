"""Real servers, many clients: nothing is found; and with an engine that is broken, what is wrong with it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

import kvs_wholefile
from kvs.ports.storage import Storage
from tests.consistency import broken_engines
from tests.contract.broken_engines import changes, commits, snapshots
from tests.faults.scale import FULL_SCALE, full_scale_has_time
from tests.faults.server import ServerProcess
from tests.support.consistency.anomalies import Anomaly
from tests.support.consistency.checker import Slack, check
from tests.support.consistency.history import Outcome, Transaction
from tests.support.consistency.workload import Plan, run
from tests.support.engine_control import EngineControl
from tests.support.harness import Server, slow_engine
from tests.support.launcher import ENGINES, engines_path
from tests.support.seeds import SEED
from tests.support.waiting import polling

pytestmark = pytest.mark.variant

TRANSACTIONS: Final = 100_000 if FULL_SCALE else 1_000
RESTARTS: Final = 100 if FULL_SCALE else 2
FAILURES: Final = 2
BROKEN_TRANSACTIONS: Final = 500
SLACK: Final = Slack(10.0, 10.0)
"""A server may have to wait for a processor."""

ROOT: Final = Path(__file__).parents[2]
BROKEN_PATH: Final = f"{engines_path()}:{ROOT}:{Path(kvs_wholefile.__file__).parent}"

SLOW_FLAGS, SLOW_ENV = slow_engine(0.0)


@pytest.mark.draws
@full_scale_has_time
@pytest.mark.parametrize("flushes", [False, True], ids=["counters", "flushes"])
@pytest.mark.parametrize(
    ("flags", "env"),
    [
        pytest.param((), {}, id="memory"),
        pytest.param(("--transport", "asyncio"), {}, id="asyncio"),
        pytest.param(("--storage", "sqlite"), {}, id="sqlite"),
        pytest.param(SLOW_FLAGS, SLOW_ENV, id="blocking"),
    ],
)
def test_no_anomaly(flags: tuple[str, ...], env: Mapping[str, str], flushes: bool) -> None:
    """Whatever clients do, and whoever calls the engine."""
    with Server(*flags, env=env) as server:
        plan = Plan(SEED, transactions=TRANSACTIONS, flushes=flushes)
        records = run(plan, lambda: [(server.host, server.port)])
        server.forget_log()
    assert records.outcomes[Outcome.COMMITTED] > TRANSACTIONS // 2
    assert records.codes["conflict"]
    assert_nothing_is_found(records.transactions, SLACK)


def test_clients_go_on_as_long_as_a_strike_is_under_way() -> None:
    """It may wait for what they write, and the last one comes when all transactions that were asked for are done."""
    with Server() as server:
        observer = server.connect()

        def nemesis(_done: int) -> None:
            commits = observer.info("server")["commits"]
            for _ in polling("others commit more than what they have begun"):
                if observer.info("server")["commits"] > commits + 5:
                    break

        records = run(Plan(SEED, clients=2, transactions=1, strikes=1), lambda: [(server.host, server.port)], nemesis)
    assert records.outcomes[Outcome.COMMITTED] > 1


class Restarts:
    """A server that is killed and started again on the same directory.

    Attributes:
        kills: How often it was.
    """

    def __init__(self, directory: Path, storage: str, env: Mapping[str, str]) -> None:
        self._directory = directory
        self._storage = storage
        self._env = env
        self._server: ServerProcess | None = None
        self.kills = 0

    def __enter__(self) -> "Restarts":
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.end()

    def _start(self) -> None:
        server = ServerProcess(self._directory, storage=self._storage, options=(), env=self._env)
        server.start()
        assert server.listens(), server.other_lines
        self._server = server

    def addresses(self) -> list[tuple[str, int]]:
        """Return where it listens, if it does."""
        server = self._server
        return [] if server is None else [("127.0.0.1", server.port)]

    def kill(self, _: int) -> None:
        """Kill it and start another."""
        server, self._server = self._server, None
        assert server is not None
        server.kill()
        server.end()
        self.kills += 1
        self._start()


@pytest.mark.draws
@full_scale_has_time
def test_no_anomaly_across_kills(tmp_path: Path) -> None:
    """What was acknowledged is there after a kill, and what was not is there as a whole or not at all."""
    transactions = max(TRANSACTIONS // 2, 1000)
    with Restarts(tmp_path, "sqlite", {}) as restarts:
        plan = Plan(SEED, transactions=transactions, strikes=RESTARTS)
        records = run(plan, restarts.addresses, restarts.kill)
        assert restarts.kills == RESTARTS
    assert_nothing_is_found(records.transactions, Slack(10.0, None))


@pytest.mark.draws
@pytest.mark.parametrize("name", ["watched", "blocking"])
def test_no_anomaly_with_an_engine_that_fails(name: str) -> None:
    """What it refuses is not done, and what it does not know may have been."""
    answers = iter(["raise_unavailable", "go", "raise_outcome_unknown", "go"] * FAILURES)
    with EngineControl(ENGINES, os.environ.get("PYTHONPATH"), name) as engine:

        def fail(_: int) -> None:
            answer = next(answers)
            for call in ("commit", "put", "delete"):
                engine.answer(call, answer)

        plan = Plan(
            SEED,
            transactions=min(TRANSACTIONS // 2, 5000),
            strikes=4 * FAILURES,
            deadlines=False,
            allows=frozenset({"conflict", "unavailable", "outcome_unknown"}),
        )
        with Server(*engine.flags, env=engine.env) as server:
            records = run(plan, lambda: [(server.host, server.port)], fail)
            server.forget_log()
    assert records.codes["unavailable"] or records.outcomes[Outcome.UNKNOWN]
    assert_nothing_is_found(records.transactions, SLACK)


BROKEN: Final[dict[type[Storage], set[Anomaly]]] = {
    commits.LosesUpdates: {Anomaly.LOST_UPDATE},
    broken_engines.SnapshotIsolation: {Anomaly.WRITE_SKEW, Anomaly.PHANTOM, Anomaly.MISSED_CONFLICT},
    changes.OverlooksPhantoms: {Anomaly.PHANTOM, Anomaly.MISSED_CONFLICT},
    commits.AppliesTheFirstWriteOfAConflict: {Anomaly.ABORTED_READ},
    commits.LosesTombstones: {Anomaly.STALE_READ, Anomaly.MISSED_CONFLICT},
    snapshots.SnapshotsSeeLaterCommits: {Anomaly.INTERNAL},
    # It may answer ``unavailable``: a range that lacks the last commit conflicts until there is another one.
    broken_engines.StaleSnapshots: {Anomaly.STALE_READ, Anomaly.LOST_WRITE},
    broken_engines.TornCommits: {Anomaly.LOST_WRITE, Anomaly.STALE_READ},
}
"""Engines, and one or another of what is found with each."""


@pytest.mark.one_build
@pytest.mark.parametrize("engine", BROKEN, ids=lambda engine: engine.__name__)
def test_a_broken_engine_is_found_out(engine: type[Storage]) -> None:
    """By what its clients have seen."""
    allows = frozenset({"conflict", "unavailable"} if engine is broken_engines.StaleSnapshots else {"conflict"})
    plan = Plan(SEED, transactions=BROKEN_TRANSACTIONS, allows=allows)
    with Server("--storage", "broken", env=environment_of(engine)) as server:
        records = run(plan, lambda: [(server.host, server.port)])
        server.forget_log()
    found = {finding.anomaly for finding in check(records.transactions, SLACK)}
    assert BROKEN[engine] & found, found


@pytest.mark.one_build
def test_an_engine_that_forgets_is_found_out(tmp_path: Path) -> None:
    """What was acknowledged last is gone after a kill."""
    env = environment_of(broken_engines.ForgetsTheLastTicks)
    with Restarts(tmp_path, "broken", env) as restarts:
        plan = Plan(SEED, transactions=BROKEN_TRANSACTIONS, strikes=3, deadlines=False)
        records = run(plan, restarts.addresses, restarts.kill)
    found = {finding.anomaly for finding in check(records.transactions, Slack(10.0, None))}
    assert found & {Anomaly.LOST_WRITE, Anomaly.STALE_READ, Anomaly.REAL_TIME}, found


def environment_of(engine: type[Storage]) -> dict[str, str]:
    """Return the environment of a server over a broken engine."""
    path = ":".join(filter(None, [BROKEN_PATH, os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "TEST_BROKEN_ENGINE": f"{engine.__module__}:{engine.__name__}"}


def assert_nothing_is_found(history: list[Transaction], slack: Slack) -> None:
    """Assert that a history has no anomaly, or tell of some."""
    found = check(history, slack)
    assert not found, f"{len(found)} anomalies:\n" + "\n\n".join(map(str, found[:3]))
