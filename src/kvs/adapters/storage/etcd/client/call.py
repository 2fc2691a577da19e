"""One call of gRPC: its request, what has come of the answer, and the receiver of its outcome."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, final
from urllib.parse import unquote

from kvs.adapters.storage.etcd.client.errors import (
    OK,
    ConnectionLostError,
    EtcdError,
    NoLeaderError,
    NotSentError,
    ProtocolBrokenError,
    UnavailableError,
    error_of,
)
from kvs.adapters.storage.etcd.client.hpack import Headers
from kvs.adapters.storage.etcd.client.http2 import REFUSED_STREAM, STREAM_WINDOW, Received
from kvs.adapters.storage.etcd.client.requests import AGREED
from kvs.override import override

Outcome: TypeAlias = bytes | EtcdError
"""The message that answers a call, or why there is none."""

Done: TypeAlias = Callable[[Outcome], None]

PREFIX_BYTES: Final = 5
MAX_MESSAGE_BYTES: Final = 64 << 20
"""The largest answer that is accepted. etcd has no limit of its own; a page is as large as the caller lets it be."""


_FAILURES: Final = (NoLeaderError, UnavailableError, ConnectionLostError, ProtocolBrokenError)
"""After these, others may do better."""


def framed(message: Sequence[bytes]) -> list[bytes]:
    """Return the parts of a message as gRPC sends it: not compressed, behind its length."""
    prefix = b"\0" + sum(map(len, message)).to_bytes(PREFIX_BYTES - 1, "big")
    return [prefix + message[0], *message[1:]]


class Call:
    """A call, and how its answer is taken apart. All methods but the constructor run on the link's thread.

    Args:
        method: Path of the method.
        message: The request, in parts; the first is a small one.
        deadline_s: When it is given up, by ``time.monotonic``.
        needs_leader: A member that knows no raft leader is to refuse it.
        token: Says who calls.
        silence_s: After so long the member is left if nothing has come from it since this was sent.

    Attributes:
        agreed: An answer to it shows that the member is one of a majority.
        answered: Something of an answer has come.
        doubt_s: When the member is left if it is silent, though the deadline is later.
        stream: Number of its stream; 0 as long as it has not been sent.
        made_s: When it was made.
        sent_s: When it was sent.
        ended: It has its outcome.
        ends: There is one request; else the stream stays open for more.
        member_failed: The answer, or its lack, says that this member cannot serve: others may.
    """

    __slots__ = (
        "_advanced",
        "_buffer",
        "_code",
        "_text",
        "agreed",
        "answered",
        "body",
        "deadline_s",
        "doubt_s",
        "ended",
        "ends",
        "made_s",
        "member_failed",
        "method",
        "needs_leader",
        "sent_s",
        "stream",
        "token",
    )

    def __init__(
        self,
        method: str,
        message: Sequence[bytes],
        deadline_s: float,
        *,
        needs_leader: bool = True,
        token: str = "",
        silence_s: float = math.inf,
    ) -> None:
        self.method: Final = method
        self.agreed: Final = method in AGREED
        self.answered = False
        self.body = framed(message)
        self.ends = True
        self.deadline_s = deadline_s
        self.needs_leader: Final = needs_leader
        self.token: Final = token
        self.stream = 0
        self.made_s: Final = time.monotonic()
        self.doubt_s: Final = self.made_s + silence_s
        self.sent_s = math.inf
        self.ended = False
        self.member_failed = False
        self._buffer = bytearray()
        self._advanced = 0  # how much of it the other end was told to be consumed
        self._code = -1
        self._text = ""

    def headers(self, scheme: str, authority: str) -> Headers:
        """Return the headers of the request."""
        headers = [
            (":method", "POST"),
            (":scheme", scheme),
            (":path", self.method),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
        if self.token:
            headers.append(("token", self.token))
        if self.needs_leader:
            headers.append(("hasleader", "true"))
        return tuple(headers)

    def take(self, received: Received) -> int:
        """Take in what came on the stream; return how many bytes more the other end may send for it."""
        self.answered = True
        if received.headers:
            self._take_headers(received)
        credit = 0
        if received.data and not self.ended:
            self._buffer += received.data
            credit = self._take_messages()
        if received.ended and not self.ended:
            self.end(self._failure(received))
        return credit

    def end(self, error: EtcdError | None) -> None:
        """End the call: nothing more will come. Without an error its status was that of success."""
        if not self.ended:
            self.ended = True
            self.member_failed = isinstance(error, _FAILURES)
            self.body = []  # its deadline may keep the call for a while
            self._buffer.clear()
            try:
                self._end(error)
            except Exception as failure:  # noqa: BLE001 - the receiver's fault, which must not end the other calls
                told = threading.ExceptHookArgs((type(failure), failure, failure.__traceback__, None))
                threading.excepthook(told)

    def _take_headers(self, received: Received) -> None:
        for name, value in received.headers:
            if name == "grpc-status":
                self._code = int(value) if value.isdecimal() else -1
            elif name == "grpc-message":
                self._text = unquote(value)
            elif name == ":status" and value != "200":
                # A proxy; nobody knows what became of the request. What follows is for people.
                self.end(ConnectionLostError(f"HTTP status {value}"))
                return

    def _failure(self, received: Received) -> EtcdError | None:
        if received.reset == REFUSED_STREAM:
            return NotSentError("the member refused the stream")
        if received.reset >= 0 and self._code < 0:
            return UnavailableError(f"the member reset the stream: {received.reset}")
        if self._code < 0:
            return ConnectionLostError(self._text or "the answer ended without a status")
        return None if self._code == OK else error_of(self._code, self._text)

    def _take_messages(self) -> int:
        buffer = self._buffer
        credit = 0
        while len(buffer) >= PREFIX_BYTES:
            length = int.from_bytes(buffer[1:PREFIX_BYTES], "big") + PREFIX_BYTES
            if buffer[0] or length > MAX_MESSAGE_BYTES:
                self.end(ProtocolBrokenError(f"a message of {length} bytes, or compressed"))
                return 0
            if len(buffer) < length:
                break
            message = bytes(buffer[PREFIX_BYTES:length])
            del buffer[:length]
            owed = length - self._advanced
            self._advanced = 0
            credit += self._take_message(message, owed)
        if len(buffer) - self._advanced > STREAM_WINDOW // 2:  # or a message that is larger than the window never comes
            credit += len(buffer) - self._advanced
            self._advanced = len(buffer)
        return credit

    def _take_message(self, message: bytes, owed: int) -> int:
        """Take in a message; return how much of ``owed`` the other end may send again already now."""
        raise NotImplementedError

    def _end(self, error: EtcdError | None) -> None:
        raise NotImplementedError


@final
class UnaryCall(Call):
    """One request, one answer, and ``done`` is called with it, once, on the link's thread."""

    __slots__ = ("_answer", "_done")

    def __init__(
        self,
        method: str,
        message: Sequence[bytes],
        deadline_s: float,
        done: Done,
        *,
        needs_leader: bool = True,
        token: str = "",
        silence_s: float = math.inf,
    ) -> None:
        super().__init__(method, message, deadline_s, needs_leader=needs_leader, token=token, silence_s=silence_s)
        self._done = done
        self._answer: bytes | None = None

    @override
    def end(self, error: EtcdError | None) -> None:
        if error is None and self._answer is None:
            error = ProtocolBrokenError("no answer, and no error")
        super().end(error)

    @override
    def _take_message(self, message: bytes, owed: int) -> int:
        self._answer = message
        return owed

    @override
    def _end(self, error: EtcdError | None) -> None:
        # Its deadline may keep the call for a while, but not what was asked and answered.
        done, self._done = self._done, _forget
        answer, self._answer = self._answer, None
        if error is not None:
            done(error)
        elif answer is not None:
            done(answer)


def _forget(_: Outcome) -> None:
    """Take no notice."""
