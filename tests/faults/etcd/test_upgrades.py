"""Versions with a new format: installed on one server after the other under load, then put in use, and no way back."""

import signal
import sys
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final

import pytest

from kvs.adapters.storage.etcd.client.endpoints import namespace_prefix
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import put
from kvs.adapters.storage.etcd.entry import _decode_header
from kvs.adapters.storage.etcd.formats import READS, WRITES
from kvs.adapters.storage.etcd.layout import ClusterRecord, Keys, ServerRecord, decoded, encoded
from kvs.adapters.storage.etcd.operation import OperationError, finish_upgrade, look
from tests.faults.etcd.group import Group
from tests.faults.etcd.test_faults import assert_nothing_has_crashed, assert_nothing_is_found, plan
from tests.faults.scale import full_scale_has_time
from tests.support.consistency.history import Outcome
from tests.support.consistency.workload import run
from tests.support.dumps import Run, run_kvs, told
from tests.support.etcd import HOST, Cluster
from tests.support.etcd import closing as closing_client
from tests.support.etcd_server import EtcdServer
from tests.support.seeds import SEED
from tests.support.waiting import polling

OLD: Final = (sys.executable, str(Path(__file__).with_name("script.py")), "hangs")
NEW: Final = (*OLD[:-1], "format2,hangs")
REFUSED: Final = "has format 2; this version of kvs knows format 1"
SMALL_JOURNAL: Final = "max_journal_bytes=1048576"


@pytest.fixture
def keys(namespace: str) -> Keys:
    """Return the keys of a namespace."""
    return Keys(namespace_prefix(namespace))


def cluster_command(cluster: Cluster, namespace: str, name: str) -> Run:
    """Run ``kvs cluster``."""
    options = [f"endpoints={cluster.addresses}", f"namespace={namespace}"]
    given = [word for each in options for word in ("--storage-option", each)]
    return run_kvs("cluster", name, "--storage", "etcd", *given)


def finish(cluster: Cluster, namespace: str) -> Run:
    """Run ``kvs cluster finish-upgrade``."""
    return cluster_command(cluster, namespace, "finish-upgrade")


def wait_for_servers(client: EtcdClient, keys: Keys, count: int, old: int = 0) -> None:
    """Wait until so many servers are registered, and so many of these of the old version."""
    for _ in polling("these are registered"):
        state = look(client, keys)
        if (len(state.servers), len(state.cannot_read(2))) == (count, old):
            break


def formats_of_journal(client: EtcdClient, keys: Keys) -> list[int]:
    """Return the formats of entries, in their order."""
    found = client.range(keys.entries, keys.end(keys.entries)).kvs
    return [_decode_header(each.value).format for each in found]


@full_scale_has_time
def test_one_after_the_other_under_load(three: Cluster, namespace: str, keys: Keys) -> None:
    """Nobody is refused, nothing is lost; then the new format is in use, and an old version is refused."""
    with ExitStack() as stack:
        client = stack.enter_context(closing_client(three.client))
        group = stack.enter_context(Group(three, namespace, 3, OLD))
        group.leader()
        formats: list[list[int]] = []

        def upgrade(_: int) -> None:
            leader = group.leader()
            for seat in sorted(group.seats, key=lambda seat: seat is leader):
                if formats:
                    assert "cannot read it; nothing was changed" in told(finish(three, namespace))
                seat.replace(NEW)
                wait_for_servers(client, keys, 3, old=2 - len(formats))
                formats.append(formats_of_journal(client, keys))
            said = finish(three, namespace)
            assert said.stdout == b"format 2 is in use; it was format 1\n", said

        records = run(plan(SEED), group.addresses, upgrade)
        assert_nothing_has_crashed(group)
        assert records.outcomes[Outcome.COMMITTED] > 100
        assert len(formats) == 3
        assert {each for entries in formats for each in entries} == {1}
        for _ in polling("the leader writes the new format"):
            with closing(group.leader().server.connect()) as line:
                line.ok("PUT key value")
            if formats_of_journal(client, keys)[-1] == 2:
                break
        said = finish(three, namespace)
        assert said.stdout == b"format 2 is in use, as it was\n"
        status = cluster_command(three, namespace, "status").stdout.decode()
        assert status.count("  1,2    1,2") == 3
        assert status.count("standby") == 2
        assert "format:     2\n" in status
        with EtcdServer(three, namespace, command=OLD) as old:
            assert old.wait_exit() == 1
            assert REFUSED in old.other_lines[0]
    assert_nothing_is_found(records.transactions)


def write(server: EtcdServer, value: str) -> bool:
    """Write a key; return whether that is acknowledged: perhaps nobody leads."""
    with closing(server.connect()) as client, suppress(OSError, AssertionError):
        client.ok(f"PUT key {value}")
        return True
    return False


def test_old_versions_that_were_away(three: Cluster, namespace: str, keys: Keys) -> None:
    """Who led before, and who stood by: neither goes on when it is back; and a checkpoint of the new format is read."""
    with ExitStack() as stack:
        leader, standby = (stack.enter_context(EtcdServer(three, namespace, command=OLD)) for _ in range(2))
        for _ in polling("one leads"):
            if leader.term or standby.term:
                break
        new = [
            stack.enter_context(EtcdServer(three, namespace, command=NEW, options=[SMALL_JOURNAL])) for _ in range(2)
        ]
        for server in new:
            server.stands_by()
        client = stack.enter_context(closing_client(three.client))
        for old in (leader, standby):
            old.send_signal(signal.SIGSTOP)
        wait_for_servers(client, keys, 2)
        for _ in polling("one of the new version leads, and writes"):
            if write(new[0], "1"):
                break
        assert formats_of_journal(client, keys) == [1]
        for _ in polling("the new format is in use"):
            if finish(three, namespace).returncode == 0:
                break
        for old in (leader, standby):
            old.send_signal(signal.SIGCONT)
        for old in (leader, standby):
            assert old.wait_exit() == 1
            assert any(REFUSED in line for line in old.other_lines), old.other_lines
        for _ in polling("a checkpoint has the new format"):
            write(new[0], "x" * 100_000)
            checkpoint = look(client, keys).checkpoint
            if checkpoint is not None and checkpoint.format == 2:
                break
        first = next(server for server in new if server.term)
        first.send_signal(signal.SIGTERM)
        (second,) = (server for server in new if server is not first)
        assert second.leads()


def register(client: EtcdClient, keys: Keys, name: str, *, reads: tuple[int, ...], writes: tuple[int, ...]) -> None:
    """Have a server registered."""
    record = ServerRecord(HOST, 1, name, 0, reads, writes)
    client.txn([], [put(keys.server(name), encoded(record))])


def test_what_is_put_in_use(three: Cluster, keys: Keys) -> None:
    """The newest format that anybody writes, if all read it; not one that nobody writes yet."""
    with closing_client(three.client) as client:
        with pytest.raises(OperationError, match="no server has ever used this namespace"):
            finish_upgrade(client, keys)
        client.txn([], [put(keys.cluster, encoded(ClusterRecord("id", 1, 7)))])
        with pytest.raises(OperationError, match="no server runs"):
            finish_upgrade(client, keys)
        register(client, keys, "a", reads=(1, 2, 3), writes=(1, 2))
        register(client, keys, "b", reads=(1,), writes=(1,))
        with pytest.raises(OperationError, match=r"format 2 .*: 127.0.0.1:1 \(kvs b\) cannot read it; .* 1 is in use"):
            finish_upgrade(client, keys)
        client.txn([], [put(keys.server("b"), b"something")])
        with pytest.raises(OperationError, match="server b cannot read it"):
            finish_upgrade(client, keys)
        register(client, keys, "b", reads=(2, 3), writes=(2,))
        client.txn([], [put(keys.leader, b'{"id":"c","host":"h","port":1}')])
        with pytest.raises(OperationError, match="the leader, h:1, is not registered"):
            finish_upgrade(client, keys)
        client.txn([], [put(keys.leader, b'{"id":"a","host":"h","port":1}')])
        assert finish_upgrade(client, keys) == (1, 2)
        assert finish_upgrade(client, keys) == (2, 2)
        (found,) = client.range(keys.cluster).kvs
        assert decoded(found.key, found.value, ClusterRecord) == ClusterRecord("id", 2, 7)


def test_who_registers_meanwhile_is_looked_at(three: Cluster, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the change."""
    with closing_client(three.client) as client:
        client.txn([], [put(keys.cluster, encoded(ClusterRecord("id", 1, 7)))])
        register(client, keys, "a", reads=(1, 2), writes=(1, 2))
        real = client.txn
        looks: list[object] = []

        def txn(*arguments: object) -> object:
            if arguments[0] and not looks:
                looks.append(arguments)
                record = encoded(ServerRecord(HOST, 1, "late", 0, READS, WRITES))
                real([], [put(keys.server("late"), record)])
            return real(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(client, "txn", txn)
        with pytest.raises(OperationError, match=r"\(kvs late\) cannot read it"):
            finish_upgrade(client, keys)
        (found,) = client.range(keys.cluster).kvs
        assert decoded(found.key, found.value, ClusterRecord).format == 1


def test_the_commands_need_a_cluster(three: Cluster, namespace: str) -> None:
    """And say so in a line."""
    for name in ("status", "finish-upgrade"):
        assert "no server has ever used this namespace" in told(cluster_command(three, namespace, name))
        assert "only servers over 'etcd' are a cluster" in told(run_kvs("cluster", name, "--storage", "sqlite"), 2)
