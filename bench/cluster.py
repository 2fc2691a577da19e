"""The etcd engine: commits beside etcd itself and what it allows, and relayed clients beside those of the leader.

Three members of etcd and the servers run on this machine. The limit of commits from clients at depth 1 is their
number, divided by the median time of an append of so many rows, by the same library, while nothing else happens: as if
all of them shared each append, and nothing took time in between. etcd itself gets one PUT of each client, at the member
that leads, by the same compiled generator as the server.
"""

import os
import statistics
import time
import urllib.request
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from bench import machine
from bench.errors import BenchError
from bench.generator import Sample, Work, load, run
from bench.members import Members, members
from bench.servers import Server, admin_port, running, wait_for
from bench.spread import Row, Sections, spread
from kvs.adapters.storage.etcd.client.endpoints import parse_endpoints
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import (
    absent,
    create_revision_is,
    get,
    mod_revision_is_at_least,
    put,
    value_is,
)
from kvs.adapters.storage.etcd.entry import digest_of, encode_entry
from kvs.adapters.storage.etcd.layout import EMPTY, Head, Keys, encoded
from kvs.adapters.storage.etcd.rows import EtcdBatch

CLIENTS: Final = (1, 64, 512)
KEY_BYTES: Final = 16
BARE_APPENDS: Final = 200
RELAYED_CLIENTS: Final = 50
DEPTHS: Final = (1, 16)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is measured.

    Attributes:
        endpoints: Where the members of etcd are.
        members: Their processes.
        leader: The server that leads.
        etcd: The member that leads.
    """

    endpoints: str
    members: list[int]
    leader: Server
    etcd: Server


def measure(python: str, keys: int, seconds: float, rounds: int) -> Sections:
    """Measure commits and relays, with so many keys. The standby comes last: it should have its own machine."""
    with members() as etcd:
        flags = ("--storage", "etcd", "--storage-option", f"endpoints={etcd.endpoints}")
        with running("kvs", python, *flags, "--admin-port", "0") as leader:
            wait_for(leader, "leading")
            load(leader, keys)
            cluster = Cluster(etcd.endpoints, etcd.pids, leader, _leading_member(etcd))
            commits = [
                _commits(cluster, Work("put", clients, keys=keys, seconds=seconds), rounds) for clients in CLIENTS
            ]
            with running("kvs", python, *flags) as standby:
                wait_for(standby, "following")
                relays = [
                    _relayed(
                        leader, standby, Work(workload, RELAYED_CLIENTS, depth, keys=keys, seconds=seconds), rounds
                    )
                    for workload in ("get", "put")
                    for depth in DEPTHS
                ]
    return {
        f"Commits, three members, any of {keys} keys": commits,
        f"Relayed by a standby, beside clients of the leader, {RELAYED_CLIENTS} clients": relays,
    }


def _commits(cluster: Cluster, work: Work, rounds: int) -> Row:
    """Compare commits with the limit, and with puts of etcd itself, by turns."""
    limits: list[float] = []
    puts: list[Sample] = []
    samples: list[Sample] = []
    batches: list[float] = []
    appends_us: list[float] = []
    cpu_us: dict[str, list[float]] = {}
    processes = {"leader": [cluster.leader.pid], "etcd": cluster.members}
    for _ in range(rounds):
        limits.append(_bare_append_s(cluster, work.connections, work.value_bytes))
        puts.append(run(work, cluster.etcd))
        before = {name: sum(map(machine.cpu_s, pids)) for name, pids in processes.items()}
        appends, append_s = _appends(cluster.leader)
        sample = run(work, cluster.leader)
        samples.append(sample)
        appends_after, append_after_s = _appends(cluster.leader)
        appends, append_s = appends_after - appends, append_after_s - append_s
        total = sample.requests_per_s * (work.seconds + work.warmup_s)
        batches.append(total / appends)
        appends_us.append(append_s / appends * 1e6)
        for name, pids in processes.items():
            cpu_us.setdefault(name, []).append((sum(map(machine.cpu_s, pids)) - before[name]) / total * 1e6)
    return {
        "clients": work.connections,
        "commits/s": spread(sample.requests_per_s for sample in samples),
        "of the limit": spread(
            sample.requests_per_s * limit / work.connections for sample, limit in zip(samples, limits, strict=True)
        ),
        "etcd itself, puts/s": spread(sample.requests_per_s for sample in puts),
        "times etcd's": spread(
            sample.requests_per_s / put.requests_per_s for sample, put in zip(samples, puts, strict=True)
        ),
        "append alone us": spread(limit * 1e6 for limit in limits),
        "append us": spread(appends_us),
        "commits in an append": spread(batches),
        "p50 us": spread(sample.p50_us for sample in samples),
        "p99 us": spread(sample.p99_us for sample in samples),
        **{f"CPU us a commit, {name}": spread(each) for name, each in cpu_us.items()},
    }


def _leading_member(etcd: Members) -> Server:
    """Return the member of etcd that leads, as a server of the generator."""
    at = etcd.leader()
    return Server("etcd", "etcd", etcd.pids[at], etcd.ports[at], Path(os.devnull))


def _appends(server: Server) -> tuple[float, float]:
    """Return how many appends there were, and how long they took."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin_port(server)}/metrics") as response:
        text: str = response.read().decode()
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return float(figures["kvs_append_duration_seconds_count"]), float(figures["kvs_append_duration_seconds_sum"])


_namespaces: Final = count()


def _bare_append_s(cluster: Cluster, rows: int, value_bytes: int) -> float:
    """Return the median time of appends of so many rows, fenced as those of a leader are."""
    keys = Keys(b"bare%d/" % next(_namespaces))
    times: list[float] = []
    with closing(EtcdClient(parse_endpoints(cluster.endpoints))) as client:
        client.txn([], [put(keys.leader, b"{}")])
        client.txn([], [put(keys.alive, b"{}")])
        (leader,), (alive,) = (client.range(key).kvs for key in (keys.leader, keys.alive))
        term = leader.create_revision
        fence = [create_revision_is(keys.leader, term), mod_revision_is_at_least(keys.alive, alive.mod_revision)]
        head = EMPTY
        look = [get(keys.leader), get(keys.head)]
        for number in range(BARE_APPENDS):
            batch = EtcdBatch()
            first = number * rows
            batch.add(
                [(b"%0*d" % (KEY_BYTES, first + at), bytes(value_bytes)) for at in range(rows)],
                clears=False,
                horizon_ms=0,
            )
            entry, _ = encode_entry(batch, head, term, 1)
            follows = absent(keys.head) if head == EMPTY else value_is(keys.head, encoded(head))
            head = Head(head.number + 1, digest_of(entry))
            name = keys.entry(head.number)
            begin_s = time.perf_counter()
            result = client.txn(
                [*fence, follows, absent(name)], [put(name, entry), put(keys.head, encoded(head))], look, urgent=True
            )
            times.append(time.perf_counter() - begin_s)
            if not result.succeeded:
                raise BenchError("an append was refused")
    return statistics.median(times)


def _relayed(leader: Server, standby: Server, work: Work, rounds: int) -> Row:
    """Compare clients of a standby with those of the leader, by turns."""
    pairs: list[tuple[Sample, Sample]] = []
    standby_us: list[float] = []
    for number in range(rounds):
        samples: dict[int, Sample] = {}
        for server in (leader, standby) if number % 2 == 0 else (standby, leader):
            samples[server.pid] = run(work, server)
        pairs.append((samples[leader.pid], samples[standby.pid]))
        standby_us.append(samples[standby.pid].server_cpu_us)
    return {
        "requests": work.workload,
        "depth": work.depth,
        "direct/s": spread(direct.requests_per_s for direct, _ in pairs),
        "relayed/s": spread(relayed.requests_per_s for _, relayed in pairs),
        "ratio": spread(relayed.requests_per_s / direct.requests_per_s for direct, relayed in pairs),
        "CPU us of the leader, direct": spread(direct.server_cpu_us for direct, _ in pairs),
        "CPU us of the standby": spread(standby_us),
    }
