"""The command ``kvs``: its subcommands by name, ``serve`` by default, and how errors end it."""

import sys
from importlib import import_module
from typing import Final

import click

from kvs import __version__
from kvs.build import BUILD
from kvs.errors import CommandError
from kvs.override import override
from kvs.standard_streams import prepare_streams, report

COMMANDS: Final = {
    "serve": "kvs.cli.serve",
    "ping": "kvs.cli.ping",
    "config": "kvs.cli.config",
    "engines": "kvs.cli.engines",
    "dump": "kvs.cli.data",
    "load": "kvs.cli.data",
    "backup": "kvs.cli.data",
    "verify": "kvs.cli.data",
    "cluster": "kvs.cli.cluster",
    "users": "kvs.cli.users",
}
"""The module of each command, in the order of the help. It is imported when the command is used."""

DEFAULT_COMMAND: Final = "serve"


class _Commands(click.Group):
    """A group that imports a command when it is used; options without a command are those of the default command."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "--version")):
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)

    @override
    def list_commands(self, _: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[cmd_name]), cmd_name)
        return command


@click.group(
    cls=_Commands,
    context_settings={"max_content_width": 120},
    epilog="Options of serve may be given without naming it: kvs --port 4100. All of them: kvs serve --help.",
)
@click.version_option(f"{__version__} ({BUILD})", prog_name="kvs", message="%(prog)s %(version)s")
def commands() -> None:
    """kvs: a transactional key-value server."""


def main() -> None:
    """Run the command line, and report an error in one line.

    Ctrl-C ends the process silently, as it does by default, except where a command has to clean up or to report: see
    :func:`kvs.signals.interruptible`.
    """
    prepare_streams()
    try:
        code = commands.main(prog_name="kvs", standalone_mode=False)
    except click.ClickException as error:
        report(error.format_message())
        code = error.exit_code
    except CommandError as error:
        report(str(error))
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        report("interrupted")
        code = 1
    except BrokenPipeError:  # the reader of the output has gone
        code = 1
    sys.exit(code)
