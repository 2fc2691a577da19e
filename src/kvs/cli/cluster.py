"""``kvs cluster``: what operators ask of several servers over etcd."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from kvs.addresses import format_address
from kvs.cli.options import help_of, with_settings
from kvs.cli.options import load as load_configuration
from kvs.cli.table import echo_table
from kvs.signals import interruptible

if TYPE_CHECKING:
    from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
    from kvs.adapters.storage.etcd.layout import Keys
    from kvs.adapters.storage.etcd.operation import ClusterState, Server

_SETTINGS: Final = {"storage": help_of("storage", "storage engine of the servers, which must be etcd")}


@click.group()
def cluster() -> None:
    """Look at servers over etcd, or finish an upgrade of them.

    --config names the file of any of the servers.
    """


@cluster.command()
@with_settings(_SETTINGS)
def status(**given: Any) -> None:  # one argument per setting
    """Print who leads, who stands by, and what is in etcd."""
    from kvs.adapters.storage.etcd.operation import look, members

    with interruptible(), _connected(given) as (client, keys):
        state, answers = look(client, keys), members(client)
    _echo_state(state, keys)
    click.echo()
    echo_table([("SERVER", "ROLE", "VERSION", "READS", "WRITES", "CLOCK"), *(_row(state, s) for s in state.servers)])
    click.echo()
    rows: list[tuple[str, ...]] = [("MEMBER OF ETCD", "VERSION", "FILE", "IN USE", "ERRORS")]
    for endpoint, said in answers.items():
        if isinstance(said, Exception):
            rows.append((str(endpoint), "", "", "", f"{type(said).__name__}: {said}"))
        else:
            sizes = (f"{said.db_size_bytes:,} B", f"{said.db_used_bytes:,} B")
            rows.append((str(endpoint), said.version, *sizes, "; ".join(said.errors) or "none"))
    echo_table(rows)


@cluster.command()
@with_settings(_SETTINGS)
def finish_upgrade(**given: Any) -> None:  # one argument per setting
    """Put the newest format of data in use, once all servers can read it.

    From then on an older version of kvs is refused.
    """
    from kvs.adapters.storage.etcd.operation import finish_upgrade as finish

    with interruptible(), _connected(given) as (client, keys):
        former, now = finish(client, keys)
    click.echo(f"format {now} is in use" + (", as it was" if now == former else f"; it was format {former}"))


@contextmanager
def _connected(given: dict[str, Any]) -> Iterator[tuple["EtcdClient", "Keys"]]:
    from kvs.adapters.storage.etcd.client.errors import EtcdError
    from kvs.adapters.storage.etcd.engine import connect, keys_of
    from kvs.adapters.storage.etcd.layout import LayoutError
    from kvs.adapters.storage.etcd.operation import OperationError
    from kvs.adapters.storage.etcd.options import EtcdOptions
    from kvs.config import ConfigError, read_options

    configuration = load_configuration(given)
    engine = configuration.settings.storage
    if engine != "etcd":
        raise ConfigError(f"storage: only servers over 'etcd' are a cluster, not over {engine!r}")
    options = read_options(engine, EtcdOptions, configuration.options)
    keys = keys_of(options)
    with closing(connect(options)) as client:
        try:
            yield client, keys
        except LayoutError as error:
            raise OperationError(f"etcd: {error}") from None
        except EtcdError as error:
            raise OperationError(f"etcd: {options.endpoints}: {type(error).__name__}: {error}") from None


def _echo_state(state: "ClusterState", keys: "Keys") -> None:
    leader, beat, checkpoint = state.leader, state.heartbeat, state.checkpoint
    click.echo(f"namespace:  {keys.prefix.decode()}")
    if leader is None:
        click.echo("leader:     none")
    elif not leader.port:
        click.echo(f"leader:     none; the namespace is being filled, term {state.term}")
    else:
        click.echo(f"leader:     {format_address((leader.host, leader.port))}, term {state.term}")
    if beat is not None:
        time = datetime.fromtimestamp(beat.time_ms / 1000, UTC).isoformat(timespec="seconds")
        click.echo(f"time:       {time}, as of the last heartbeat")
    newest = state.newest_format
    more = f"; {newest} is known to a server: kvs cluster finish-upgrade" if newest > state.cluster.format else ""
    click.echo(f"format:     {state.cluster.format}{more}")
    begin = 0 if checkpoint is None else checkpoint.number
    click.echo(f"journal:    {state.head.number:,} entries, {state.head.number - begin:,} of them in no checkpoint")
    if checkpoint is None:
        click.echo("checkpoint: none")
    else:
        click.echo(
            f"checkpoint: of entry {checkpoint.number:,}: {checkpoint.keys:,} keys, {checkpoint.size:,} B in "
            f"{checkpoint.chunks:,} chunks"
        )


def _row(state: "ClusterState", server: "Server") -> tuple[str, ...]:
    record = server.record
    leads = state.leader is not None and state.leader.id == server.id
    role = "leader" if leads else "standby"
    if record is None:
        return (server.id, role, "?", "?", "?", "?")
    clock = f"{record.clock_ahead_ms / 1000:+.1f} s" if record.clock_ahead_ms else "agrees"
    formats = (",".join(map(str, record.reads)), ",".join(map(str, record.writes)))
    return (format_address((record.host, record.port)), role, record.version, *formats, clock)
