"""A link to members that behave badly: which are left, and when."""

import gc
import socket
import struct
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import pytest

from kvs.adapters.storage.etcd.client import auth, dialling, link
from kvs.adapters.storage.etcd.client.endpoints import Endpoint
from kvs.adapters.storage.etcd.client.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    EtcdError,
    ProtocolBrokenError,
)
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.http2 import (
    ACK,
    DATA,
    END_STREAM,
    GOAWAY,
    LAST_STREAM,
    MAX_CONCURRENT_STREAMS,
    PING,
    SETTINGS,
)
from kvs.adapters.storage.etcd.client.requests import AUTHENTICATE, LEASE_KEEP_ALIVE, MEMBER_LIST, RANGE, TXN, get
from kvs.adapters.storage.etcd.client.wire import bytes_field, number_field
from tests.support.etcd_stub import HEADER, HOST, Peer, Stub, answer, frame, headers, message
from tests.support.waiting import TIMEOUT_S, polling

pytestmark = pytest.mark.one_build

LEASE: Final = HEADER + number_field(2, 5) + number_field(3, 2)


def good(peer: Peer, stream: int, path: str) -> None:
    """Answer everything."""
    peer.send(answer(stream, LEASE if path == LEASE_KEEP_ALIVE else HEADER))


def silent(_: Peer, __: int, ___: str) -> None:
    """Answer nothing."""


def gone_away(last: int) -> bytes:
    """Return the frame that says which is the last stream that is looked at."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, 0))


@contextmanager
def client_of(*stubs: Stub, **options: Any) -> Iterator[EtcdClient]:
    """Return a client of these, which is closed."""
    client = EtcdClient([stub.endpoint for stub in stubs], **options)
    try:
        yield client
    finally:
        client.close()


def until_answered(client: EtcdClient, timeout_s: float = 0.2) -> list[EtcdError]:
    """Call until there is an answer; return why there was none before."""
    errors: list[EtcdError] = []
    for _ in polling("a call is answered"):
        try:
            client.txn([], [get(b"x")], timeout_s=timeout_s)
        except EtcdError as error:
            errors.append(error)
        else:
            break
    return errors


def stuck(peer: Peer, stream: int, path: str) -> None:
    """Do what a member does whose disk hangs: answer what it can by itself, also that it has read what was sent."""
    if path in (LEASE_KEEP_ALIVE, MEMBER_LIST):
        good(peer, stream, path)
    else:
        peer.send(frame(PING, ACK, 0, bytes(8)))


def test_a_member_that_answers_only_what_it_can_by_itself_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it does so, and however short the time that a call has."""
    monkeypatch.setattr(link, "STUCK_S", 0.5)
    with Stub(stuck) as bad, Stub(good) as well, client_of(bad, well) as client:
        stopping = threading.Event()

        def keep() -> None:
            while not stopping.wait(0.05):
                with suppress(EtcdError):
                    client.keep_alive_once(5)

        keeping = threading.Thread(target=keep)
        keeping.start()
        try:
            until_answered(client)
        finally:
            stopping.set()
            keeping.join()
        assert client._calls.endpoint == well.endpoint


def test_a_member_that_answers_others_is_not_left() -> None:
    """A single call may take long, and calls that are short of time may fail."""

    def slow_once(peer: Peer, stream: int, path: str) -> None:
        if stream > 1:
            peer.send(frame(PING, ACK, 0, bytes(8)))
            good(peer, stream, path)

    with Stub(slow_once) as slow, Stub(good) as well, client_of(slow, well) as client:
        ended = threading.Event()

        def wait() -> None:
            with suppress(DeadlineExceededError):
                client.txn([], [get(b"x")], timeout_s=2 * link.STUCK_S)
            ended.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        assert slow.calls.get(timeout=TIMEOUT_S) == TXN
        while not ended.is_set():
            client.txn([], [get(b"x")])
        waiting.join()
        client.txn([], [get(b"x")])
        assert client._calls.endpoint == slow.endpoint


def test_a_member_that_goes_away_is_left_when_its_last_call_is_given_up() -> None:
    """It takes no more, and the last one is never answered."""

    def leave(peer: Peer, _: int, __: str) -> None:
        peer.send(gone_away(LAST_STREAM), frame(PING, ACK, 0, bytes(8)))

    with Stub(leave) as bad, Stub(good) as well, client_of(bad, well) as client:
        assert any(isinstance(error, DeadlineExceededError) for error in until_answered(client))


def test_what_a_member_that_goes_away_has_not_looked_at_moves_on_in_order() -> None:
    """What it has begun to answer all the same is lost."""
    streams: list[int] = []
    together = threading.Event()

    def leave(peer: Peer, stream: int, _: str) -> None:
        streams.append(stream)
        if len(streams) == 3:
            together.set()
            peer.send(message(5), gone_away(0))

    order: list[int] = []

    def take(peer: Peer, stream: int, path: str) -> None:
        order.append(stream)
        good(peer, stream, path)

    outcomes: dict[int, object] = {}
    told = threading.Semaphore(0)
    with Stub(leave) as bad, Stub(take) as well, client_of(bad, well) as client:
        for number in range(3):

            def done(outcome: object, number: int = number) -> None:
                outcomes[number] = outcome
                told.release()

            client.submit_txn([], [get(b"%d" % number)], [], done)
        for _ in range(3):
            assert told.acquire(timeout=TIMEOUT_S)
    assert together.is_set()
    assert isinstance(outcomes[2], ConnectionLostError)
    assert list(outcomes)[-2:] == [0, 1]
    assert order == [1, 3]


def test_a_connection_whose_numbers_are_used_up_is_replaced() -> None:
    """As it is after a thousand million calls."""
    with Stub(good) as stub, client_of(stub) as client:
        client.txn([], [get(b"x")])
        client._calls._http2._next = LAST_STREAM - 2
        client.txn([], [get(b"x")])
        client.txn([], [get(b"x")])
        assert stub.connections == 2


def test_a_member_that_admits_no_calls_is_left() -> None:
    """Those that wait go to another."""
    none = frame(SETTINGS, 0, 0, struct.pack(">HI", MAX_CONCURRENT_STREAMS, 0))
    with Stub(silent, lambda peer: peer.send(none)) as bad, Stub(good) as well, client_of(bad, well) as client:
        until_answered(client)
        assert client._calls.endpoint == well.endpoint


@pytest.mark.parametrize("body", [b"", b"\0\0\0\0\0no healthy upstream"])
def test_a_proxy_without_a_member_is_left(body: bytes) -> None:
    """What it says is no answer."""

    def refuse(peer: Peer, stream: int, _: str) -> None:
        said = headers(stream, (":status", "503"), flags=0 if body else END_STREAM)
        peer.send(said + (frame(DATA, END_STREAM, stream, body) if body else b""))

    with Stub(refuse) as bad, Stub(good) as well, client_of(bad, well) as client:
        (error,) = until_answered(client, TIMEOUT_S)
        assert isinstance(error, ConnectionLostError)
        assert str(error) == "HTTP status 503"


def test_who_answers_nonsense_is_left() -> None:
    """A message that is compressed, though nobody asked for that; or none."""

    def compress(peer: Peer, stream: int, _: str) -> None:
        peer.send(headers(stream, (":status", "200")), frame(DATA, END_STREAM, stream, b"\1\0\0\0\0"))

    with Stub(compress) as bad, Stub(good) as well, client_of(bad, well) as client:
        (error,) = until_answered(client, TIMEOUT_S)
        assert isinstance(error, ProtocolBrokenError)


def test_each_address_of_a_name_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first does not answer: its backlog is full."""
    monkeypatch.setattr(dialling, "CONNECT_TIMEOUT_S", 0.3)
    real = socket.getaddrinfo
    with Stub(good) as well, socket.socket() as deaf:
        deaf.bind(("127.0.0.2", well.endpoint.port))
        deaf.listen(0)
        filling = [socket.socket() for _ in range(4)]
        for each in filling:
            each.setblocking(False)
            with suppress(BlockingIOError):
                each.connect(deaf.getsockname())

        def both(_: str, port: int, **options: Any) -> object:
            return [*real("127.0.0.2", port, **options), *real(HOST, port, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", both)
        client = EtcdClient([Endpoint("etcd.example", well.endpoint.port)])
        try:
            client.txn([], [get(b"x")], timeout_s=TIMEOUT_S)
        finally:
            client.close()
            for each in filling:
                each.close()


def test_who_sends_without_an_end_holds_nothing_up() -> None:
    """Neither a deadline nor the end of the client."""

    def flood(peer: Peer, _: int, __: str) -> None:
        peer.flood()

    with Stub(flood) as stub, client_of(stub) as client, pytest.raises(EtcdError):
        client.txn([], [get(b"x")], timeout_s=0.5)


def open_descriptors() -> int:
    """Return how many this process has."""
    return len(list(Path("/dev/fd").iterdir()))


def test_a_call_that_has_ended_keeps_neither_request_nor_answer() -> None:
    """Though its deadline is far."""

    class Held:
        """What a completion refers to."""

        def __call__(self, _: object) -> None:
            told.set()

    def second(peer: Peer, stream: int, path: str) -> None:
        if stream > 1:
            good(peer, stream, path)

    told = threading.Event()
    with Stub(second) as stub, client_of(stub) as client:
        client.submit_txn([], [get(b"x")], [], lambda _: None, timeout_s=300)
        done = Held()
        kept = weakref.ref(done)
        client.submit_txn([], [get(b"x")], [], done, timeout_s=600)
        del done
        assert told.wait(TIMEOUT_S)
        for _ in polling("nothing keeps it"):
            gc.collect()
            if kept() is None:
                break
        assert len(client._urgent._deadlines) > 1


def test_a_link_that_is_closed_keeps_no_descriptor() -> None:
    """Though the collector of cycles may be off, or told to leave all there is alone."""
    with Stub(good) as stub:
        gc.disable()
        try:
            before = open_descriptors()
            for _ in range(3):
                with client_of(stub) as client:
                    client.txn([], [get(b"x")])
            for _ in polling("the other end is closed, too"):
                if open_descriptors() <= before:
                    break
        finally:
            gc.enable()


def test_a_token_longer_than_a_frame_is_sent() -> None:
    """In several."""
    with Stub(good) as stub, client_of(stub, user="somebody", password=lambda: "secret") as client:
        client._auth.token = "t" * 40_000
        client.txn([], [get(b"x")])


def test_a_call_ends_in_time_though_no_token_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is not sent when there is one, too late. Tokens are not asked of a member that only tells its status."""
    monkeypatch.setattr(auth, "AUTHENTICATE_TIMEOUT_S", 600.0)
    asked: SimpleQueue[tuple[Peer, int]] = SimpleQueue()

    def hold(peer: Peer, stream: int, path: str) -> None:
        if path == AUTHENTICATE:
            asked.put((peer, stream))
        else:
            good(peer, stream, path)

    with Stub(silent) as other, Stub(hold) as stub, client_of(stub, user="u", password=lambda: "p") as client:
        with pytest.raises(DeadlineExceededError):
            client.status(other.endpoint, timeout_s=0.1)
        with pytest.raises(DeadlineExceededError):
            client.txn([], [get(b"x")], timeout_s=0.1)
        peer, stream = asked.get(timeout=TIMEOUT_S)
        peer.send(answer(stream, HEADER + bytes_field(2, b"token")))
        client.range(b"x")
        assert [stub.calls.get(timeout=TIMEOUT_S) for _ in range(2)] == [AUTHENTICATE, RANGE]
        assert stub.calls.empty()
        assert other.calls.empty()


def test_an_answer_that_cannot_be_decoded_is_an_error() -> None:
    """Whatever a decoder raises."""

    def decode(_: bytes) -> object:
        raise LookupError("planted")

    with Stub(good) as stub, client_of(stub) as client, pytest.raises(ProtocolBrokenError, match="planted"):
        client._wait(TXN, [b""], TIMEOUT_S, decode)
