"""The command line. ``serve`` is the default command; what a command runs is imported when it runs."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from kvs import __version__
from kvs.build import BUILD
from kvs.config import CONFIG_FILE_VARIABLE, SETTINGS, ConfigError, Configuration, load

F = TypeVar("F", bound=Callable[..., Any])


class _ServeByDefault(click.Group):
    """A group that takes options of its default command for its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See :class:`click.Group`."""
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "--version")):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


def _with_settings(command: F) -> F:
    """Give a command an option for every setting, and one for the file."""
    for setting in reversed(SETTINGS.values()):
        default = ", ".join(setting.default) if setting.repeatable else setting.default
        command = click.option(
            setting.flag,
            setting.name,
            multiple=setting.repeatable,
            metavar="|".join(setting.choices) or ("BYTES" if setting.name.endswith("_bytes") else "VALUE"),
            help=f"{setting.description[0].upper()}{setting.description[1:]}. [default: {default}]",
        )(command)
    return click.option("--config", metavar="FILE", help=f"TOML file with settings; also {CONFIG_FILE_VARIABLE}.")(
        command
    )


def _load(given: dict[str, Any]) -> Configuration:
    return load({name: value for name, value in given.items() if value is not None and value != ()})


@click.group(
    cls=_ServeByDefault,
    context_settings={"max_content_width": 120},
    epilog="Options of serve may be given without naming it: kvs --port 4100. All of them: kvs serve --help.",
)
@click.version_option(f"{__version__} ({BUILD})", prog_name="kvs", message="%(prog)s %(version)s")
def commands() -> None:
    """Serve nested, strictly serializable transactions over a key-value store to anyone with nc."""


@commands.command()
@_with_settings
def serve(**given: Any) -> None:  # one argument per setting
    """Start the server (the default command).

    Every option is also an environment variable, KVS_ and its name in capitals, and a key of the file. Flags win over
    the environment, the environment over the file.
    """
    try:
        configuration = _load(given)
        from kvs.adapters.inbound.listener import ListenError  # noqa: PLC0415
        from kvs.bootstrap import Container  # noqa: PLC0415
        from kvs.bootstrap import serve as run  # noqa: PLC0415

        container = Container(settings=configuration.settings)
        for variable in configuration.unknown_variables:
            container.log().warning("unknown_environment_variable", variable=variable)
        try:
            code = run(container)
        except ListenError as error:
            click.echo(f"kvs: {error}", err=True)
            code = 1
    except ConfigError as error:
        click.echo(f"kvs: {error}", err=True)
        code = 2
    sys.exit(code)


@commands.command()
@_with_settings
def config(**given: Any) -> None:  # one argument per setting
    """Print every setting with its value and where it came from."""
    try:
        configuration = _load(given)
    except ConfigError as error:
        click.echo(f"kvs: {error}", err=True)
        sys.exit(2)
    rows = []
    for name in SETTINGS:
        value = getattr(configuration.settings, name)
        rows.append((name, ",".join(value) if isinstance(value, tuple) else str(value), configuration.origins[name]))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, origin in rows:
        click.echo(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin}")
    for variable in configuration.unknown_variables:
        click.echo(f"kvs: {variable} is in the environment and is no setting", err=True)


def main() -> None:
    """Run the command line; whatever is wrong with it is told in one line."""
    try:
        code = commands.main(prog_name="kvs", standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"kvs: {error.format_message()}", err=True)
        code = 2
    except click.Abort:
        code = 1
    sys.exit(code)
