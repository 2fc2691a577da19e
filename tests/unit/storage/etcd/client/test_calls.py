"""Calls of gRPC: messages in pieces, and what their ends mean."""

import math

import pytest

from kvs.adapters.storage.etcd.client import call as calls
from kvs.adapters.storage.etcd.client.call import MAX_MESSAGE_BYTES, Outcome, UnaryCall
from kvs.adapters.storage.etcd.client.errors import (
    AccessDeniedError,
    CompactedError,
    ConnectionLostError,
    CorruptClusterError,
    DeadlineExceededError,
    EtcdError,
    InvalidRequestError,
    NoLeaderError,
    NoSpaceError,
    NotSentError,
    ProtocolBrokenError,
    RefusedError,
    RequestTooLargeError,
    TokenRefusedError,
    TooBusyError,
    UnavailableError,
    UnknownOutcomeError,
    error_of,
)
from kvs.adapters.storage.etcd.client.http2 import REFUSED_STREAM, STREAM_WINDOW, Received

pytestmark = pytest.mark.one_build

SUCCESS = Received(1, (("grpc-status", "0"),), b"", ended=True)


def framed(message: bytes) -> bytes:
    """Return a message with its length."""
    return b"".join(calls.framed([message[:2], message[2:]]))


def answered(*received: Received) -> Outcome:
    """Return what a call is told after these."""
    told: list[Outcome] = []
    call = UnaryCall("/method", [b"request"], math.inf, told.append)
    for each in received:
        call.take(each)
    (outcome,) = told
    assert call.ended
    return outcome


def data(payload: bytes) -> Received:
    """Return data of the call."""
    return Received(1, (), payload, ended=False)


def test_a_message_is_put_together_from_its_pieces() -> None:
    """Byte by byte, even."""
    pieces = [data(bytes([byte])) for byte in framed(b"message")]
    assert answered(Received(1, ((":status", "200"),), b"", ended=False), *pieces, SUCCESS) == b"message"
    assert answered(data(framed(b"")), SUCCESS) == b""


def test_the_other_end_may_send_again_what_is_whole_or_would_never_become_so() -> None:
    """A message larger than the window is let in by halves; nothing is granted twice."""
    call = UnaryCall("/method", [b""], math.inf, lambda _: None)
    assert call.take(data(framed(b"x"))) == 6
    large = framed(bytes(STREAM_WINDOW))
    half = STREAM_WINDOW // 2
    assert call.take(data(large[:half])) == 0
    assert call.take(data(large[half : half + 1])) == half + 1
    assert call.take(data(large[half + 1 :])) == len(large) - half - 1


@pytest.mark.parametrize(
    ("received", "error"),
    [
        ((Received(1, (), b"", ended=True),), ConnectionLostError),
        ((Received(1, ((":status", "503"),), b"", ended=True),), ConnectionLostError),
        ((Received(1, (("grpc-status", "x"),), b"", ended=True),), ConnectionLostError),
        ((SUCCESS,), ProtocolBrokenError),
        ((data(b"\1\0\0\0\0"),), ProtocolBrokenError),
        ((data(b"\0" + MAX_MESSAGE_BYTES.to_bytes(4, "big")),), ProtocolBrokenError),
        ((data(framed(b"x")[:-1]), SUCCESS), ProtocolBrokenError),
        ((Received(1, (), b"", ended=True, reset=REFUSED_STREAM),), NotSentError),
        ((Received(1, (), b"", ended=True, reset=2),), UnavailableError),
        ((data(framed(b"x")), Received(1, (), b"", ended=True)), ConnectionLostError),
    ],
)
def test_an_end_without_an_answer_is_an_error(received: tuple[Received, ...], error: type[EtcdError]) -> None:
    """Unknown, but for a stream that was refused."""
    outcome = answered(*received)
    assert type(outcome) is error
    assert isinstance(outcome, NotSentError | UnknownOutcomeError)


@pytest.mark.parametrize(
    ("code", "text", "error", "definite"),
    [
        (8, "etcdserver: mvcc: database space exceeded", NoSpaceError, False),
        (8, "etcdserver: too many requests", TooBusyError, True),
        (8, "grpc: received message larger than max (3 vs. 2)", RequestTooLargeError, True),
        (8, "something else", UnavailableError, False),
        (3, "etcdserver: request is too large", RequestTooLargeError, True),
        (3, "etcdserver: duplicate key given in txn request", InvalidRequestError, True),
        (3, "etcdserver: authentication failed, invalid user ID or password", AccessDeniedError, True),
        (3, "etcdserver: user name is empty", AccessDeniedError, True),
        (3, "etcdserver: revision of auth store is old", TokenRefusedError, True),
        (2, "auth: revision in header is old", TokenRefusedError, True),
        (2, "anything", UnavailableError, False),
        (16, "etcdserver: invalid auth token", TokenRefusedError, True),
        (7, "etcdserver: permission denied", AccessDeniedError, True),
        (11, "etcdserver: mvcc: required revision has been compacted", CompactedError, True),
        (14, "etcdserver: no leader", NoLeaderError, True),
        (14, "etcdserver: leader changed", UnavailableError, False),
        (14, "etcdserver: request timed out", UnavailableError, False),
        (14, "etcdserver: request timed out, possibly due to previous leader failure", UnavailableError, False),
        (14, "etcdserver: server stopped", UnavailableError, False),
        (4, "context deadline exceeded", DeadlineExceededError, False),
        (1, "context canceled", UnavailableError, False),
        (13, "transport: internal", UnavailableError, False),
        (15, "etcdserver: corrupt cluster", CorruptClusterError, True),
        (99, "", UnavailableError, False),
    ],
)
def test_only_what_etcd_shows_not_to_have_been_applied_is_definite(
    code: int, text: str, error: type[EtcdError], *, definite: bool
) -> None:
    """Each status that etcd is known to answer with, and others."""
    outcome = answered(Received(1, (("grpc-status", str(code)), ("grpc-message", text)), b"", ended=True))
    assert type(outcome) is type(error_of(code, text)) is error
    assert isinstance(outcome, RefusedError) is definite
    assert isinstance(outcome, UnknownOutcomeError) is not definite


def test_the_text_of_an_error_is_unquoted() -> None:
    """As gRPC quotes it."""
    outcome = answered(Received(1, (("grpc-status", "14"), ("grpc-message", "100%25 g%C3%BCltig")), b"", ended=True))
    assert str(outcome) == "100% gültig"
