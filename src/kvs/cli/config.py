"""``kvs config``: the effective settings, as a table or as a file of settings."""

import re
from collections.abc import Iterable
from string import digits
from typing import Any, Final

import click
import msgspec

from kvs.cli.options import EVERY_SETTING, load, with_settings
from kvs.cli.table import echo_table
from kvs.config import SERVICE_VARIABLE, SETTINGS, Configuration, option_name, option_variable, read_options
from kvs.errors import CommandError
from kvs.setting import Setting, settings_of
from kvs.standard_streams import report
from kvs.toml import toml_string

_BARE_KEY: Final = re.compile("[A-Za-z0-9_-]+")


@click.command()
@with_settings(EVERY_SETTING)
@click.option("--toml", is_flag=True, help="Print a file of settings, for --config.")
def config(*, toml: bool, **given: Any) -> None:  # one argument per setting
    """Print the effective settings and the source of each."""
    from kvs import engines

    configuration = load(given)
    name = configuration.settings.storage
    options = read_options(name, engines.get(name).options, configuration.options)
    if toml:
        click.echo("\n".join(_toml(configuration, options)))
    else:
        echo_table(_rows(configuration, options))
    for variable in configuration.unknown_variables:
        report(f"warning: unknown setting {variable} in the environment")
    for variable in configuration.skipped_variables:
        report(f"warning: {variable} in the environment was skipped: {SERVICE_VARIABLE}")


def _rows(configuration: Configuration, options: msgspec.Struct) -> list[tuple[str, ...]]:
    engine = configuration.settings.storage
    rows: list[tuple[str, ...]] = [("NAME", "VALUE", "SOURCE", "VARIABLE")]
    for name, setting in SETTINGS.items():
        value = setting.format(getattr(configuration.settings, name)) or '""'
        rows.append((name, value, configuration.origins[name], setting.variable))
    for name, option in settings_of(type(options)).items():
        origin = configuration.options[name].origin if name in configuration.options else "default"
        value = option.format(getattr(options, name)) or '""'
        rows.append((option_name(engine, name), value, origin, option_variable(engine, name)))
    return rows


def _toml(configuration: Configuration, options: msgspec.Struct) -> Iterable[str]:
    """Yield the lines of a file with every setting; the engine's table comes last, since it extends to the end."""
    engine = configuration.settings.storage
    for name, setting in SETTINGS.items():
        if name != "storage":
            yield from _entry(name, setting, getattr(configuration.settings, name))
    yield "[storage]"
    yield from _entry("engine", SETTINGS["storage"], engine)
    options_of_engine = settings_of(type(options))
    if options_of_engine:
        yield f"[storage.{engine if _BARE_KEY.fullmatch(engine) else _string('engine', engine)}]"
    for name, option in options_of_engine.items():
        yield from _entry(name, option, getattr(options, name))


def _entry(name: str, setting: Setting, value: Any) -> Iterable[str]:
    yield f"# {setting.description}"
    if setting.repeatable:
        text = f"[{', '.join(_string(name, str(item)) for item in value)}]"
    else:
        text = setting.format(value)
        bare = setting.kind is bool or (setting.kind in (int, float) and text[-1] in digits)
        if not bare:  # it has a unit, or is text
            text = _string(name, text)
    yield f"{name} = {text}"
    yield ""


def _string(name: str, text: str) -> str:
    """Return a string in TOML."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CommandError(f"{name}: {text!r} cannot be written in TOML, which is UTF-8") from None
    return toml_string(text)
