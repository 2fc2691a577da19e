"""Options and arguments that commands share. Those of settings are made from the table of settings."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from kvs.config import CONFIG_FILE_VARIABLE, OPTION_FLAG, SETTINGS, Configuration
from kvs.config import load as load_configuration
from kvs.environment import expand_home

F = TypeVar("F", bound=Callable[..., Any])

STANDARD_STREAM: Final = "-"
"""As the name of a file."""


def with_settings(helps: Mapping[str, str]) -> Callable[[F], F]:
    """Return a decorator that gives a command ``--config``, ``--storage-option``, and an option for each setting.

    Args:
        helps: The help text of each setting, by its name.
    """

    def decorate(command: F) -> F:
        for name, text in reversed(list(helps.items())):
            setting = SETTINGS[name]
            command = click.option(setting.flag, name, multiple=setting.repeatable, metavar=setting.metavar, help=text)(
                command
            )
        command = click.option(
            OPTION_FLAG,
            "storage_option",
            multiple=True,
            metavar="NAME=VALUE",
            help="An option of the storage engine; repeatable. kvs engines NAME lists them.",
        )(command)
        return click.option("--config", metavar="FILE", help=f"TOML file with settings. [env: {CONFIG_FILE_VARIABLE}]")(
            command
        )

    return decorate


def help_of(name: str, description: str = "") -> str:
    """Return the help text of a setting: a description, its own by default; its environment variable; its default."""
    setting = SETTINGS[name]
    description = description or setting.description
    default = setting.format(setting.default) or "none"
    return f"{description[0].upper()}{description[1:]}. [env: {setting.variable}; default: {default}]"


EVERY_SETTING: Final = {name: help_of(name) for name in SETTINGS}


def load(given: dict[str, Any]) -> Configuration:
    """Return the configuration, including the options of the command line."""
    return load_configuration({name: value for name, value in given.items() if value is not None and value != ()})


def path_argument(name: str, **attributes: Any) -> Callable[[F], F]:
    """Return a decorator that gives a command an argument for a path, in which ``~`` is the home directory.

    Shells expand ``~`` only in some places, and supervisors not at all.
    """

    def at_home(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
        try:
            return None if value is None else expand_home(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from None

    return click.argument(name, callback=at_home, **attributes)
