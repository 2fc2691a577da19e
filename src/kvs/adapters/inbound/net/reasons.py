"""Why connections end, as logs and INFO tell it."""

from typing import Final

ACCESS_CHANGED: Final = "access changed"
CLOSED_BY_CLIENT: Final = "closed by client"
CLOSED_BY_LEADER: Final = "closed by leader"
CONNECTION_LOST: Final = "connection lost"
HANDSHAKE_DISPLACED: Final = "handshake displaced"
HANDSHAKE_FAILED: Final = "handshake failed"
HANDSHAKE_TIMEOUT: Final = "handshake timeout"
INTERNAL_ERROR: Final = "internal error"
KILLED: Final = "killed"
LEADER_CHANGED: Final = "leader changed"
RELAY_REFUSED: Final = "relay refused"
SERVER_STOPPING: Final = "server stopping"
STRANGER_DISPLACED: Final = "stranger displaced"
TIMEOUT: Final = "timeout"
