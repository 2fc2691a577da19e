"""A link whose thread is held up, or whose names are: it blames no member for that, and holds nobody up."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final

import pytest

from kvs.adapters.storage.etcd.client import dialling
from kvs.adapters.storage.etcd.client.answers import TxnResult
from kvs.adapters.storage.etcd.client.endpoints import Endpoint
from kvs.adapters.storage.etcd.client.errors import ConnectionLostError, DeadlineExceededError, NotSentError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.http2 import ACK, PING
from kvs.adapters.storage.etcd.client.requests import LEASE_KEEP_ALIVE, TXN, get
from tests.support.etcd_stub import Peer, Stub, frame
from tests.support.waiting import TIMEOUT_S
from tests.unit.storage.etcd.client.test_link import client_of, good

pytestmark = pytest.mark.one_build

TIME_S: Final = 100.0
"""Of a call that runs out, by a clock that is put forward."""

SECOND_STREAM: Final = 3


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """Return one whose name hangs when it is looked up."""
    real, over = socket.getaddrinfo, threading.Event()

    def look_up(host: str, *args: Any, **options: Any) -> object:
        if host == "etcd.example" and not options.get("flags"):
            over.wait()
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield Endpoint("etcd.example", 1)
    over.set()


def test_a_name_that_hangs_holds_nothing_up(unknown: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither deadlines, nor calls that another member can answer, nor the end."""
    client = EtcdClient([unknown])
    with pytest.raises(NotSentError):
        client.txn([], [get(b"x")], timeout_s=0.1)
    closing = threading.Thread(target=client.close, daemon=True)
    closing.start()
    closing.join(TIMEOUT_S)
    assert not closing.is_alive()
    monkeypatch.setattr(dialling, "CONNECT_TIMEOUT_S", 0.05)
    with Stub(good) as well:
        client = EtcdClient([unknown, well.endpoint])
        try:
            client.txn([], [get(b"x")], timeout_s=TIMEOUT_S)
        finally:
            client.close()


class Clock:
    """The clock, which a test can put forward."""

    def __init__(self) -> None:
        self._real = time.monotonic
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return self._real() + self.ahead_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return that of this process."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


class StandStill:
    """Has the thread of a link stand still, as on a machine that is too busy."""

    def __init__(self, client: EtcdClient, clock: Clock) -> None:
        self._clock = clock
        self._begun, self._over = threading.Event(), threading.Event()
        client._urgent._command(self._stand)

    def _stand(self) -> None:
        self._begun.set()
        self._over.wait()

    def begun(self) -> None:
        """Wait until it does."""
        assert self._begun.wait(TIMEOUT_S)

    def end(self, after_s: float = 0.0) -> None:
        """Let it go on, when so much time has passed."""
        self._clock.ahead_s += after_s
        self._over.set()


def test_an_answer_counts_though_the_deadline_has_passed_before_it_is_read(clock: Clock) -> None:
    """The thread of the link has stood still, and not the member."""
    asked, answering, answered = threading.Event(), threading.Event(), threading.Event()

    def late(peer: Peer, stream: int, path: str) -> None:
        asked.set()
        answering.wait()
        good(peer, stream, path)
        answered.set()

    with Stub(late, Peer.send_at_once) as member, client_of(member) as client:
        outcomes = SimpleQueue[object]()
        client.submit_txn([], [get(b"x")], [], outcomes.put, TIME_S)
        assert asked.wait(TIMEOUT_S)
        standing = StandStill(client, clock)
        standing.begun()
        answering.set()
        assert answered.wait(TIMEOUT_S)
        standing.end(after_s=TIME_S)
        assert isinstance(outcomes.get(timeout=TIMEOUT_S), TxnResult)
        assert member.connections == 1


@pytest.mark.parametrize("where", ["on the way to it", "before it is sent", "behind the deadline"])
def test_a_thread_that_stood_still_blames_no_member(clock: Clock, where: str) -> None:
    """Nor one that has had little of a call's time. The next call decides."""

    def silent_once(peer: Peer, stream: int, path: str) -> None:
        if stream != SECOND_STREAM:
            good(peer, stream, path)

    with Stub(silent_once) as member, Stub(good) as other, client_of(member, other) as client:
        client.txn([], [get(b"x")], timeout_s=TIMEOUT_S, urgent=True)
        assert member.calls.get(timeout=TIMEOUT_S) == TXN
        outcomes = SimpleQueue[object]()
        before = StandStill(client, clock)
        before.begun()
        client.submit_txn([], [get(b"x")], [], outcomes.put, TIME_S)
        if where == "before it is sent":
            behind = StandStill(client, clock)
            before.end()
            behind.begun()
            behind.end(after_s=TIME_S)
        else:
            before.end(after_s=0.75 * TIME_S if where == "on the way to it" else 0.0)
            assert member.calls.get(timeout=TIMEOUT_S) == TXN
            behind = StandStill(client, clock)
            behind.begun()
            behind.end(after_s=0.25 * TIME_S if where == "on the way to it" else 2 * TIME_S)
        assert isinstance(outcomes.get(timeout=TIMEOUT_S), DeadlineExceededError)
        client.txn([], [get(b"x")], timeout_s=TIMEOUT_S, urgent=True)
        assert (member.connections, other.connections) == (1, 0)


def test_a_member_has_its_time_to_answer_a_ping(clock: Clock) -> None:
    """Also if this process has stood still for longer than pings are waited for."""
    going_on = threading.Event()

    def silent_for_a_while(peer: Peer, stream: int, path: str) -> None:
        if stream == SECOND_STREAM:
            going_on.wait()
        else:
            good(peer, stream, path)

    with Stub(silent_for_a_while) as member, Stub(good) as other, client_of(member, other) as client:
        client.txn([], [get(b"x")], timeout_s=TIMEOUT_S, urgent=True)
        client.submit_txn([], [get(b"x")], [], lambda _: None, 2 * TIME_S)
        for _ in range(2):
            assert member.calls.get(timeout=TIMEOUT_S) == TXN
        clock.ahead_s += TIME_S
        for _ in range(3):
            turn = StandStill(client, clock)
            turn.begun()
            turn.end()
        going_on.set()
        client.txn([], [get(b"x")], timeout_s=TIMEOUT_S, urgent=True)
        assert (member.connections, other.connections) == (1, 0)


@pytest.mark.parametrize("says", [b"", frame(PING, ACK, 0, bytes(8))])
def test_a_silent_member_is_left_before_the_time_of_a_renewal_has_run_out(clock: Clock, says: bytes) -> None:
    """But not one that says anything: it may take long to renew."""
    said = threading.Event()

    def slow(peer: Peer, stream: int, path: str) -> None:
        if path == LEASE_KEEP_ALIVE:
            peer.send(says)
            said.set()
        else:
            good(peer, stream, path)

    with Stub(slow, Peer.send_at_once) as member, Stub(good) as other, client_of(member, other) as client:
        client.txn([], [get(b"x")], timeout_s=TIMEOUT_S, urgent=True)
        client.submit_keep_alive(5, lambda _: None, 2 * TIME_S, TIME_S)
        assert said.wait(TIMEOUT_S)
        standing = StandStill(client, clock)
        standing.begun()
        standing.end(after_s=TIME_S)
        with suppress(ConnectionLostError):  # it has left with it
            client.txn([], [get(b"x")], timeout_s=TIMEOUT_S, urgent=True)
        client.txn([], [get(b"x")], timeout_s=TIMEOUT_S, urgent=True)
        assert (member.connections, other.connections) == ((1, 0) if says else (1, 1))
