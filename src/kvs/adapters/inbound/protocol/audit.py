"""The audit log: who connects, authenticates, is refused, and runs commands of administration, or all commands.

A line is a JSON object. It has keys, never a value and never a secret. Where the lines go, and what becomes of those
that cannot be written, is not known here.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol, final

from kvs.adapters.inbound.protocol.command import KEY, PREFIX, Command
from kvs.adapters.inbound.protocol.peer import Peer
from kvs.adapters.inbound.protocol.printing import shown
from kvs.application.users import DEFAULT_NAME
from kvs.domain.grants import ADMIN

DENIALS: Final = frozenset({b"FORBIDDEN", b"UNAUTHENTICATED", b"NOPERM", b"NOAUTH"})
"""Codes of errors, in capitals: the client may not run the command."""

HELLO: Final = b"hello"
AUTHENTICATING: Final = frozenset({b"auth", b"AUTH", HELLO})
"""Commands that may have a secret, and of which only the outcome is recorded."""

MAX_KEYS: Final = 32
MAX_KEY_BYTES: Final = 512
MAX_LOOKED_AT: Final = 128
"""Arguments of which keys are shown."""

MAX_ARGUMENTS: Final = 32
MAX_ARGUMENT_BYTES: Final = 128

BYTES_PER_UNIT: Final = 100
"""Bytes of a line per unit of work."""


def nobody(_: str) -> bool:
    """Return False: there are no users."""
    return False


class AuditSink(Protocol):
    """**Protocol:** Takes the lines. Neither of these blocks or raises; any thread may call them.

    Attributes:
        dropped: How many lines have been dropped.
        trouble: Why lines cannot be written at the moment; empty: they can.
    """

    dropped: int
    trouble: str

    def write(self, text: str, /) -> int:
        """Write a line, with its end."""

    def reopen(self) -> None:
        """Write to another file of the same name from now on."""

    def drain(self) -> None:
        """Wait until all lines have been written, or a second has passed."""


@final
class Audit:
    """Writes the audit log. Any thread may call it.

    Args:
        sink: Takes the lines.
        clock: Seconds since 1970.
        all_commands: Whether all commands are written, and not just those of administration.
        required: Whether commands of administration, and authentication, are refused while lines cannot be written.
        is_user: Returns whether there is a user of a name.

    Attributes:
        all_commands: See above.
    """

    __slots__ = ("_clock", "_is_user", "_required", "_sink", "all_commands")

    def __init__(
        self,
        sink: AuditSink,
        clock: Callable[[], float],
        *,
        all_commands: bool = False,
        required: bool = False,
        is_user: Callable[[str], bool] = nobody,
    ) -> None:
        self.all_commands: Final = all_commands
        self._sink = sink
        self._clock = clock
        self._required = required
        self._is_user = is_user

    def trouble(self, command: Command, request: list[bytes]) -> str:
        """Return why a command may not run without its line, and its line cannot be written; empty: it may."""
        failing = self.failing
        if not failing:
            return ""
        needs_line = is_administrative(command) or claimed_user(command, request) is not None
        return failing if needs_line else ""

    @property
    def failing(self) -> str:
        """Why nothing may be done that has to have a line; empty: it may."""
        return self._sink.trouble if self._required else ""

    def figures(self) -> dict[str, int]:
        """Return how the log fares, for INFO."""
        return {"audit_lines_lost": self._sink.dropped, "audit_log_failing": int(self._sink.trouble != "")}

    def reopen(self) -> None:
        """Write to another file of the same name from now on."""
        self._sink.reopen()

    def drain(self) -> None:
        """Wait until all lines have been written, or a second has passed."""
        self._sink.drain()

    # Lines.

    def tell(self, event: str, **fields: object) -> None:
        """Tell of the server, or of somebody who is no client of it."""
        self._write({"timestamp": self._now(), "event": event, **fields})

    def notice(self, count: int, reason: str) -> str:
        """Return the line that tells of lines that were dropped."""
        return json.dumps({"timestamp": self._now(), "event": "lost", "lines": count, "reason": reason}) + "\n"

    def connected(self, peer: Peer) -> None:
        """Tell of a client that has connected."""
        self._write(self._about("connected", peer))

    def connection_refused(self, peer: Peer, code: str) -> None:
        """Tell of a client that was not admitted, and the code of the error that it got."""
        self._write({**self._about("connection_refused", peer), "code": code.upper()})

    def disconnected(self, peer: Peer, reason: str) -> None:
        """Tell of a client that is gone."""
        self._write({**self._about("disconnected", peer), "reason": reason})

    def certified(self, peer: Peer) -> None:
        """Tell of a client that is a user by its certificate."""
        self._write({**self._about("authenticated", peer), "code": _code(b"")})

    def ran(self, peer: Peer, command: Command, request: list[bytes], error: bytes) -> int:
        """Record a command that has been run, if it is of those to record.

        Args:
            peer: The client.
            command: The command.
            request: Its arguments.
            error: Code of the error that answered it, if any.

        Returns:
            Units of work that it took.
        """
        name = claimed_user(command, request)
        if name is not None:
            return self._authenticated(peer, name, error)
        if error in DENIALS:
            return self._tell("refused", peer, command, request, error)
        if command.name in AUTHENTICATING:
            return 0
        if self.all_commands or is_administrative(command):
            return self._tell("command", peer, command, request, error)
        return 0

    def refused(self, peer: Peer, command: Command | None, request: list[bytes], error: bytes) -> int:
        """Record a request that was not run, if it is of those to record; as :meth:`ran`.

        Args:
            peer: The client.
            command: The command; None: there is none of that name.
            request: Its arguments.
            error: Code of the error that answers it; empty if it is queued, to be run later.
        """
        if command is None:
            return 0
        if error in DENIALS or (error and (is_administrative(command) or command.name in AUTHENTICATING)):
            return self._tell("refused", peer, command, request, error)
        return 0

    def _authenticated(self, peer: Peer, name: bytes, error: bytes) -> int:
        """Tell of an authentication as a user; a name that nobody has is not told: it may be a secret."""
        text = name.decode(errors="replace")
        fields = self._about("authentication_failed" if error else "authenticated", peer)
        if error:  # else it is the one that the client has become
            fields["user"] = text if self._is_user(text) else None
        fields["code"] = _code(error)
        return self._write(fields)

    def _tell(self, event: str, peer: Peer, command: Command, request: list[bytes], error: bytes) -> int:
        fields = self._about(event, peer)
        fields["command"] = command.name.decode().upper().replace("|", " ")
        fields["keys"] = _keys(command, request)
        if is_administrative(command):
            words = shown(command, request, MAX_ARGUMENTS, MAX_ARGUMENT_BYTES, values=False)
            named = 1 + command.name.count(b"|")
            fields["arguments"] = [text_of(word, len(word)) for word in words[named:]]
        fields["code"] = _code(error)
        return self._write(fields)

    def _about(self, event: str, peer: Peer) -> dict[str, object]:
        return {
            "timestamp": self._now(),
            "event": event,
            "session": peer.number,
            "peer": peer.address,
            "user": None if peer.user is None else peer.user.name,
        }

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def _write(self, fields: dict[str, object]) -> int:
        line = json.dumps(fields) + "\n"  # in ASCII, so nothing in it drives a terminal
        self._sink.write(line)
        return 1 + len(line) // BYTES_PER_UNIT


def is_administrative(command: Command) -> bool:
    """Return whether a command is about the server or its users, and not about keys."""
    return command.categories & ADMIN != 0 and command.name not in AUTHENTICATING


def text_of(data: bytes, max_bytes: int) -> str:
    r"""Return bytes as text: one that is not of UTF-8 as ``\xff``, a backslash as two, and the rest as a number."""
    text = data[:max_bytes].replace(b"\\", b"\\\\").decode(errors="backslashreplace")
    return f"{text}... ({len(data) - max_bytes} more bytes)" if len(data) > max_bytes else text


def claimed_user(command: Command, request: list[bytes]) -> bytes | None:
    """Return the user that a request authenticates as; None if it does not, as HELLO without an option."""
    if command.name not in AUTHENTICATING:
        return None
    if command.name != HELLO:
        return request[1] if len(request) > 2 else DEFAULT_NAME.encode()
    claimed: bytes | None = None
    at = 2
    while at < len(request):  # as HELLO reads them: the last one counts
        is_auth = request[at].upper() == b"AUTH"
        if is_auth and at + 2 < len(request):
            claimed = request[at + 1]
        at += 3 if is_auth else 2
    return claimed


def _keys(command: Command, request: list[bytes]) -> list[str]:
    """Return the keys and prefixes among the arguments of a request, up to a number of them."""
    keys: list[str] = []
    for at in range(1, min(len(request), MAX_LOOKED_AT)):
        if len(keys) == MAX_KEYS:
            break
        if command.declares(at) and command.kind_of(at) in (KEY, PREFIX):
            keys.append(text_of(request[at], MAX_KEY_BYTES))
    else:
        at = max(1, min(len(request), MAX_LOOKED_AT))
    if at < len(request) and KEY in command.arguments[len(command.arguments) - command.repeated :]:
        keys.append(f"... ({len(request) - at} more arguments)")
    return keys


def _code(error: bytes) -> str:
    return error.decode(errors="replace") if error else "OK"
