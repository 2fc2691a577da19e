"""Commands that have subcommands: CLIENT, COMMAND, CONFIG."""

from collections.abc import Sequence

from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.peer import Command, Handler, Peer
from kvs.domain.errors import UsageError
from kvs.ports.inbound import Session


def container(
    name: str,
    subcommands: Sequence[Command],
    group: str,
    summary: str,
    *,
    bare: Handler | None = None,
    cost: int,
    in_queue: int,
    runs_always: bool = False,
) -> Command:
    """Return the command that runs one of its subcommands, or ``bare`` if none is named."""
    by_name = {subcommand.name: subcommand for subcommand in subcommands}

    def run(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
        if len(arguments) == 1 and bare is not None:
            return bare(session, peer, arguments)
        word = arguments[1].lower()
        if word == b"help":
            return _help(name, subcommands)
        subcommand = by_name.get(word)
        if subcommand is None:
            shown = arguments[1][:128].decode(errors="backslashreplace")
            raise UsageError(f"unknown subcommand '{shown}'. Try {name.upper()} HELP.")
        if not subcommand.takes(len(arguments)):
            raise UsageError(f"wrong number of arguments for '{name}|{subcommand.name.decode()}' command")
        return subcommand.run(session, peer, arguments)

    arity = -2 if bare is None else -1
    return Command(
        name, run, arity, "", (0, 0, 0), group, summary, cost=cost, in_queue=in_queue, runs_always=runs_always
    )


def _help(name: str, subcommands: Sequence[Command]) -> bytes:
    lines = [f"{name.upper()} <subcommand> [<arg> ...]. Subcommands are:".encode()]
    for subcommand in subcommands:
        lines += (subcommand.name.upper(), b"    " + subcommand.summary)
    return replies.array([replies.simple(line) for line in lines])
