"""The state of a client for CLIENT LIST."""

from dataclasses import dataclass
from typing import final


@final
@dataclass
class ClientInfo:
    """The part of a client's state that its protocol knows.

    Attributes:
        input_bytes: Input that has not been run.
        output_bytes: Replies that the channel has not taken.
        arguments_bytes: Memory of an incomplete request.
        queue_length: Number of queued commands; -1 outside MULTI.
        queue_bytes: Memory of queued commands.
        flags: A letter for each state the client is in.
        name: Name of the client.
        last_command: Name of the last command.
        version: Version of RESP; 0: the line protocol.
        redirection: Number of the client that gets its invalidations; 0: itself; -1: none.
        channels: Number of channels that the client has subscribed to.
        patterns: The same of patterns.
        library: Name of the client's library.
        library_version: Its version.
    """

    input_bytes: int
    output_bytes: int
    arguments_bytes: int = 0
    queue_length: int = -1
    queue_bytes: int = 0
    flags: str = ""
    name: str = ""
    last_command: str = "NULL"
    version: int = 0
    redirection: int = -1
    channels: int = 0
    patterns: int = 0
    library: str = ""
    library_version: str = ""
