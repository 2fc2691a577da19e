"""What kvs keeps in etcd: the names of its keys, and their values.

| key under the namespace | holds |
| --- | --- |
| ``cluster`` | :class:`ClusterRecord`, written by the first server |
| ``servers/ID`` | :class:`ServerRecord`, under a lease of that server |
| ``leader`` | :class:`LeaderRecord`, under the leader's lease; its create revision is the *term* |
| ``alive`` | :class:`Heartbeat` of the leader |
| ``deposed/ADDRESS`` | that the server there must not lead, under a lease: other servers could not reach it |
| ``users`` | the users (:mod:`kvs.adapters.storage.etcd.users`), if there are any |
| ``head`` | number and digest of the last entry of the journal |
| ``journal/NUMBER`` | an entry (:mod:`kvs.adapters.storage.etcd.entry`) |
| ``part/NUMBER/TERM/I`` | a piece of an entry that is too large for one request |
| ``checkpoint`` | :class:`Checkpoint`, a pointer |
| ``chunk/NUMBER/TERM/I`` | a piece of the data as of an entry, or of the list of these pieces |

Numbers have 20 digits, so that keys are in their order.
"""

from typing import Annotated, Final, TypeVar, final

import msgspec
from msgspec import Meta

from kvs.adapters.storage.etcd.client.requests import prefix_end

MAX_VALUE_BYTES: Final = 1 << 20
"""Largest value of a key: two thirds of the largest request that etcd takes by default."""


class LayoutError(Exception):
    """Raised when a value is none of kvs, or of another version; the message names the key."""


class ClusterRecord(msgspec.Struct, frozen=True):
    """What all servers of a namespace must agree on.

    Attributes:
        id: Chosen at random by the first server.
        format: The highest that anything stored may have; see :mod:`kvs.adapters.storage.etcd.formats`.
        lease_s: The term of a lease: for so long a leader may answer reads after a write that was confirmed.
        sentinel_name: What clients of Redis Sentinel call the data set; empty: older versions have not said.
    """

    id: str
    format: int
    lease_s: int
    sentinel_name: str = ""


Word = Annotated[str, Meta(pattern=r"^[!-~]{1,255}\Z")]
"""It is shown in lines of INFO, so it has no line break."""

Port = Annotated[int, Meta(ge=0, le=65_535)]


class LeaderRecord(msgspec.Struct, frozen=True):
    """Who leads.

    Attributes:
        id: Of the server, chosen at random when it starts.
        host: Where others reach it.
        port: The port there; 0: it is no server, and serves nobody: the namespace is being filled.
        tls: Whether it requires TLS there.
        admits: Whether it tells a standby that a relay is admitted; older versions do not, and have no such field.
    """

    id: str
    host: Word
    port: Port
    tls: bool = False
    admits: bool = False


class ServerRecord(msgspec.Struct, frozen=True):
    """A server that runs.

    Attributes:
        host: Where others reach it.
        port: The port there.
        version: Of kvs.
        clock_ahead_ms: By how much its clock is ahead of the leader's time; 0 if that is allowed.
        reads: The formats that it reads.
        writes: The formats that it writes.
        cut_off_in: The term of the leader that it cannot reach, for as long as a lease; 0: there is none.
        unreadable: The name of the index of the checkpoint that it could not read; empty: there is none.
    """

    host: Word
    port: Port
    version: Word
    clock_ahead_ms: int = 0
    reads: tuple[int, ...] = (1,)
    writes: tuple[int, ...] = (1,)
    cut_off_in: int = 0
    unreadable: str = ""


class Heartbeat(msgspec.Struct, frozen=True):
    """The leader's sign of life.

    Attributes:
        term: Its term.
        time_ms: The server's time.
        released: Whether it has given up the lead, and answers nothing any more.
        prepares: Whether it does not serve yet: it reads the data, or waits until a former leader's rights have ended.
    """

    term: int
    time_ms: int
    released: bool = False
    prepares: bool = False


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where something that a checkpoint has written is: neighbouring keys, one if it is small.

    Attributes:
        number: The last entry in the checkpoint that wrote it.
        term: Of the leader that wrote it.
        at: Number of its first key, which no other has in this term.
        pieces: Number of its keys.
        digest: Of all of it.
    """

    number: int
    term: int
    at: int
    pieces: int
    digest: str

    @property
    def name(self) -> str:
        """What no other place has, to be told."""
        return f"{self.number}/{self.term}/{self.at}"


class Former(msgspec.Struct, frozen=True):
    """The checkpoint before, which is kept.

    Attributes:
        number: The last entry in it.
        index: As of that checkpoint.
        digest: The digest of that entry; empty: not known, as it was written by an older version.
        horizon_ms: The server's time as of the entry.
    """

    number: int
    index: Place
    digest: str = ""
    horizon_ms: int = 0


class Checkpoint(msgspec.Struct, frozen=True):
    """Where the data of a checkpoint are.

    Attributes:
        number: The last entry in it.
        digest: The digest of that entry.
        horizon_ms: The server's time as of the entry.
        index: The list of its chunks (:mod:`kvs.adapters.storage.etcd.chunks`).
        chunks: Number of chunks.
        keys: Number of keys in them.
        size: Bytes of the chunks.
        format: Of the index and the chunks.
        former: The one before; None for the first.
    """

    number: int
    digest: str
    horizon_ms: int
    index: Place
    chunks: int
    keys: int
    size: int
    format: int
    former: Former | None = None


class Head(msgspec.Struct, frozen=True):
    """The end of the journal.

    Attributes:
        number: Of the last entry; 0: there is none yet.
        digest: Of that entry.
    """

    number: int
    digest: str


EMPTY: Final = Head(0, "")

Record = TypeVar("Record", ClusterRecord, ServerRecord, LeaderRecord, Heartbeat, Checkpoint, Head)


def encoded(record: msgspec.Struct) -> bytes:
    """Return a record as etcd has it: JSON, so that ``etcdctl get`` shows it to people."""
    return msgspec.json.encode(record)


def decoded(key: bytes, value: bytes, kind: type[Record]) -> Record:
    """Return a record from the value of a key.

    Raises:
        LayoutError: It is none.
    """
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.MsgspecError as error:
        raise LayoutError(f"{key.decode(errors='replace')}: is not written by kvs: {error}") from None


@final
class Keys:
    """The names of keys in a namespace.

    Args:
        prefix: What all of them begin with.
    """

    def __init__(self, prefix: bytes) -> None:
        self.prefix: Final = prefix
        self.cluster: Final = prefix + b"cluster"
        self.servers: Final = prefix + b"servers/"
        self.leader: Final = prefix + b"leader"
        self.alive: Final = prefix + b"alive"
        self.users: Final = prefix + b"users"
        self.head: Final = prefix + b"head"
        self.checkpoint: Final = prefix + b"checkpoint"
        self.entries: Final = prefix + b"journal/"
        self.parts: Final = prefix + b"part/"
        self.chunks: Final = prefix + b"chunk/"

    def deposed(self, host: str, port: int) -> bytes:
        return b"%bdeposed/%b:%d" % (self.prefix, host.encode(), port)

    def server(self, server_id: str) -> bytes:
        return self.servers + server_id.encode()

    def entry(self, number: int) -> bytes:
        return self.entries + b"%020d" % number

    def part(self, number: int, term: int, at: int) -> bytes:
        return self.parts + b"%020d/%020d/%06d" % (number, term, at)

    def chunk(self, number: int, term: int, at: int) -> bytes:
        return self.chunks + b"%020d/%020d/%012d" % (number, term, at)

    def end(self, prefix: bytes) -> bytes:
        """Return the end of the range of all keys with a prefix."""
        return prefix_end(prefix)
