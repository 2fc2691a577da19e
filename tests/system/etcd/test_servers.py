"""Servers over etcd: what was acknowledged is there, whoever leads next."""

import shutil
import signal
from contextlib import ExitStack, closing, suppress
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from kvs.adapters.storage.etcd.client.requests import put
from tests.support.etcd import Cluster, need_etcd, running_cluster
from tests.support.etcd import closing as closing_client
from tests.support.etcd_server import HOST, EtcdServer
from tests.support.harness import OK
from tests.support.line_client import Client
from tests.support.proxy import Proxy
from tests.support.resp_wire import Wire
from tests.support.waiting import polling

_numbers: Final = count()


@pytest.fixture
def namespace() -> str:
    """Return a namespace that no other test uses."""
    return f"servers-{next(_numbers)}"


def value(found: object) -> dict[str, object]:
    """Return the reply to GET of a key with this value."""
    return {"status": "Ok", "result": found}


def leader_and_standby(stack: ExitStack, cluster: Cluster, namespace: str) -> tuple[EtcdServer, EtcdServer]:
    """Start two servers, one after the other."""
    first = stack.enter_context(EtcdServer(cluster, namespace))
    assert first.leads()
    second = stack.enter_context(EtcdServer(cluster, namespace))
    second.stands_by()
    return first, second


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_data_outlive_the_server(single: Cluster, namespace: str, how: signal.Signals) -> None:
    """Values of all kinds, deletes, FLUSHALL and what is larger than a request of etcd."""
    large = "x" * 3_000_000
    with EtcdServer(single, namespace) as server:
        assert server.leads()
        with closing(server.connect()) as client:
            for line in ("PUT gone 1", "START", "PUT a 1", "START", "PUT b 2", "ROLLBACK", "PUT c 3", "COMMIT"):
                client.ok(line)
            for line in ("DEL gone", f"PUT large {large}", "PUT d 4", "EXPIRE d 1000"):
                client.ok(line)
        server.send_signal(how)
        assert server.wait_exit() in (0, -signal.SIGKILL)
    with EtcdServer(single, namespace) as server:
        assert server.leads()
        with closing(server.connect()) as client:
            assert client.ask("KEYS") == value(["a", "c", "d", "large"])
            assert client.ask("GET large") == value(large)
            assert 900 < float(str(client.ask("TTL d")["result"])) <= 1000
            client.ok("PUT e 5")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_another_server_takes_over(single: Cluster, namespace: str, how: signal.Signals) -> None:
    """It has stood by, and has everything that was acknowledged."""
    with ExitStack() as stack:
        first, second = leader_and_standby(stack, single, namespace)
        with closing(first.connect()) as client:
            for number in range(50):
                assert client.ask(f"PUT key{number} {number}") == OK
        first.send_signal(how)
        assert second.leads()
        with closing(second.connect()) as client:
            assert client.ask("COUNT") == value(50)
            assert client.ask("PUT key50 50") == OK


def test_a_leader_that_was_stopped_answers_nothing_of_its_own(single: Cluster, namespace: str) -> None:
    """When it goes on, another has the lead: what reaches it is not answered with its data, and it stands by."""
    with ExitStack() as stack:
        first, second = leader_and_standby(stack, single, namespace)
        with closing(first.connect()) as client, closing(first.connect()) as reader:
            assert client.ask("PUT key old") == OK
            assert reader.ask("GET key") == value("old")
            first.send_signal(signal.SIGSTOP)
            assert second.leads()
            with closing(second.connect()) as other:
                assert other.ask("PUT key new") == OK
            reader.send("GET key")
            client.send("PUT key older")
            first.send_signal(signal.SIGCONT)
            first.wait_for("lead_lost")
            for each in (reader, client):
                assert [reply["code"] for reply in each.rest()] in ([], ["outcome_unknown"])
        first.stands_by()
        for server in (first, second):
            with closing(server.connect()) as client:
                assert client.ask("GET key") == value("new")
        assert first.stop() == 0


def test_a_server_leads_again_and_again(single: Cluster, namespace: str) -> None:
    """Each time with what the others have written meanwhile."""
    with ExitStack() as stack:
        first, second = leader_and_standby(stack, single, namespace)
        for turn in range(1, 3):
            for leading, standing in ((first, second), (second, first)):
                with closing(standing.connect()) as client:
                    assert client.ask("INCR turns") == value(2 * turn - 1 + (leading is second))
                leading.send_signal(signal.SIGSTOP)
                standing.wait_for("listening", turn + (standing is first))
                leading.send_signal(signal.SIGCONT)
                leading.wait_for("lead_lost", turn)
                leading.wait_for("standby", turn + (leading is second))


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("lease_s=3", "lease_s is 3 here and 2 in {}/cluster;"),
        ("sentinel_name=other", "sentinel_name is other here and mymaster in {}/cluster;"),
    ],
)
def test_servers_of_a_namespace_agree(single: Cluster, namespace: str, option: str, told: str) -> None:
    """One that has another option is refused, with the difference, until all others have been stopped."""
    with EtcdServer(single, namespace) as first:
        assert first.leads()
        with EtcdServer(single, namespace, options=[option]) as second:
            assert second.wait_exit() == 1
            assert told.format(namespace) in second.other_lines[0]
            assert "stop all servers" in second.other_lines[0]
        with closing(first.connect()) as client:
            client.ok("PUT key value")
        assert first.stop() == 0
    with EtcdServer(single, namespace, options=[option]) as second:
        assert second.leads()
        with closing(second.connect()) as client:
            assert client.get("key") == "value"
        with EtcdServer(single, namespace) as first:
            assert first.wait_exit() == 1


@pytest.mark.parametrize("reads", ["lease", "quorum"])
def test_reads_alone_are_answered(single: Cluster, namespace: str, reads: str) -> None:
    """Without a write that would be confirmed anyway."""
    with EtcdServer(single, namespace, options=[f"reads={reads}"]) as server:
        assert server.leads()
        with closing(server.connect()) as client:
            client.send(*["COUNT"] * 20)
            assert client.replies(20) == [value(0)] * 20
            for _ in range(5):
                assert client.get("key") is None


def test_another_leads_before_the_last_client_has_left(single: Cluster, namespace: str) -> None:
    """The lead is handed over when all clients are answered; one that takes a while gets the rest of its reply."""
    large = "x" * 4_000_000
    with ExitStack() as stack:
        first, second = leader_and_standby(stack, single, namespace)
        with closing(Client(HOST, first.port, receive_buffer_bytes=4096)) as client:
            client.ok(f"PUT large {large}")
            client.send("GET large")  # more than the kernel keeps
            for _ in polling("replies are on their way"):
                if not client.nothing_has_come():
                    break
            first.send_signal(signal.SIGTERM)
            assert second.leads()
            assert first.exit_code is None
            assert client.reply() == value(large)
            assert client.rest() == []
        assert first.wait_exit() == 0


def test_a_data_directory_is_of_no_use(single: Cluster, namespace: str, tmp_path: Path) -> None:
    """It is warned of, and nothing says that data are there."""
    with EtcdServer(single, namespace, "--data-dir", str(tmp_path / "data")) as server:
        assert server.wait_for("data_dir_unused")["engine"] == "etcd"
        assert "data_dir" not in server.wait_for("listening")
        with Wire((HOST, server.port)) as wire:
            assert wire.ask("CONFIG", "GET", "dir") == [b"dir", b""]
    assert not (tmp_path / "data").exists()


def test_without_etcd_nothing_is_made_up(single: Cluster, namespace: str) -> None:
    """Who waits is told so in time, others that there is no leader, until etcd is back."""
    with EtcdServer(single, namespace, options=["commit_timeout_s=1"]) as server:
        assert server.leads()
        (member,) = single.members
        with closing(server.connect()) as client:
            client.ok("PUT key old")
            member.pause()
            try:
                client.send("PUT key new")
                assert [reply["code"] for reply in client.rest()] == ["outcome_unknown"]
                server.wait_for("lead_lost")
                server.wait_for("etcd_unavailable")
                with closing(server.connect()) as other:
                    assert other.ask("GET key")["code"] == "unavailable"
            finally:
                member.resume()
        server.wait_for("listening", 2)
        with closing(server.connect()) as client:
            assert client.get("key") in ("old", "new")


def test_a_server_that_is_stopping_does_not_stand_by_again(single: Cluster, namespace: str) -> None:
    """Though it loses the lead while it sees its clients off; and nobody can connect any more."""
    with EtcdServer(single, namespace, options=["commit_timeout_s=1"]) as server:
        assert server.leads()
        (member,) = single.members
        with closing(server.connect()) as client:
            client.ok("PUT key old")
            member.pause()
            try:
                client.send("PUT key new")
                server.send_signal(signal.SIGTERM)
                server.wait_for("stopping")
                for _ in polling("the port is closed"):
                    try:
                        server.connect().close()
                    except ConnectionRefusedError:
                        break
                assert [reply["code"] for reply in client.rest()] == ["outcome_unknown"]
                assert server.wait_exit() == 1
            finally:
                member.resume()
        assert len(server.events("standing_by")) == 1


def test_a_stop_that_is_interrupted_waits_for_no_commit(single: Cluster, namespace: str) -> None:
    """Its clients have been told that the outcome is unknown. And nothing is logged behind the end."""
    flags, options = ("--drain-timeout-s", "1"), ["commit_timeout_s=600"]
    with EtcdServer(single, namespace, *flags, options=options) as server:
        assert server.leads()
        (member,) = single.members
        with closing(server.connect()) as client:
            client.ok("PUT key old")
            member.pause()
            try:
                client.send("PUT key new")
                server.send_signal(signal.SIGTERM)
                assert [reply["code"] for reply in client.rest()] == ["outcome_unknown"]
                assert server.wait_exit() == 1
            finally:
                member.resume()
        names = [event["event"] for event in server.events()]
        assert "engine_hung" not in names
        assert names[names.index("drain_interrupted") :].count("lead_lost") == 1
        assert names[-1] == "stopped"


@pytest.mark.parametrize("token", ["", "another"])
def test_a_snapshot_is_restored_beside_servers(tmp_path: Path, namespace: str, token: str) -> None:
    """Which should have been stopped: they forget what the snapshot has not, and go on with what it has."""
    need_etcd("etcdctl")
    with ExitStack() as stack:
        cluster = stack.enter_context(running_cluster(3))
        servers = leader_and_standby(stack, cluster, namespace)
        with closing(servers[0].connect()) as client:
            client.ok("PUT kept 1")
            cluster.save(tmp_path / "snapshot")
            client.ok("PUT lost 1")
        cluster.go_back(tmp_path / "snapshot", token)
        servers[0].wait_for("lead_lost")
        for server in servers:
            assert keys_of(server) == ["kept"]
            with closing(server.connect()) as client:
                client.ok("PUT later 1", "DEL later")


def keys_of(server: EtcdServer) -> object:
    """Wait until a server answers, and return all keys that it has."""
    for _ in polling("the server answers"):
        with closing(server.connect()) as client:
            client.send("KEYS")
            with suppress(OSError, AssertionError):  # it may stand by, and have nobody to ask
                answer = client.reply()
                if answer["status"] == "Ok":
                    return answer["result"]
    raise AssertionError


def test_a_backup_of_the_same_term_is_noticed(tmp_path: Path, namespace: str) -> None:
    """By a leader that only reads, though etcd has gone beyond the revision that it knows."""
    need_etcd()
    with ExitStack() as stack:
        cluster = stack.enter_context(running_cluster())
        (member,) = cluster.members
        proxy = Proxy(member.client_port)
        stack.callback(proxy.close)
        options = ["lease_s=60", "commit_timeout_s=600"]
        server = EtcdServer(cluster, namespace, options=options, endpoints=f"{HOST}:{proxy.port}")
        stack.enter_context(server)
        assert server.leads()
        with closing(server.connect()) as client:
            client.ok("PUT key old")
            member.kill()
            shutil.copytree(member.directory, tmp_path / "backup")
            member.restart()
            client.ok("PUT key new")
            proxy.hold()
            member.kill()
            shutil.rmtree(member.directory)
            shutil.copytree(tmp_path / "backup", member.directory)
            member.restart()
            with closing_client(cluster.client) as other:
                for _ in range(1000):
                    other.txn([], [put(b"elsewhere", b"")])
            proxy.cut()
            proxy.let_go()
            assert "restored from a backup" in server.wait_for("lead_lost")["reason"]


def test_an_etcd_from_a_backup_is_not_written_to(tmp_path: Path, namespace: str) -> None:
    """By a leader that has in memory what the backup has not."""
    need_etcd()
    with running_cluster() as cluster, EtcdServer(cluster, namespace, options=["lease_s=60"]) as server:
        (member,) = cluster.members
        assert server.leads()
        with closing(server.connect()) as client:
            client.ok("PUT key old")
            member.kill()
            shutil.copytree(member.directory, tmp_path / "backup")
            member.restart()
            client.ok("PUT key new")
            member.kill()
            shutil.rmtree(member.directory)
            shutil.copytree(tmp_path / "backup", member.directory)
            member.restart()
            client.send("PUT key newer")
            assert [reply["code"] for reply in client.rest()] == ["outcome_unknown"]
        assert "restored from a backup" in server.wait_for("lead_lost")["reason"]
