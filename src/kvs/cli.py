"""The command line. ``serve`` is the default command; what a command runs is imported when it runs."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from kvs import __version__
from kvs.build import BUILD
from kvs.config import (
    CONFIG_FILE_VARIABLE,
    OPTION_FLAG,
    SETTINGS,
    ConfigError,
    Configuration,
    load,
    option_name,
    option_variable,
    read_options,
    settings_of,
)

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
    command = click.option(
        OPTION_FLAG,
        "storage_option",
        multiple=True,
        metavar="NAME=VALUE",
        help="An option of the storage engine; repeatable. kvs engines NAME lists them.",
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
    configuration = _load(given)
    from kvs.adapters.inbound.listener import ListenError  # noqa: PLC0415
    from kvs.bootstrap import Container  # noqa: PLC0415
    from kvs.bootstrap import serve as run  # noqa: PLC0415
    from kvs.engine import StorageOpenError  # noqa: PLC0415

    container = Container(settings=configuration.settings, options=configuration.options)
    for variable in configuration.unknown_variables:
        container.log().warning("unknown_environment_variable", variable=variable)
    try:
        sys.exit(run(container))
    except (ListenError, StorageOpenError) as error:
        raise click.ClickException(str(error)) from None


@commands.command()
@_with_settings
def config(**given: Any) -> None:  # one argument per setting
    """Print every setting with its value and where it came from."""
    configuration = _load(given)
    from kvs.adapters.storage import engines as found  # noqa: PLC0415

    engine = configuration.settings.storage
    options = read_options(engine, found.find(engine).options, configuration.options)
    rows = [(name, getattr(configuration.settings, name), configuration.origins[name]) for name in SETTINGS]
    for name in settings_of(type(options)):
        origin = configuration.options[name].origin if name in configuration.options else "default"
        rows.append((option_name(engine, name), getattr(options, name), origin))
    _echo_table(
        [
            (name, ",".join(value) if isinstance(value, tuple) else str(value) or '""', from_)
            for name, value, from_ in rows
        ]
    )
    for variable in configuration.unknown_variables:
        click.echo(f"kvs: {variable} is in the environment and is no setting", err=True)


@commands.command()
@click.argument("name", required=False)
def engines(name: str | None) -> None:
    """List the storage engines that are installed, or tell of one and its options."""
    from kvs.adapters.storage import engines as found  # noqa: PLC0415

    if name is None:
        rows: list[tuple[str, ...]] = [("NAME", "DURABLE", "SHARED", "BLOCKING", "")]
        for each in found.names():
            try:
                engine = found.find(each)
            except ConfigError as error:
                rows.append((each, "?", "?", "?", str(error)))
            else:
                traits = ["yes" if trait else "no" for trait in (engine.durable, engine.shared, engine.blocking)]
                rows.append((each, *traits, engine.summary))
        _echo_table(rows)
        return
    engine = found.find(name)
    click.echo(engine.summary)
    for option in settings_of(engine.options).values():
        click.echo(f"\n{option.name}: {option.description}")
        click.echo(f"  {option.allowed} [default: {option.default}]")
        click.echo(f"  {OPTION_FLAG} {option.name}=..., {option_variable(name, option.name)}, [storage.{name}]")


def _echo_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def main() -> None:
    """Run the command line; whatever is wrong with it is told in one line."""
    try:
        code = commands.main(prog_name="kvs", standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"kvs: {error.format_message()}", err=True)
        code = error.exit_code
    except ConfigError as error:
        click.echo(f"kvs: {error}", err=True)
        code = 2
    except click.Abort:
        code = 1
    sys.exit(code)
