"""The command line. ``serve`` is the default command; what a command runs is imported when it runs."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from kvs import __version__
from kvs.build import BUILD
from kvs.config import (
    CONFIG_FILE_VARIABLE,
    OPTION_FLAG,
    SETTINGS,
    ConfigError,
    Configuration,
    option_name,
    option_variable,
    read_options,
)
from kvs.config import load as load_configuration
from kvs.environment import expand_home
from kvs.errors import CommandError
from kvs.setting import settings_of
from kvs.signals import Signals, Stopped, interruptible
from kvs.standard_streams import prepare_streams, report

if TYPE_CHECKING:
    from kvs.adapters.storage.sqlite.backup import Soundness
    from kvs.engine import EngineSpec

F = TypeVar("F", bound=Callable[..., Any])


def _at_home(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Put the home directory in place of ~ in an argument: a shell expands only some, and a supervisor none."""
    try:
        return expand_home(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


class _ServeByDefault(click.Group):
    """A group that takes options of its default command for its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See :class:`click.Group`."""
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "--version")):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


def _with_settings(helps: Mapping[str, str]) -> Callable[[F], F]:
    """Return what gives a command an option for each of these settings, with that help, and one for the file."""

    def decorate(command: F) -> F:
        for name, text in reversed(list(helps.items())):
            setting = SETTINGS[name]
            command = click.option(
                setting.flag,
                name,
                multiple=setting.repeatable,
                metavar="|".join(setting.choices) or ("BYTES" if name.endswith("_bytes") else "VALUE"),
                help=text,
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

    return decorate


def _help(name: str, description: str = "") -> str:
    setting = SETTINGS[name]
    default = setting.shown(setting.default) or "none"
    description = description or setting.description
    return f"{description[0].upper()}{description[1:]}. [default: {default}]"


_SERVICE: Final = "it is the address of a service, as Kubernetes puts it there"

_EVERY_SETTING: Final = {name: _help(name) for name in SETTINGS}


def _load(given: dict[str, Any]) -> Configuration:
    return load_configuration({name: value for name, value in given.items() if value is not None and value != ()})


@click.group(
    cls=_ServeByDefault,
    context_settings={"max_content_width": 120},
    epilog="Options of serve may be given without naming it: kvs --port 4100. All of them: kvs serve --help.",
)
@click.version_option(f"{__version__} ({BUILD})", prog_name="kvs", message="%(prog)s %(version)s")
def commands() -> None:
    """Serve nested, strictly serializable transactions over a key-value store to anyone with nc."""


@commands.command()
@_with_settings(_EVERY_SETTING)
def serve(**given: Any) -> None:  # one argument per setting
    """Start the server (the default command).

    Every option is also an environment variable, KVS_ and its name in capitals, and a key of the file. Flags win over
    the environment, the environment over the file.
    """
    signals = Signals()
    signals.install()
    try:
        with signals.interrupting():  # the file may be a pipe into which nobody writes
            configuration = _load(given)
    except Stopped:
        sys.exit(0)
    from kvs.bootstrap import Container  # noqa: PLC0415
    from kvs.bootstrap import serve as run  # noqa: PLC0415

    container = Container(settings=configuration.settings, options=configuration.options)
    container.signals.override(signals)
    for variable in configuration.unknown_variables:
        container.log().warning("unknown_environment_variable", variable=variable)
    for variable in configuration.skipped_variables:
        container.log().warning("environment_variable_skipped", variable=variable, reason=_SERVICE)
    sys.exit(run(container))


@commands.command()
@_with_settings(_EVERY_SETTING)
def config(**given: Any) -> None:  # one argument per setting
    """Print every setting with its value and where it came from."""
    configuration = _load(given)
    from kvs import engines as found  # noqa: PLC0415

    engine = configuration.settings.storage
    options = read_options(engine, found.find(engine).options, configuration.options)
    rows = [
        (name, setting.shown(getattr(configuration.settings, name)), configuration.origins[name])
        for name, setting in SETTINGS.items()
    ]
    for name, option in settings_of(type(options)).items():
        origin = configuration.options[name].origin if name in configuration.options else "default"
        rows.append((option_name(engine, name), option.shown(getattr(options, name)), origin))
    _echo_table([(name, value or '""', from_) for name, value, from_ in rows])
    for variable in configuration.unknown_variables:
        report(f"{variable} is in the environment and is no setting")
    for variable in configuration.skipped_variables:
        report(f"{variable} is in the environment and was skipped: {_SERVICE}")


@commands.command()
@click.argument("name", required=False)
def engines(name: str | None) -> None:
    """List the storage engines that are installed, or tell of one and its options."""
    from kvs import engines as found  # noqa: PLC0415

    if name is None:
        rows: list[tuple[str, ...]] = [("NAME", "DURABLE", "SHARED", "BLOCKING", "")]
        for each in found.names():
            try:
                engine = found.find(each)
            except ConfigError as error:
                rows.append((each, "?", "?", "?", str(error)))
            else:
                rows.append((each, *_traits(engine).values(), engine.summary))
        _echo_table(rows)
        return
    engine = found.find(name)
    click.echo(engine.summary)
    click.echo(", ".join(f"{trait}: {answer}" for trait, answer in _traits(engine).items()))
    for option in settings_of(engine.options).values():
        click.echo(f"\n{option.name}: {option.description}")
        click.echo(f"  {option.allowed} [default: {option.shown(option.default) or 'none'}]")
        click.echo(f"  {OPTION_FLAG} {option.name}=..., {option_variable(name, option.name)}, [storage.{name}]")


def _traits(engine: "EngineSpec") -> dict[str, str]:
    traits = {"durable": engine.durable, "shared": engine.shared, "blocking": engine.blocking}
    return {name: "yes" if trait else "no" for name, trait in traits.items()}


_WHERE: Final = {
    "host": _help("host", "address or name of the server"),
    "port": _help("port", "port of the server"),
    "data_dir": "Data directory of a stopped server, instead of a running one.",
    "storage": "Storage engine of the data directory. [default: sqlite]",
    "max_key_bytes": _help("max_key_bytes", "longest key, as the server has it"),
    "max_value_bytes": _help("max_value_bytes", "longest value, as the server has it"),
}


@commands.command()
@_with_settings(_WHERE)
@click.argument("file", default="-", callback=_at_home)
def dump(file: str, **given: Any) -> None:  # one argument per setting
    """Write all the data, as of one moment, to FILE or standard output.

    One line of JSON for each key. Of a running server, or with --data-dir of a stopped one.
    """
    from kvs.dump.endpoints import open_source  # noqa: PLC0415
    from kvs.dump.files import writing  # noqa: PLC0415
    from kvs.dump.writer import dump as run  # noqa: PLC0415

    with open_source(_load(given)) as source, writing(file) as output:
        run(source, output)


@commands.command()
@_with_settings(_WHERE)
@click.argument("file", default="-", callback=_at_home)
def load(file: str, **given: Any) -> None:  # one argument per setting
    """Store all the entries of a dump, from FILE or standard input.

    Into a running server, or with --data-dir into that of a stopped one. Other keys are left alone. A file is checked
    whole before anything is stored.
    """
    from kvs.dump.endpoints import open_sink  # noqa: PLC0415
    from kvs.dump.files import reading  # noqa: PLC0415
    from kvs.dump.loader import load as run  # noqa: PLC0415
    from kvs.dump.loader import longest_line_bytes  # noqa: PLC0415

    configuration = _load(given)
    settings = configuration.settings
    with reading(file) as stream, open_sink(configuration) as sink:
        run(stream, sink, longest_line_bytes(settings.max_key_bytes, settings.max_value_bytes))


@commands.command()
@click.argument("directory", callback=_at_home)
def verify(directory: str) -> None:
    """Check a data directory of the sqlite engine: every row, and how the file hangs together.

    A server may be using it. Exit code 1 tells that it is damaged.
    """
    from kvs.adapters.storage.sqlite.backup import verify as check  # noqa: PLC0415

    _echo_soundness(directory, check(Path(directory)))


@commands.command()
@click.argument("directory", callback=_at_home)
@click.argument("destination", callback=_at_home)
@click.option("--incomplete", is_flag=True, help="Accept that commits are missing that had been acknowledged.")
def backup(directory: str, destination: str, *, incomplete: bool) -> None:
    """Copy a data directory of the sqlite engine into a new one, as it is at one moment, and verify the copy.

    The server that is using it goes on meanwhile.
    """
    from kvs.adapters.storage.sqlite.backup import back_up  # noqa: PLC0415
    from kvs.dump.progress import Progress  # noqa: PLC0415

    with Progress("Copying", 1, unit="pages") as progress:
        sound = back_up(Path(directory), Path(destination), progress.reach, incomplete=incomplete)
    _echo_soundness(destination, sound)


def _echo_soundness(directory: str, sound: "Soundness") -> None:
    click.echo(
        f"{Path(directory)}: sound; {sound.keys} keys, {sound.bytes} bytes of keys and values, "
        f"{sound.journal_rows} rows of the journal to be folded"
    )


def _echo_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def main() -> None:
    """Run the command line; what is wrong is reported in one line."""
    prepare_streams()
    try:
        with interruptible():
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
    except BrokenPipeError:  # nobody reads any more
        code = 1
    sys.exit(code)
