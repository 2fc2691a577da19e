"""The state of a client that goes with it from one server to another."""

from dataclasses import dataclass, field
from typing import Final, final

LINE: Final = 0
"""The line protocol, where a version of RESP is asked for."""


@final
@dataclass
class ClientState:
    """What a client has set, beside its session.

    Attributes:
        version: Version of RESP; ``LINE``: the line protocol.
        name: Name of the client.
        library: Name of its library.
        library_version: Its version.
        no_evict: Whether it has set NO-EVICT.
        channels: Channels that it has subscribed to.
        patterns: Patterns of channels that it has subscribed to.
        user: Name of the user that it is; empty: nobody has said.
    """

    version: int = LINE
    name: bytes = b""
    library: bytes = b""
    library_version: bytes = b""
    no_evict: bool = False
    channels: list[bytes] = field(default_factory=list)
    patterns: list[bytes] = field(default_factory=list)
    user: str = ""
