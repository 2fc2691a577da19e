"""What commands there are, by category, as the rules of ACL SETUSER name them."""

from collections.abc import Iterable
from typing import Final, final

from kvs.adapters.inbound.resp.command import RespCommand
from kvs.adapters.inbound.resp.commands.catalogue import CATEGORIES
from kvs.domain.grants import CATEGORY_NAMES

OF_LINES: Final = frozenset({b"count"})
"""Commands of the line protocol that RESP has not, as grants know them. All others have the names of RESP."""


@final
class AclCategories:
    """All commands, by name and by category.

    Args:
        commands: All commands, without subcommands.

    Attributes:
        subcommands: The full names of the subcommands of each command, none if it has none.
        names: The full names of all commands and subcommands.
        listed: The commands of each category of Redis, as ACL CAT lists them.
        granted: The commands of each category by which it is granted. Not among them is a command whose subcommands are
            not all in it: its name would grant all of them.
    """

    def __init__(self, commands: Iterable[RespCommand]) -> None:
        self.subcommands: Final = dict.fromkeys(OF_LINES, frozenset[bytes]())
        self.listed: Final[dict[bytes, list[bytes]]] = {category.encode(): [] for category in CATEGORIES}
        for command in commands:
            own = [] if command.subcommands is None else list(command.subcommands.values())
            self.subcommands[command.name] = frozenset([subcommand.name for subcommand in own])
            for each in (command, *own):
                for category in each.about.categories:
                    self.listed[category.encode()].append(each.name)
        self.listed[b"read"] += OF_LINES
        self.names: Final = frozenset(self.subcommands).union(*self.subcommands.values())
        self.granted: Final = {category: self._granted(names) for category, names in self.listed.items()}

    def _granted(self, listed: list[bytes]) -> frozenset[bytes]:
        names = frozenset(listed)
        return frozenset([name for name in listed if self.subcommands.get(name, frozenset()) <= names])


BITS: Final = {name.encode(): bit for name, bit in CATEGORY_NAMES.items()}
"""The categories that grants know. Others stand for the commands that are in them."""
