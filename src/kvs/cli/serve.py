"""``kvs serve``."""

import sys
from typing import Any

import click

from kvs.cli.options import EVERY_SETTING, load, with_settings
from kvs.config import SERVICE_VARIABLE
from kvs.importing import only_what_is_wanted
from kvs.signals import Signals, Stopped


@click.command()
@with_settings(EVERY_SETTING)
def serve(**given: Any) -> None:  # one argument per setting
    """Start the server (the default command).

    Every option is also a key of the file, and an environment variable. Flags override the environment, the environment
    overrides the file. Sizes and times take units: 16MB, 30s.
    """
    signals = Signals()
    signals.install()
    try:
        with signals.interrupting():  # the file may be a pipe without a writer
            configuration = load(given)
    except Stopped:
        sys.exit(0)
    with only_what_is_wanted():
        from kvs.bootstrap import Container
        from kvs.bootstrap import serve as run

    container = Container(settings=configuration.settings, options=configuration.options)
    container.signals.override(signals)
    for variable in configuration.unknown_variables:
        container.log().warning("unknown_environment_variable", variable=variable)
    for variable in configuration.skipped_variables:
        container.log().warning("environment_variable_skipped", variable=variable, reason=SERVICE_VARIABLE)
    sys.exit(run(container))
