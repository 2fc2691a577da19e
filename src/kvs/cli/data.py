"""``kvs dump``, ``load``, ``backup`` and ``verify``: the data as a whole."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from kvs.cli.access import PLACE, with_access
from kvs.cli.options import STANDARD_STREAM, help_of, path_argument, with_settings
from kvs.cli.options import load as load_configuration
from kvs.signals import interruptible
from kvs.standard_streams import report

if TYPE_CHECKING:
    from kvs.adapters.storage.sqlite.backup import VerifyReport

_ENDPOINT: Final = {
    **PLACE,
    "data_dir": "Data directory of a stopped server, instead of a running one.",
    "storage": "Storage engine of the data directory. [default: sqlite]",
    "max_key_bytes": help_of("max_key_bytes", "longest key, as the server has it"),
    "max_value_bytes": help_of("max_value_bytes", "longest value, as the server has it"),
}


@click.command()
@with_settings(_ENDPOINT)
@with_access
@path_argument("file", default=STANDARD_STREAM)
def dump(file: str, **given: Any) -> None:  # one argument per setting
    """Write all the data, as of one moment, to FILE or standard output.

    One line of JSON for each key. The data are those of a running server, or with --data-dir of a stopped one.
    """
    from kvs.cli.endpoints import open_source
    from kvs.cli.files import writing
    from kvs.cli.progress import Bars
    from kvs.dump.loader import counted
    from kvs.dump.writer import dump as write

    opening = open_source(load_configuration(given), given)
    with interruptible(), writing(file) as output, opening as source, Bars(shown=not output.isatty()) as bars:
        count = write(source, output, bars.reach)
    if file != STANDARD_STREAM or sys.stderr.isatty():  # in a pipeline, report only failures
        report(f"dumped {counted(count)}")


@click.command()
@with_settings(_ENDPOINT)
@with_access
@click.option("--extend", is_flag=True, help="Give every key the time left that it had when the dump was made.")
@click.option(
    "--into-empty-namespace",
    is_flag=True,
    help="Store the entries, all or none, in a namespace of etcd that is empty and that no server leads.",
)
@path_argument("file", default=STANDARD_STREAM)
def load(file: str, *, extend: bool, into_empty_namespace: bool, **given: Any) -> None:  # one argument per setting
    """Store all the entries of a dump, from FILE or standard input.

    They go into a running server, or with --data-dir into the directory of a stopped one. Other keys are left alone. A
    file is checked whole before anything is stored. Entries that have expired are skipped.
    """
    from kvs.cli.endpoints import open_empty_sink, open_sink
    from kvs.cli.files import reading
    from kvs.cli.progress import Bars
    from kvs.dump.loader import counted, longest_line_bytes
    from kvs.dump.loader import load as read

    configuration = load_configuration(given)
    settings = configuration.settings
    max_line_bytes = longest_line_bytes(settings.max_key_bytes, settings.max_value_bytes)
    opening = (open_empty_sink if into_empty_namespace else open_sink)(configuration, given)
    with interruptible(), reading(file) as stream, opening as sink:
        typed = stream.isatty()
        if typed:
            report("reading entries from standard input; Ctrl-D ends them")
        with Bars(shown=not typed) as bars:
            loaded = read(stream, sink, max_line_bytes, bars.reach, extend=extend)
    skipped = f"; skipped {loaded.expired:,} that had expired" if loaded.expired else ""
    report(f"loaded {counted(loaded.stored)}{skipped}")


@click.command()
@path_argument("directory")
def verify(directory: str) -> None:
    """Check a data directory of the sqlite engine: every row and the structure of the file.

    A server may be using it. Exit code 1 means that it is damaged.
    """
    from kvs.adapters.storage.sqlite.backup import verify as check
    from kvs.cli.progress import Bars

    with interruptible(), Bars() as bars:
        found = check(Path(directory), bars.reach)
    _echo_report(directory, found)


@click.command()
@path_argument("directory")
@path_argument("destination")
@click.option("--incomplete", is_flag=True, help="Accept that acknowledged commits are missing.")
def backup(directory: str, destination: str, *, incomplete: bool) -> None:
    """Copy a data directory of the sqlite engine, as of one moment, into a new one, and verify the copy.

    A server may go on using it.
    """
    from kvs.adapters.storage.sqlite.backup import back_up
    from kvs.cli.progress import Bars

    with interruptible(), Bars() as bars:
        found = back_up(Path(directory), Path(destination), bars.reach, incomplete=incomplete)
    _echo_report(destination, found)


def _echo_report(directory: str, found: "VerifyReport") -> None:
    from kvs.adapters.storage.sqlite.schema import FORMAT

    former = "" if found.format == FORMAT else f"; format {found.format}, which a start upgrades to {FORMAT}"
    click.echo(
        f"{Path(directory)}: OK; {found.keys:,} keys, {found.bytes:,} bytes of keys and values, "
        f"{found.journal_rows:,} journal rows not yet compacted{former}"
    )
