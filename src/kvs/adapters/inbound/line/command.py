"""The form of a command of the line protocol."""

from collections.abc import Callable
from typing import Final, TypeAlias, final

from kvs.adapters.inbound.line.context import LineContext
from kvs.adapters.inbound.protocol.command import (
    RELAYED,
    SECRET,
    Command,
    Locality,
    Reply,
    Uses,
    no_range,
    nowhere,
)
from kvs.domain.values import Key
from kvs.override import override
from kvs.ports.session import Session

Handler: TypeAlias = Callable[[Session, LineContext, list[bytes]], Reply]
"""Takes the session, what else is known of the client, and the words of the line; returns the reply, or a generator."""


@final
class LineCommand(Command):
    """A command of the line protocol.

    Attributes:
        access: What it does with its first argument, a key: READ, WRITE or both; 0: that is none.
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
        categories: int,
        access: int = 0,
        ranges: Uses = no_range,
        grant_name: str = "",
        is_open: bool = False,
        on_loop: bool = False,
        ends_transaction: bool = False,
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
            on_loop=on_loop,
            runs_when_full=runs_when_full,
            grant_name=(grant_name or name.lower()).encode(),
            categories=categories,
            ranges=ranges,
            is_hidden=SECRET in arguments,
            on_standby=on_standby,
            is_open=is_open,
            ends_transaction=ends_transaction,
        )
        self.access: Final = access
        self.run: Final = run
        self.help: Final = help_text
        self.takes_value: Final = takes_value
        self.closes: Final = closes

    @override
    def uses_of(self, request: list[bytes]) -> list[tuple[int, Key]]:
        return [(self.access, request[1])] if self.access else []
