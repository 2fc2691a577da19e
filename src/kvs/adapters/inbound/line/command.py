"""The form of a command of the line protocol."""

from collections.abc import Callable
from typing import Final, TypeAlias, final

from kvs.adapters.inbound.line.limits import LineLimits
from kvs.adapters.inbound.protocol.command import RELAYED, Command, Locality, Reply, nowhere
from kvs.ports.session import Session

Handler: TypeAlias = Callable[[Session, LineLimits, list[bytes]], Reply]
"""Takes the session, the limits and the words of the line; returns the reply, or a generator of it."""


@final
class LineCommand(Command):
    """A command of the line protocol.

    Attributes:
        run: Runs it.
        help: The line of HELP.
        closes: It ends the connection.
        takes_value: Blanks at the end of its line belong to its last argument.
    """

    def __init__(
        self,
        name: str,
        run: Handler,
        arity: int,
        arguments: tuple[str, ...],
        usage: str,
        help_text: str,
        *,
        cost: int = 0,
        is_local: Locality = nowhere,
        runs_when_full: bool = False,
        takes_value: bool = False,
        closes: bool = False,
        on_standby: int = RELAYED,
    ) -> None:
        super().__init__(
            name.encode(),
            arity,
            arguments,
            0,
            usage=usage,
            empty_key=usage,
            cost=cost,
            is_local=is_local,
            on_loop=False,
            runs_when_full=runs_when_full,
            on_standby=on_standby,
        )
        self.run: Final = run
        self.help: Final = help_text
        self.takes_value: Final = takes_value
        self.closes: Final = closes
