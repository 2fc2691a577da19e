"""Fills an empty namespace with data that come from elsewhere: all of them at once, or none.

It takes the lead, so no server serves meanwhile, nor does another one fill it. The data become a checkpoint, as of no
entry at all. Its chunks do not count without the pointer, which is written last: if anything fails before, the
namespace is as empty as it was, and the first checkpoint of the next leader deletes what was left behind.
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Final, Never, final

from kvs import __version__
from kvs.adapters.storage.etcd.backlog import Backlog
from kvs.adapters.storage.etcd.checkpoints import Checkpoints
from kvs.adapters.storage.etcd.client.errors import AccessDeniedError, EtcdError, NoSpaceError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import get
from kvs.adapters.storage.etcd.clock import ServerTime, Skew
from kvs.adapters.storage.etcd.cluster import join
from kvs.adapters.storage.etcd.complaints import Complaints
from kvs.adapters.storage.etcd.election import Election
from kvs.adapters.storage.etcd.engine import connect, keys_of
from kvs.adapters.storage.etcd.layout import EMPTY, Keys, LayoutError, LeaderRecord
from kvs.adapters.storage.etcd.lead import Keeper, Lead
from kvs.adapters.storage.etcd.options import EtcdOptions
from kvs.adapters.storage.etcd.space import COPIES, FULL_SHARE
from kvs.adapters.storage.etcd.steps import Steps, StoppedError
from kvs.addresses import format_address
from kvs.domain.codec import fields_of
from kvs.domain.values import Key, Value
from kvs.engine import StorageOpenError
from kvs.log_type import FilteringBoundLogger
from kvs.ports.candidate import Leader, LeadLostError
from kvs.ports.topology import ServerInfo, Topology
from kvs.quantities import format_size

if TYPE_CHECKING:
    from kvs.adapters.storage.journal_writer import Row

HOST: Final = "load"
ROWS_PER_STEP: Final = 1000


@final
class EmptyNamespace:
    """A namespace that is empty until it is filled.

    Args:
        client: Calls etcd.
        keys: The names of keys.
        lead: The fence.
        now_ms: The server's time.
        quota_bytes: The quota of etcd's members.
        log: For failures that are tried again.

    Raises:
        StorageOpenError: It is not empty.
        EtcdError: etcd does not answer.
    """

    def __init__(
        self, client: EtcdClient, keys: Keys, lead: Lead, now_ms: int, quota_bytes: int, log: FilteringBoundLogger
    ) -> None:
        looks = [get(keys.head), get(keys.checkpoint), get(keys.entries, keys.end(keys.entries), limit=1)]
        if any(found is None or found.kvs for found in client.txn([], looks).ranges):
            raise StorageOpenError(f"etcd: {keys.prefix.decode()}: is not empty; nothing was changed")
        self._lead = lead
        self._quota_bytes = quota_bytes
        self._rows: list[Row] = []
        self._bytes = 0
        self._backlog = Backlog(EMPTY, now_ms, 0)
        steps = Steps(client, keys, lead, self._backlog, log, (AccessDeniedError, NoSpaceError))
        self._checkpoints = Checkpoints(steps, self._backlog, None, [], 0, log)

    def put(self, key: Key, value: Value) -> None:
        """Keep an entry in memory, until :meth:`finish`.

        Raises:
            StorageOpenError: There is no room for so much in etcd.
        """
        self._rows.append((key, value))
        self._bytes += len(key) + len(fields_of(value)[2])
        if COPIES * self._bytes >= FULL_SHARE * self._quota_bytes:
            raise StorageOpenError(
                f"etcd: the data have more than {format_size(self._bytes)}, and there must be room for {COPIES} times "
                f"that in {FULL_SHARE:.0%} of quota_bytes, which is {format_size(self._quota_bytes)}"
            )
        if len(self._rows) == ROWS_PER_STEP:
            self._add()

    def finish(self) -> None:
        """Store everything.

        Raises:
            EtcdError: etcd refuses it; nothing is stored, or all.
            LeadLostError: Likewise, since another server may lead.
        """
        self._add()
        try:
            self._checkpoints.write()
        except StoppedError:
            self._lead.check()
            raise

    def _add(self) -> None:
        rows, self._rows = self._rows, []
        self._backlog.gathering.changes.update(rows)


@contextmanager
def empty_namespace(options: EtcdOptions, log: FilteringBoundLogger) -> Iterator[EmptyNamespace]:
    """Take the lead of a namespace that is empty, and give it up at the end.

    Raises:
        ConfigError: Options are wrong.
        StorageOpenError: It is not empty, a server leads, or etcd cannot be reached.
    """
    keys = keys_of(options)
    with ExitStack() as stack:
        client = stack.enter_context(closing(connect(options)))
        with _named(options, keys):
            agreement = join(client, keys, options.lease_s, options.sentinel_name, time.sleep)
            ours = ServerInfo(secrets.token_hex(20), HOST, 0, __version__)
            topology = Topology(options.sentinel_name, ours, options.lease_s * 1000)
            skew = Skew(topology, round(options.max_clock_skew_s * 1000), log, time.time)
            leaders: list[Leader | None] = []

            def give_up(_: float) -> Never:
                leader = leaders[-1] if leaders else None
                who = "another load" if leader is None else f"the server {format_address((leader.host, leader.port))}"
                raise StorageOpenError(
                    f"etcd: {keys.prefix.decode()}: {who} leads there, or did just now, or etcd does not answer; "
                    "nothing was changed"
                )

            record = LeaderRecord(ours.id, ours.host, ours.port)
            said = Complaints(client.endpoints)
            election = Election(
                client,
                keys,
                record,
                options.lease_s,
                skew,
                topology,
                give_up,
                leaders.append,
                said,
                log,
                agreed=lambda: agreement.revision,
            )
            lead = election.win()
            lead.formats.in_use = agreement.record.format
            server_time = ServerTime(election.time_ms(), skew, time.monotonic)
            keeper = Keeper(client, keys, lead, server_time, topology)
            stack.callback(keeper.release)
            namespace = EmptyNamespace(client, keys, lead, server_time.now_ms, options.quota_bytes, log)
        yield namespace


@contextmanager
def _named(options: EtcdOptions, keys: Keys) -> Iterator[None]:
    """Report an error of etcd in one line."""
    try:
        yield
    except LayoutError as error:
        raise StorageOpenError(f"etcd: {error}; nothing was changed") from None
    except (EtcdError, LeadLostError) as error:
        raise StorageOpenError(f"etcd: {options.endpoints}: {keys.prefix.decode()}: {error}") from None
