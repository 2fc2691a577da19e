"""``kvs ping``: whether a server answers, for people and for health checks."""

import sys
from dataclasses import replace
from typing import Any, Final

import click

from kvs.cli.access import PLACE, access_of, with_access
from kvs.cli.options import load, with_settings
from kvs.standard_streams import report

REFUSED: Final = 3
"""Exit code if the server answers with an error."""

MAX_REPLY_BYTES: Final = 1 << 16


@click.command()
@with_settings(PLACE)
@with_access
@click.option(
    "--timeout-s",
    type=click.FloatRange(min=0.001, max=3600),
    default=5.0,
    show_default=True,
    help="How long to wait for a connection, and for each reply.",
)
def ping(timeout_s: float, **given: Any) -> None:  # one argument per setting
    """Ask a server whether it is there.

    Exit codes: 0 it answers, if only that it wants a secret and none was given; 1 it does not, or not in time; 2 an
    option or a setting is wrong; 3 it answers with an error: it refuses the user or the secret, or has too many
    clients.
    """
    from kvs.dump.resp_client import RespClient, ServerError

    configuration = load(given)
    access = replace(access_of(configuration, given), connect_timeout_s=timeout_s, reply_timeout_s=timeout_s)
    settings = configuration.settings
    try:
        with RespClient(settings.host[0], settings.port, MAX_REPLY_BYTES, access) as client:
            reply = client.ask(b"PING")
            if reply != "PONG":
                raise client.unexpected(reply)
    except ServerError as error:
        if error.code == "noauth":
            click.echo("PONG, for those who authenticate")
            return
        report(str(error))
        sys.exit(REFUSED)
    click.echo("PONG")
