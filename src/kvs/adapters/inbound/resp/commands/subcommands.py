"""Commands that have subcommands: CLIENT, COMMAND, CONFIG."""

from collections.abc import Sequence

from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.context import SLOW_COST, Command, Handler, Peer
from kvs.domain.errors import UsageError
from kvs.ports.session import Session


def container(name: str, subcommands: Sequence[Command], bare: Handler | None = None) -> Command:
    """Return a command with subcommands, and HELP among them; ``bare`` is run where none is named."""

    def run_help(_: Session, __: Peer, ___: list[bytes]) -> bytes:
        return _help(name, subcommands)

    def refuse(_: Session, __: Peer, ___: list[bytes]) -> bytes:
        raise UsageError(f"wrong number of arguments for '{name}' command")

    everything = [*subcommands, Command(f"{name}|help", run_help)]
    by_name = {subcommand.name.partition(b"|")[2]: subcommand for subcommand in everything}
    return Command(name, refuse if bare is None else bare, cost=SLOW_COST, subcommands=by_name)


def _help(name: str, subcommands: Sequence[Command]) -> bytes:
    lines = [f"{name.upper()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for subcommand in subcommands:
        lines += [subcommand.name.decode().partition("|")[2].upper(), f"    {subcommand.about.summary}"]
    lines += ["HELP", "    Prints this help."]
    return replies.array([replies.simple(line.encode()) for line in lines])
