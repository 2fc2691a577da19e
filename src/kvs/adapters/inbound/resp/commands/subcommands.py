"""Commands that have subcommands: CLIENT, COMMAND, CONFIG, MEMORY, OBJECT."""

from collections.abc import Sequence

from kvs.adapters.inbound.protocol.command import ANSWERED, OTHER, SLOW_COST, everywhere
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import Handler, RespCommand
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.domain.errors import UsageError
from kvs.ports.session import Session


def container(name: str, subcommands: Sequence[RespCommand], default: Handler | None = None) -> RespCommand:
    """Return a command with subcommands, including HELP; ``default`` is run without a subcommand."""

    def run_help(_: Session, __: ClientContext, ___: list[bytes]) -> bytes:
        return _help(name, subcommands)

    def refuse(_: Session, __: ClientContext, ___: list[bytes]) -> bytes:
        raise UsageError(f"wrong number of arguments for '{name}' command")

    everything = [
        *subcommands,
        RespCommand(f"{name}|help", run_help, (OTHER,), 1, is_local=everywhere, on_standby=ANSWERED),
    ]
    by_name = {subcommand.name.partition(b"|")[2]: subcommand for subcommand in everything}
    run = refuse if default is None else default
    return RespCommand(
        name, run, (OTHER,), 1, cost=SLOW_COST, is_local=everywhere, on_standby=ANSWERED, subcommands=by_name
    )


def _help(name: str, subcommands: Sequence[RespCommand]) -> bytes:
    lines = [f"{name.upper()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for subcommand in subcommands:
        lines += [subcommand.name.decode().partition("|")[2].upper(), f"    {subcommand.about.summary}"]
    lines += ["HELP", "    Prints this help."]
    return replies.array([replies.simple(line.encode()) for line in lines])
