"""Protocol detection: ``*`` is RESP, and of a client that sends lines the first one tells, once.

A first line is an inline command of Redis if it ends in CRLF, is not HTTP, and its verb is one of Redis that the line
protocol has not. PING is in either, and decides nothing: health checks begin with it.
"""

from collections.abc import Callable, Container
from typing import Final, TypeAlias, final

from kvs.adapters.inbound.protocol.client_state import LINE, ClientState
from kvs.adapters.inbound.protocol.connection import Connection
from kvs.adapters.inbound.protocol.http_lines import is_request_line
from kvs.application.executor import WorkerExecutor
from kvs.ports.session import Session

RESP_FIRST_BYTE: Final = b"*"

MAX_OPENING_BYTES: Final = (1 << 16) + 1
"""Longest first line, with its end, that may be an inline command of Redis. Of longer ones this much tells enough."""

CRLF: Final = b"\r\n"
BLANKS: Final = b" \t"
PING: Final = b"PING"
QUIT: Final = b"QUIT"
INFO: Final = b"INFO"
AUTH: Final = b"AUTH"

OpenConnection: TypeAlias = Callable[[Session, WorkerExecutor | None], Connection]
"""Returns a connection in one protocol, given the session and the executor, if any."""

OpenSession: TypeAlias = Callable[[], tuple[Session, WorkerExecutor | None]]
"""Opens the session of a new client."""


@final
class ProtocolDetector:
    """Opens connections that speak the line protocol until they have detected another.

    Args:
        open_session: Opens their sessions.
        line: Opens a connection in the line protocol.
        line_verbs: Its verbs, in capitals.
        resp: Opens a connection in RESP.
        resp_verbs: Its verbs, in capitals, and those of Redis.
    """

    def __init__(
        self,
        open_session: OpenSession,
        line: OpenConnection,
        line_verbs: Container[bytes],
        resp: OpenConnection,
        resp_verbs: Container[bytes],
    ) -> None:
        self._open_session = open_session
        self._line = line
        self._line_verbs = line_verbs
        self._resp = resp
        self._resp_verbs = resp_verbs

    def connect(self) -> Connection:
        """Return the connection of a new client. A ``ConnectionFactory``."""
        session, executor = self._open_session()
        connection = self._line(session, executor)
        connection.detector = self._detect
        return connection

    def _detect(self, connection: Connection, opening: bytes) -> Connection | None:
        if opening[:-2].upper() == PING and opening.endswith(CRLF):
            return None
        connection.detector = None
        pinged = connection.requests > 0  # there was nothing else that a connection would have answered
        if not self._is_resp(opening, after_ping=pinged):
            return connection
        successor = self._resp(connection.session, connection.executor)
        _take_over(successor, connection)
        return successor

    def _is_resp(self, opening: bytes, *, after_ping: bool) -> bool:
        if opening.startswith(RESP_FIRST_BYTE):
            return True
        line = opening[:-2].strip(BLANKS)
        if not opening.endswith(CRLF) or is_request_line(line):
            return False
        verb, _, rest = line.partition(b" ")
        verb = verb.rstrip(BLANKS).upper()
        if verb == INFO:
            return rest != b""
        if verb == AUTH:
            return len(rest.split()) == 1
        if verb == QUIT:
            return after_ping and not rest
        return verb in self._resp_verbs and verb not in self._line_verbs


def restore(connection: Connection, state: ClientState) -> None:
    """Have a new connection go on as one did at another server, or its successor in the protocol of that one."""
    detector = connection.detector
    if state.version == LINE:
        connection.detector = None
        connection.restore(state)
    elif detector is not None:
        successor = detector(connection, RESP_FIRST_BYTE)
        if successor is not None:
            successor.restore(state)
            connection.successor = successor


def choose(connection: Connection, opening: bytes) -> None:
    """Have a new connection go on in the protocol that an opening seems to be, which is not run."""
    detector = connection.detector
    line, end, _ = opening.partition(b"\n")
    if detector is not None:
        successor = detector(connection, line + end)
        if successor is not None and successor is not connection:
            connection.successor = successor


def _take_over(successor: Connection, connection: Connection) -> None:
    """Have a connection go on in place of another, with its session, input and output."""
    successor.requests = connection.requests
    successor._out, successor._out_bytes = connection.take_output()
    successor._charged_bytes, connection._charged_bytes = connection._charged_bytes, 0
    successor._input_ended = connection._input_ended
    buffer = connection._buffer
    successor.backlog = successor._feed(buffer.data[buffer.at :])
    buffer.clear()
