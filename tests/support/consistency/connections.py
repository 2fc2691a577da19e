"""Connections that may be lost at any moment, in either protocol, with answers of the same form.

Who is not answered in the time that its patience lasts takes the connection for lost.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import IO, Final, TypeAlias, cast

from tests.support.consistency.actions import Action, Answer, Failed
from tests.support.line_client import Client, parse_reply
from tests.support.resp_wire import Reply, Typed, Wire, read_reply, request
from tests.support.waiting import TIMEOUT_S

Address: TypeAlias = tuple[str, int]

CODES: Final = {b"ERR": "usage", b"UNKNOWNOUTCOME": "outcome_unknown"}
"""Of errors in RESP that are not called as in the line protocol."""


class LostError(Exception):
    """The connection was lost.

    Attributes:
        answers: To the first of what was asked.
    """

    def __init__(self, answers: list[Answer]) -> None:
        super().__init__()
        self.answers = answers


class Connection(ABC):
    """One connection."""

    def ask(self, actions: Sequence[Action]) -> list[Answer]:
        """Ask for commands in one packet, and return their answers.

        Raises:
            LostError: The connection was lost before all had been answered.
        """
        return self.ask_words([self.words(action) for action in actions])

    def ask_words(self, requests: Sequence[Sequence[str]]) -> list[Answer]:
        """Likewise."""
        answers: list[Answer] = []
        try:
            self._send(requests)
            while len(answers) < len(requests):
                answers.append(self._answer())
        except (OSError, EOFError):
            self.close()
            raise LostError(answers) from None
        return answers

    @abstractmethod
    def words(self, action: Action) -> Sequence[str]:
        """Return the words for a command; none if the protocol has none."""

    def has(self, action: Action) -> bool:
        """Return whether the protocol has a command."""
        return bool(self.words(action))

    @abstractmethod
    def close(self) -> None:
        """Leave without a word."""

    @abstractmethod
    def _send(self, requests: Iterable[Sequence[str]]) -> None: ...

    @abstractmethod
    def _answer(self) -> Answer: ...


class LineConnection(Connection):
    """A connection in the line protocol."""

    def __init__(self, address: Address, patience_s: float = TIMEOUT_S) -> None:
        self._client = Client(*address)
        self._client.socket.settimeout(patience_s)

    def words(self, action: Action) -> Sequence[str]:
        return action.line

    def close(self) -> None:
        self._client.close()

    def _send(self, requests: Iterable[Sequence[str]]) -> None:
        self._client.send(*(" ".join(words) for words in requests))

    def _answer(self) -> Answer:
        line = self._client.raw_reply()
        if not line.endswith(b"\n"):
            raise EOFError
        reply = parse_reply(line)
        if reply["status"] == "Error":
            return Failed(reply["code"])
        return reply.get("result", True)


class RespConnection(Connection):
    """A connection in RESP."""

    def __init__(self, address: Address, patience_s: float = TIMEOUT_S) -> None:
        self._wire = Wire(address)
        self._wire.socket.settimeout(patience_s)
        self._whole = cast("IO[bytes]", _Whole(self._wire.socket.makefile("rb")))

    def words(self, action: Action) -> Sequence[str]:
        return action.resp

    def close(self) -> None:
        self._whole.close()
        self._wire.close()

    def _send(self, requests: Iterable[Sequence[str]]) -> None:
        self._wire.send(b"".join(request(*words) for words in requests))

    def _answer(self) -> Answer:
        return _plain(read_reply(self._whole))


class _Whole:
    """A stream that ends between two replies or in the middle of one, which is all the same."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.close = stream.close

    def readline(self) -> bytes:
        line = self._stream.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return line

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise EOFError
        return data


def _plain(reply: Reply) -> Answer:
    if isinstance(reply, bytes):
        return reply.decode()
    if isinstance(reply, list):
        return [_plain(each) for each in reply]
    if not isinstance(reply, Typed):
        return reply
    if reply.kind == "-":
        assert isinstance(reply.value, bytes)
        code = reply.value.partition(b" ")[0]
        return Failed(CODES.get(code, code.decode().lower()))
    return True if reply.kind == "+" else None
