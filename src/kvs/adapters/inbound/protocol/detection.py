"""A conversation before its first byte, which tells the protocol: ``*`` is RESP, all else is the line protocol."""

from collections.abc import Callable
from typing import Final, TypeAlias, final

from kvs.adapters.inbound.protocol.connection import Connection, Facts
from kvs.domain.errors import KvsError
from kvs.ports.session import Session, SessionFactory

RESP_OPENING: Final = b"*"

Converse: TypeAlias = Callable[[Session], Connection]
"""Returns the connection that goes on with a session, in one protocol."""


@final
class Opening(Connection):
    """A connection whose protocol is not known yet; until it is, it speaks the line protocol."""

    __slots__ = ("_line", "_resp")

    def __init__(self, line: Connection, resp: Converse) -> None:
        super().__init__(line.session)
        self._line = line
        self._resp = resp

    @property
    def unfinished(self) -> bool:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        return False

    def held_bytes(self) -> int:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        return self._line.held_bytes()

    def facts(self) -> Facts:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        return self._line.facts()

    def told_by(self, data: bytes) -> Connection:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        return self._resp(self.session) if data.startswith(RESP_OPENING) and not self.closing else self._line

    def receive(self, data: bytes) -> None:  # noqa: ARG002  # it was to be given to another
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        raise RuntimeError("the protocol has not been told")

    def resume(self) -> None:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`. There is nothing."""

    def end_of_input(self) -> None:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        self._line.end_of_input()
        self.closing = True

    def fail(self, error: KvsError) -> None:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        self._line.fail(error)
        self.closing = True

    def take_output(self) -> bytes:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        return self._line.take_output()

    def close(self) -> None:
        """See :class:`kvs.adapters.inbound.protocol.connection.Connection`."""
        self._line.close()
        self.closing = True


@final
class Protocols:
    """Opens conversations; its :meth:`connect` is a ``ConnectionFactory``.

    Args:
        sessions: Opens their sessions.
        line: Goes on in the line protocol.
        resp: Goes on in RESP.
    """

    __slots__ = ("_line", "_resp", "_sessions")

    def __init__(self, sessions: SessionFactory, line: Converse, resp: Converse) -> None:
        self._sessions = sessions
        self._line = line
        self._resp = resp

    def connect(self) -> Connection:
        """Return the connection of a new client, with a session of its own."""
        return Opening(self._line(self._sessions.open()), self._resp)
