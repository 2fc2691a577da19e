"""The state of a client for CLIENT LIST."""

from typing import final


@final
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
        library: Name of the client's library.
        library_version: Its version.
    """

    __slots__ = (
        "arguments_bytes",
        "flags",
        "input_bytes",
        "last_command",
        "library",
        "library_version",
        "name",
        "output_bytes",
        "queue_bytes",
        "queue_length",
        "version",
    )

    def __init__(self, input_bytes: int, output_bytes: int) -> None:
        self.input_bytes = input_bytes
        self.output_bytes = output_bytes
        self.arguments_bytes = 0
        self.queue_length = -1
        self.queue_bytes = 0
        self.flags = ""
        self.name = ""
        self.last_command = "NULL"
        self.version = 0
        self.library = ""
        self.library_version = ""
