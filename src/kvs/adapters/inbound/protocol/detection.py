"""Protocol detection by the first byte: ``*`` is RESP, anything else the line protocol."""

from collections.abc import Callable
from typing import Final, TypeAlias, final

from kvs.adapters.inbound.protocol.connection import Connection
from kvs.application.executor import WorkerExecutor
from kvs.ports.session import Session

RESP_FIRST_BYTE: Final = b"*"

OpenConnection: TypeAlias = Callable[[Session, WorkerExecutor | None], Connection]
"""Returns a connection in one protocol, given the session and the executor, if any."""

OpenSession: TypeAlias = Callable[[], tuple[Session, WorkerExecutor | None]]
"""Opens the session of a new client."""


@final
class ProtocolDetector:
    """Opens connections that detect their protocol by the first byte, and speak the line protocol before.

    Args:
        open_session: Opens their sessions.
        line: Opens a connection in the line protocol.
        resp: Opens a connection in RESP.
    """

    def __init__(self, open_session: OpenSession, line: OpenConnection, resp: OpenConnection) -> None:
        self._open_session = open_session
        self._line = line
        self._resp = resp

    def connect(self) -> Connection:
        """Return the connection of a new client. A ``ConnectionFactory``."""
        session, executor = self._open_session()
        connection = self._line(session, executor)
        connection.detector = self._detect
        return connection

    def _detect(self, connection: Connection, data: bytes) -> Connection:
        if data.startswith(RESP_FIRST_BYTE) and not connection.closing:
            return self._resp(connection.session, connection.executor)
        return connection
