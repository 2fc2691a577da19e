"""What a list of clients shows of one."""

from typing import final


@final
class ClientInfo:
    """What a list of clients shows of one, as far as its protocol knows it.

    Attributes:
        input_bytes: Input that has not been run.
        output_bytes: Replies that have not been taken.
        arguments_bytes: Held by a request that is not complete.
        queue_length: Number of queued commands; -1: there is no queue.
        queue_bytes: What they hold.
        flags: A letter for each state the client is in.
        name: Of the client.
        last_command: Name of the last command.
        version: Of the protocol; 0: the line protocol.
        library: Of the client.
        library_version: Likewise.
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
