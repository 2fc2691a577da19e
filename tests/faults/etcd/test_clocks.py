"""A server whose clock is a day off takes over, and nothing expires that should not, or lasts longer."""

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest

from tests.support.etcd import Cluster, need_etcd, running_cluster
from tests.support.etcd_server import EtcdServer

SCRIPT: Final = (sys.executable, str(Path(__file__).with_name("script.py")))
LASTS_S: Final = 1000


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
        second = stack.enter_context(EtcdServer(single, namespace, command=[*SCRIPT, clock]))
        second.wait_for("clock_differs")
        first.kill()
        assert second.leads()
        assert lasts_s(second) <= LASTS_S
        third = stack.enter_context(EtcdServer(single, namespace))
        third.stands_by()
        second.send_signal(signal.SIGTERM)
        assert third.leads()
        assert not third.events("clock_differs")
        assert lasts_s(third) <= LASTS_S


def lasts_s(server: EtcdServer) -> float:
    """Return for how long the session lasts; it does last."""
    with closing(server.connect()) as client:
        assert client.get("session") == "1"
        return float(str(client.ask("TTL session")["result"]))
