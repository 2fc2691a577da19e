"""Clocks that are a day off, or set to another time: nothing expires that should not, or lasts longer."""

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest

from kvs.adapters.storage.etcd.client.endpoints import namespace_prefix
from kvs.adapters.storage.etcd.layout import Keys, ServerRecord, decoded
from tests.support.admin import Admin
from tests.support.etcd import Cluster, need_etcd, running_cluster
from tests.support.etcd import closing as closing_client
from tests.support.etcd_server import EtcdServer
from tests.support.waiting import polling

SCRIPT: Final = (sys.executable, str(Path(__file__).with_name("script.py")))
LASTS_S: Final = 1000
HOUR_MS: Final = 3_600_000
DAY_S: Final = 86_400

FORWARD: Final = signal.SIGRTMIN
BACK: Final = signal.SIGRTMAX


@pytest.fixture(scope="module")
def single() -> Iterator[Cluster]:
    """Return a cluster of one member."""
    need_etcd()
    with running_cluster() as cluster:
        yield cluster


@pytest.mark.parametrize("clock", ["ahead", "behind"])
def test_a_clock_that_is_a_day_off(single: Cluster, namespace: str, clock: str) -> None:
    """The new leader goes on with the time of the former one, and so does one whose clock is right."""
    with ExitStack() as stack:
        first = stack.enter_context(EtcdServer(single, namespace))
        assert first.leads()
        with closing(first.connect()) as client:
            client.ok("PUT session 1", f"EXPIRE session {LASTS_S}")
        second = stack.enter_context(EtcdServer(single, namespace, "--admin-port", "0", command=[*SCRIPT, clock]))
        second.wait_for("clock_differs")
        assert clock_ahead_ms(first) == 0
        assert_is_a_day_off(second, 1 if clock == "ahead" else -1)
        first.kill()
        assert second.leads()
        assert lasts_s(second) <= LASTS_S
        third = stack.enter_context(EtcdServer(single, namespace))
        third.stands_by()
        second.send_signal(signal.SIGTERM)
        assert third.leads()
        assert not third.events("clock_differs")
        assert lasts_s(third) <= LASTS_S
        assert clock_ahead_ms(third) == 0


@pytest.mark.parametrize("step", [FORWARD, BACK])
def test_a_clock_that_is_set_while_the_server_leads(single: Cluster, namespace: str, step: signal.Signals) -> None:
    """By an hour: a session lasts, a lock ends, and a server whose clock is right takes over as if nothing was."""
    with ExitStack() as stack:
        first = stack.enter_context(EtcdServer(single, namespace, command=[*SCRIPT, "steps"]))
        assert first.leads()
        second = stack.enter_context(EtcdServer(single, namespace))
        second.stands_by()
        with closing(first.connect()) as client:
            client.ok("PUT session 1", f"EXPIRE session {LASTS_S}", "PUT lock 1")
            first.send_signal(step)
            first.wait_for("clock_differs")
            assert abs(clock_ahead_ms(first) - (HOUR_MS if step == FORWARD else -HOUR_MS)) < HOUR_MS // 10
            assert lasts_s(first) <= LASTS_S
            client.ok("EXPIRE lock 1")
            for _ in polling("the lock ends"):
                if client.get("lock") is None:
                    break
            first.send_signal(BACK if step == FORWARD else FORWARD)
            first.wait_for("clock_agrees")
            assert clock_ahead_ms(first) == 0
            first.send_signal(step)
            first.wait_for("clock_differs", 2)
        first.send_signal(signal.SIGTERM)
        assert second.leads()
        assert not second.events("clock_differs")
        assert lasts_s(second) <= LASTS_S


def test_who_is_wrong_leaves_the_lead_to_who_is_right(single: Cluster, namespace: str) -> None:
    """Though it was there first; and once all others are gone, it stands."""
    with ExitStack() as stack:
        first = stack.enter_context(EtcdServer(single, namespace))
        assert first.leads()
        wrong = stack.enter_context(EtcdServer(single, namespace, command=[*SCRIPT, "ahead"]))
        wrong.wait_for("clock_differs")
        for _ in range(2):
            right = stack.enter_context(EtcdServer(single, namespace))
            right.stands_by()
            wait_for_complaint(single, namespace)
            first.send_signal(signal.SIGTERM)
            assert right.leads()
            assert not wrong.events("leading")
            first = right
        first.kill()
        assert wrong.leads()


def wait_for_complaint(cluster: Cluster, namespace: str) -> None:
    """Wait until a server says that its clock is ahead, and another is there that does not, and stands by."""
    with closing_client(cluster.client) as client:
        keys = Keys(namespace_prefix(namespace))
        for _ in polling("it says so"):
            found = client.range(keys.servers, keys.end(keys.servers)).kvs
            ahead = [decoded(each.key, each.value, ServerRecord).clock_ahead_ms for each in found]
            if len(ahead) == 3 and ahead.count(0) == 2:
                break


def clock_ahead_ms(server: EtcdServer) -> int:
    """Return what the server says of its clock."""
    with closing(server.connect()) as client:
        return int(str(client.info("server")["clock_ahead_ms"]))


def assert_is_a_day_off(standby: EtcdServer, sign: int) -> None:
    """Assert that a server which stands by tells clients and Prometheus how far its clock is ahead."""
    metrics = Admin(standby).metrics()
    assert metrics["kvs_leads"] == 0
    for ahead_s in (clock_ahead_ms(standby) / 1000, metrics["kvs_clock_ahead_seconds"]):
        assert 0.9 < ahead_s / (sign * DAY_S) < 1.1


def lasts_s(server: EtcdServer) -> float:
    """Return for how long the session lasts; it does last."""
    with closing(server.connect()) as client:
        assert client.get("session") == "1"
        return float(str(client.ask("TTL session")["result"]))
