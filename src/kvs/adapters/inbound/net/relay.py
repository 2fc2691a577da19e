"""The preamble of a relayed connection: the first line that a standby sends to the leader, before its client's bytes.

It tells the term that the standby believes in, the client's address, and what the client has set, and is authenticated
by a secret that only the servers of one data set know. Who does not lead that term refuses, so no relay leads on to
another one.

``KVS-RELAY-2 SECRET TERM ADDRESS STATE``. In the state, which is JSON, a new version may add fields: who does not know
them ignores them. ``KVS-RELAY-1`` has no state; the protocol is that of the bytes behind it.

A standby that has ``waits`` in the state sends nothing of its client before the leader has answered with a line of its
own. It asks every leader for that, and waits only for one that has said in etcd that it answers: older ones do not.
"""

import binascii
import hmac
import json
from typing import Any, Final, NamedTuple, final

from kvs.adapters.inbound.protocol.client_state import LINE, ClientState

PREAMBLE_MARK: Final = 0
"""First byte of a preamble: no request of any protocol begins with it."""

ADMITTED: Final = b"\0KVS-RELAY-ADMITTED"
"""The line with which a leader answers: no reply to a client begins like this."""

MAX_BYTES: Final = 48 << 10
"""Longest preamble, with all subscriptions that a client can have."""

_VERSION_1: Final = b"\0KVS-RELAY-1"
_VERSION_2: Final = b"\0KVS-RELAY-2"
_WORDS: Final = {_VERSION_1: 4, _VERSION_2: 5}


def preamble(secret: str, term: int, address: str, state: ClientState) -> bytes:
    """Return the preamble for a client of this address."""
    return b" ".join((_VERSION_2, secret.encode(), b"%d" % term, address.encode(), _encoded(state))) + b"\n"


@final
class Preamble:
    """A preamble as far as it has arrived.

    Attributes:
        complete: Whether all of it is there.
        line: It, without its end.
    """

    def __init__(self) -> None:
        self.complete = False
        self.line = b""

    def take(self, data: bytes) -> bytes:
        """Take input; return what is behind the preamble."""
        self.line, end, rest = (self.line + data).partition(b"\n")
        self.complete = end != b""
        return rest

    @property
    def too_long(self) -> bool:
        """Whether this cannot be one."""
        return len(self.line) > MAX_BYTES or not (_VERSION_2.startswith(self.line[:12]) or self.line[:12] == _VERSION_1)


class RelayedClient(NamedTuple):
    """A client of another server.

    Attributes:
        address: Of the client.
        state: What it has set; None: nothing, and its protocol is not known.
        waits: Whether its standby waits to be admitted before it sends anything of it.
    """

    address: str
    state: ClientState | None
    waits: bool = False


@final
class RelayGuard:
    """Admits relays to the leader of a term.

    Args:
        secret: Of the servers of the data set.
        term: Of this server's lead; None: it stands by and admits none. A server that has not heard yet of the end of
            its lead may send some.
    """

    def __init__(self, secret: str, term: int | None) -> None:
        self._secret = secret.encode()
        self._term = None if term is None else b"%d" % term

    def client_of(self, given: Preamble) -> RelayedClient | None:
        """Return the client for which a preamble asks; None if it is incomplete or refused."""
        words = given.line.split(b" ")
        if not given.complete or len(words) != _WORDS.get(words[0]):
            return None
        secret, term, address = words[1:4]
        if not (hmac.compare_digest(secret, self._secret) and term == self._term):
            return None
        try:
            fields = json.loads(words[4]) if len(words) > 4 else {}
            state = _decoded(fields) if len(words) > 4 else None
        except (ValueError, KeyError, TypeError):
            return None
        return RelayedClient(address.decode(errors="replace"), state, fields.get("waits") is True)


def _encoded(state: ClientState) -> bytes:
    """Return a state as one word."""
    fields: dict[str, object] = {"version": state.version, "user": state.user, "waits": True}
    if state.version != LINE:
        fields |= {
            "name": _text(state.name),
            "library": _text(state.library),
            "library_version": _text(state.library_version),
            "no_evict": state.no_evict,
            "channels": [_text(name) for name in state.channels],
            "patterns": [_text(name) for name in state.patterns],
        }
    return json.dumps(fields, separators=(",", ":")).encode()


def _decoded(fields: dict[str, Any]) -> ClientState:
    """Return the state that another server has sent, which knows the secret."""
    version, user = fields["version"], str(fields.get("user", ""))
    if version == LINE:
        return ClientState(user=user)
    return ClientState(
        version,
        _bytes(fields["name"]),
        _bytes(fields["library"]),
        _bytes(fields["library_version"]),
        fields["no_evict"],
        [_bytes(name) for name in fields["channels"]],
        [_bytes(name) for name in fields["patterns"]],
        user,
    )


def _text(name: bytes) -> str:
    return binascii.b2a_base64(name, newline=False).decode()


def _bytes(text: str) -> bytes:
    return binascii.a2b_base64(text)
