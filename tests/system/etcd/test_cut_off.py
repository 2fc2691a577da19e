"""A server that ends waits for no answer of an etcd that is away, however long its calls may take."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from threading import Thread
from typing import Any, Final

import pytest
import structlog
from structlog.testing import capture_logs

from kvs.adapters.storage.etcd.candidate import EtcdCandidate
from kvs.adapters.storage.etcd.client import link
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.engine import connect, keys_of
from kvs.adapters.storage.etcd.options import EtcdOptions
from kvs.config import Settings
from tests.support.etcd import Cluster
from tests.support.etcd_server import HOST
from tests.support.waiting import TIMEOUT_S, polling

PATIENCE_S: Final = 600.0
"""What all calls have here, and members that are silent, so that no test passes because one has ended by itself."""

_numbers: Final = count()


@pytest.fixture(autouse=True)
def _patient_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    usual: Callable[..., Any] = EtcdClient._wait

    def wait(self: EtcdClient, method: str, message: Sequence[bytes], _: float, *others: Any, **named: Any) -> Any:
        return usual(self, method, message, PATIENCE_S, *others, **named)

    monkeypatch.setattr(EtcdClient, "_wait", wait)
    monkeypatch.setattr(link, "PING_AFTER_S", PATIENCE_S)


def candidate(endpoints: str) -> EtcdCandidate:
    """Return a server that may lead."""
    options = EtcdOptions(endpoints=endpoints, namespace=f"cut-off-{next(_numbers)}")
    log = structlog.get_logger()
    return EtcdCandidate(Settings(), options, connect(options), keys_of(options), (HOST, 1), log)


@contextmanager
def away(cluster: Cluster) -> Iterator[None]:
    """Have the member stand still meanwhile."""
    (member,) = cluster.members
    member.pause()
    try:
        yield
    finally:
        member.resume()


def ends(call: Callable[[], None]) -> bool:
    """Return whether a call returns, as it should at once."""
    thread = Thread(target=call, daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    return not thread.is_alive()


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """Return a member that takes connections, and never answers."""
    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(TIMEOUT_S)
        yield listener


def test_a_server_that_waits_for_etcd_stops(silent: socket.socket) -> None:
    """And says nothing about the call that is cut off."""
    with capture_logs() as logs:
        waiting = candidate(f"{HOST}:{silent.getsockname()[1]}")
        thread = Thread(target=waiting.wait, daemon=True)
        thread.start()
        with closing(silent.accept()[0]) as connection:
            assert connection.recv(1)
            waiting.stop()
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()
            assert ends(waiting.close)
    assert logs == []


def test_a_server_that_stands_by_stops(single: Cluster) -> None:
    """Whatever it is about to read, and though it is registered."""
    with ExitStack() as stack:
        leading = candidate(single.addresses)
        stack.callback(leading.close)
        leading.wait()
        standing = EtcdCandidate(
            Settings(), leading._options, connect(leading._options), leading._keys, (HOST, 2), structlog.get_logger()
        )
        with capture_logs() as logs:
            thread = Thread(target=standing.wait, daemon=True)
            thread.start()
            for _ in polling("it follows"):
                if any(event["event"] == "following" for event in logs):
                    break
            with away(single):
                standing.stop()
                thread.join(TIMEOUT_S)
                assert not thread.is_alive()
                assert ends(standing.close)
        assert [event["event"] for event in logs if event["log_level"] != "info"] == []


def test_a_server_that_leads_ends(single: Cluster) -> None:
    """All that it was given is durable; the lead is given up by the end of its lease."""
    with capture_logs() as logs:
        leading = candidate(single.addresses)
        leading.wait()
        storage = leading.storage
        assert storage is not None
        storage.put(b"key", b"value")
        storage.sync()
        with away(single):
            assert ends(leading.close)
    assert [event["event"] for event in logs if event["log_level"] != "info"] == []
