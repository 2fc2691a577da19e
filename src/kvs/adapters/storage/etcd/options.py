"""The options of the engine, and what they mean."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from kvs.config import MAX_BYTES


class EtcdOptions(msgspec.Struct, frozen=True):
    """The options of this engine."""

    endpoints: Annotated[
        str, Meta(min_length=1, description="members of etcd, host:port separated by commas; any that answers is used")
    ] = "127.0.0.1:2379"
    namespace: Annotated[
        str,
        Meta(min_length=1, description="what the keys in etcd begin with; servers of one namespace belong together"),
    ] = "kvs"
    ca_file: Annotated[str, Meta(description="certificates of etcd's authority; turns TLS on")] = ""
    cert_file: Annotated[str, Meta(description="certificate of this server as a client of etcd")] = ""
    key_file: Annotated[str, Meta(description="key of that certificate")] = ""
    user: Annotated[str, Meta(description="user of etcd; empty: none is needed")] = ""
    password_file: Annotated[str, Meta(description="file with that user's password")] = ""
    lease_s: Annotated[
        int,
        Meta(
            ge=1,
            le=3600,
            description="after how many seconds without a sign of life a leader is replaced; the same for all servers",
        ),
    ] = 2
    max_clock_skew_s: Annotated[
        float,
        Meta(
            ge=1,
            le=3600,
            description="by how much the clock of a server may differ from the leader's time; one that differs by more "
            "leaves the lead to others",
        ),
    ] = 1.0
    reads: Annotated[
        Literal["lease", "quorum"],
        Meta(
            description="lease: the leader answers reads from memory while it knows that nobody can have replaced it. "
            "quorum: it asks etcd in each tick, which is slower; for machines whose clock may stand still"
        ),
    ] = "lease"
    advertise_address: Annotated[
        str, Meta(description="host:port at which other servers reach this one; empty: host and port of the server")
    ] = ""
    sentinel_name: Annotated[
        str,
        Meta(
            pattern=r"^[\w.-]{1,64}\Z",
            description="what clients of Redis Sentinel call the data set; the same for all servers",
        ),
    ] = "mymaster"
    commit_timeout_s: Annotated[
        float,
        Meta(
            ge=1,
            le=3600,
            description="how long a commit, or each MiB of a large one, is tried before the server gives up the lead",
        ),
    ] = 10.0
    max_journal_bytes: Annotated[
        int,
        Meta(
            ge=1 << 20,
            le=MAX_BYTES,
            description="maximum size of the journal behind the last checkpoint, which is begun at half of that at the "
            "latest; if it is full, batches wait for the checkpoint, and so do their replies",
        ),
    ] = 64 << 20
    quota_bytes: Annotated[
        int,
        Meta(
            ge=1 << 20,
            le=MAX_BYTES,
            description="the quota of etcd's members, their quota-backend-bytes; writes are refused when 80 % are in "
            "use, deletes are not",
        ),
    ] = 2 << 30
    compact: Annotated[
        Literal["own", "none"],
        Meta(
            description="own: the leader compacts etcd's history, for all users of that etcd, and has a full etcd make "
            "room. none: somebody else does"
        ),
    ] = "own"
