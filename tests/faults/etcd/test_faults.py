"""Whatever happens to servers, to members and between them: what was acknowledged stays, and nothing is made up."""

import sys
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Final

import pytest

from tests.faults.etcd import strikes
from tests.faults.etcd.group import Group
from tests.faults.etcd.strikes import STRIKES, STUCK, Strike
from tests.faults.scale import FULL_SCALE, MINUTES, full_scale_has_time
from tests.faults.strace import why_unusable
from tests.support.consistency.checker import Slack, check
from tests.support.consistency.history import Outcome, Transaction
from tests.support.consistency.workload import Plan, run
from tests.support.etcd import Cluster
from tests.support.seeds import SEED

SCRIPT: Final = (sys.executable, str(Path(__file__).with_name("script.py")))
SERVERS: Final = 3 if FULL_SCALE else 2
TRANSACTIONS: Final = 3000 if FULL_SCALE else 250
TRANSACTIONS_A_ROUND: Final = 5000
ORDINARY: Final = 6
"""Strikes tried in an ordinary run; ``make faults`` tries all."""
PATIENCE_S: Final = 1.0
SLACK: Final = Slack(10.0, None)
ALLOWED: Final = frozenset({"conflict", "outcome_unknown", "unavailable"})


def plan(seed: int, transactions: int = TRANSACTIONS, struck: int = 1) -> Plan:
    """Return what clients do, with so many strikes."""
    return Plan(seed, 8, transactions, strikes=struck, allows=ALLOWED, patience_s=PATIENCE_S)


@pytest.mark.draws
@full_scale_has_time
@pytest.mark.parametrize(
    "strike", STRIKES if FULL_SCALE else Random(SEED).sample(STRIKES, ORDINARY), ids=lambda strike: strike.__name__
)
def test_a_fault(three: Cluster, namespace: str, strike: Strike, request: pytest.FixtureRequest) -> None:
    """Each by itself."""
    if strike in STUCK:
        request.getfixturevalue("strace")
    struck: list[Strike] = []
    through_proxies = strike is strikes.leader_cut_off_from_clients
    with Group(three, namespace, SERVERS, [*SCRIPT, "hangs"], through_proxies=through_proxies) as group:

        def nemesis(_: int) -> None:
            strike(group, three)
            struck.append(strike)

        group.leader()
        records = run(plan(SEED), group.addresses, nemesis)
        assert_nothing_has_crashed(group)
    assert struck == [strike]
    assert records.outcomes[Outcome.COMMITTED] > TRANSACTIONS // 2
    assert_nothing_is_found(records.transactions)


@pytest.mark.skipif(not FULL_SCALE, reason="takes minutes")
@full_scale_has_time
def test_faults_at_random(three: Cluster, namespace: str) -> None:
    """One after the other, for ``TEST_MINUTES``."""
    chance = Random(SEED)
    possible = [strike for strike in STRIKES if strike not in STUCK or not why_unusable()]
    drawn: Counter[str] = Counter()
    striking = threading.Lock()
    end_s = time.monotonic() + 60 * MINUTES
    rounds = 0
    while time.monotonic() < end_s:
        with Group(three, f"{namespace}-{rounds}", command=[*SCRIPT, "hangs"], through_proxies=True) as group:

            def nemesis(_: int, group: Group = group) -> None:
                with striking:
                    three.repair()
                    strike = chance.choice(possible)
                    drawn[strike.__name__] += 1
                    strike(group, three)

            group.leader()
            records = run(plan(SEED + rounds, TRANSACTIONS_A_ROUND, 10), group.addresses, nemesis)
            assert_nothing_has_crashed(group)
        assert_nothing_is_found(records.transactions)
        three.repair()
        rounds += 1
    print(f"{rounds} rounds, {drawn}")  # noqa: T201


def assert_nothing_has_crashed(group: Group) -> None:
    """Assert that processes have ended only as they should."""
    for seat in group.seats:
        for server in seat.servers:
            assert not server.events("client_failed") + server.events("unexpected"), server.log.decode()
            assert b"Traceback" not in b"\n".join(line.encode() for line in server.other_lines), server.other_lines


def assert_nothing_is_found(history: list[Transaction]) -> None:
    """Assert that a history has no anomaly, or tell of some."""
    found = check(history, SLACK)
    assert not found, f"{len(found)} anomalies:\n" + "\n\n".join(map(str, found[:3]))
