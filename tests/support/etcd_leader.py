"""A leader over etcd within a test, without a server: its journal, and its checkpoints when the test asks for them."""

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import structlog
from structlog.typing import FilteringBoundLogger

from kvs.adapters.storage.etcd.checkpoints import Checkpoints
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.clock import ServerTime, Skew
from kvs.adapters.storage.etcd.complaints import Complaints
from kvs.adapters.storage.etcd.election import Election
from kvs.adapters.storage.etcd.journal import EtcdJournal
from kvs.adapters.storage.etcd.layout import Checkpoint, Keys, LeaderRecord, decoded
from kvs.adapters.storage.etcd.lead import Keeper
from kvs.adapters.storage.etcd.replica import Replica
from kvs.adapters.storage.etcd.steps import Steps
from kvs.adapters.storage.journal_writer import Row
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.domain.values import Key, Value
from kvs.ports.topology import ServerInfo, Topology
from tests.support.journals import append

T = TypeVar("T")

LEASE_S: Final = 30
MAX_JOURNAL_BYTES: Final = 64 << 20


def contents(memory: MemoryStorage) -> dict[Key, Value]:
    """Return all that an engine has."""
    found = {key: memory.get(key) for key in memory.scan(b"", b"", memory.count(b""))}
    return {key: value for key, value in found.items() if value is not None}


def new_replica(client: EtcdClient, place: bytes) -> Replica:
    """Return one that knows nothing yet."""
    return Replica(client, Keys(place), MemoryStorage(0, 0), structlog.get_logger())


def read(client: EtcdClient, place: bytes) -> dict[Key, Value]:
    """Return what a namespace has, as a server reads it that starts."""
    replica = new_replica(client, place)
    replica.catch_up(1, lambda: None)
    return contents(replica.memory)


MAX_SKEW_MS: Final = 1000


def wall_ms() -> int:
    """Return milliseconds since 1970."""
    return int(time.time() * 1000)


def skew(
    *others: ServerInfo, log: FilteringBoundLogger | None = None, wall_clock: Callable[[], float] = time.time
) -> Skew:
    """Return what a server knows of clocks, beside others."""
    return Skew(topology(*others), MAX_SKEW_MS, log or structlog.get_logger(), wall_clock)


def topology(*others: ServerInfo) -> Topology:
    """Return what a server knows of others."""
    known = Topology("test", ServerInfo("0", "127.0.0.1", 1, "1"), LEASE_S * 1000)
    known.others = others
    return known


class KilledError(BaseException):
    """Raised where a server is killed: nothing catches it."""


class MortalClient:
    """A client whose server is killed at one of its calls.

    Args:
        client: Makes the calls.
        calls: The number of the call at which that is; 0: the first.
        after: Whether the call is made all the same.

    Attributes:
        made: The calls that were counted.
    """

    def __init__(self, client: EtcdClient, calls: int, *, after: bool) -> None:
        self.made = 0
        self._client = client
        self._calls = calls
        self._after = after

    def txn(self, *args: Any, **kwargs: Any) -> Any:
        return self._counted(lambda: self._client.txn(*args, **kwargs))

    def range(self, *args: Any, **kwargs: Any) -> Any:
        return self._counted(lambda: self._client.range(*args, **kwargs))

    def _counted(self, call: Callable[[], T]) -> T:
        self.made += 1
        if self.made <= self._calls:
            return call()
        if self._after and self.made == self._calls + 1:
            call()
        raise KilledError


class Leader:
    """Takes the lead of a namespace, and reads it.

    Args:
        client: Calls etcd.
        place: The namespace, as a prefix of keys.
        mortal: Writes the checkpoints, if it is another.
        idle_s: When the thread of checkpoints makes one of what there is, once it is started.
        replica: What it knew before, if it has followed another one.

    Attributes:
        memory: Where it was read to.
        data: What was read.
        steps: Those of its checkpoints.
        checkpoints: Written when the test says so.
        journal: For entries.
        backlog: What no checkpoint has yet.
    """

    def __init__(
        self,
        client: EtcdClient,
        place: bytes,
        mortal: MortalClient | None = None,
        idle_s: float = 30.0,
        replica: Replica | None = None,
    ) -> None:
        log = structlog.get_logger()
        self.client: Final = client
        self.keys: Final = Keys(place)
        self.lead: Final = Election(
            client,
            self.keys,
            LeaderRecord("test", "127.0.0.1", 1),
            LEASE_S,
            skew(),
            topology(),
            lambda _: None,
            lambda _: None,
            Complaints(),
            log,
        ).win()
        replica = replica or new_replica(client, place)
        replica.catch_up(self.lead.term, self.lead.check)
        self.memory: Final = replica.memory
        self.data: Final = contents(replica.memory)
        pointer, chunks = replica.checkpoint()
        self.backlog: Final = replica.backlog(MAX_JOURNAL_BYTES)
        self.steps: Final = Steps(cast("EtcdClient", mortal or client), self.keys, self.lead, self.backlog, log)
        self.checkpoints: Final = Checkpoints(self.steps, self.backlog, pointer, chunks, MAX_JOURNAL_BYTES, log, idle_s)
        self._keeper = Keeper(client, self.keys, self.lead, ServerTime(0, skew(), time.monotonic), topology())
        self.journal: Final = EtcdJournal(
            client, self.keys, self.lead, self._keeper, replica.head, self.backlog, 10.0, "lease"
        )

    def append(self, rows: list[Row], *, clears: bool = False) -> None:
        """Append an entry."""
        append(self.journal, rows, clears=clears)

    def write(self, model: dict[Key, Value], rows: list[Row], *, clears: bool = False) -> None:
        """Append an entry, to a model, too."""
        self.append(rows, clears=clears)
        if clears:
            model.clear()
        for key, value in rows:
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value

    def end(self) -> None:
        """End as a server does that is killed, and whose lease has ended."""
        self._keeper._stopping.set()
        self._keeper._runner.join()
        self.client.revoke(self.lead.lease)

    def pointer(self) -> Checkpoint:
        """Return the newest checkpoint."""
        (found,) = self.client.range(self.keys.checkpoint).kvs
        return decoded(self.keys.checkpoint, found.value, Checkpoint)

    def names(self, prefix: bytes) -> list[bytes]:
        """Return the keys in etcd that begin with a prefix."""
        return [found.key for found in self.client.range(prefix, self.keys.end(prefix), keys_only=True).kvs]
