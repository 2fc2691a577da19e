"""The admin port of whole servers: while they serve, load, stop and stand by, and under load."""

import os
import signal
import socket
import threading
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from tests.support.admin import TOKEN, Admin, bearer, token_file
from tests.support.engine_control import EngineControl
from tests.support.etcd import need_etcd, running_cluster
from tests.support.etcd_server import EtcdServer
from tests.support.harness import ENGINES, Server, polling, run_to_end, slow_engine
from tests.support.resp_wire import OK, Wire
from tests.support.secured import client_side, server_flags

ADMIN = ("--admin-port", "0")
PATIENT = ("--drain-timeout-s", "60")


def test_metrics_tell_what_clients_do() -> None:
    """Each kind of figure, after each kind of event, of both protocols."""
    with Server("--storage", "sqlite", *ADMIN) as server:
        admin = Admin(server)
        before = admin.metrics()
        one, other = server.connect(), server.connect()
        with Wire((server.host, server.port)) as wire:
            assert wire.ask("SET", "a", "1") == OK
            wire.ask("GET", "nope")
        one.ok("START", "GET a", "PUT b 1")
        other.ok("PUT a 2")
        assert one.ask("COMMIT")["code"] == "conflict"
        one.ok("START", "PUT b 1", "COMMIT", "START")
        other.ask("NONSENSE")
        other.ok("START")
        other.close()
        server.wait_left(other)
        for _ in polling("the figures are there"):
            now = admin.metrics()
            if now["kvs_commits_total"]:
                break
        assert (now["kvs_commits_total"], now["kvs_conflicts_total"]) == (1, 1)
        assert now["kvs_aborts_total closed by client"] == 1
        assert now["kvs_clients"] == 1
        assert now["kvs_clients_accepted_total"] - before["kvs_clients_accepted_total"] == 3
        assert now["kvs_open_transactions"] == 1
        assert now["kvs_open_transactions_bytes"] == now["kvs_largest_transaction_bytes"] > 0
        assert now["kvs_errors_total CONFLICT"] == now["kvs_errors_total UNKNOWN_COMMAND"] == 1
        assert now["kvs_command_duration_seconds_count commit"] == 2
        assert now["kvs_commands_failed_total commit"] == 1
        assert now["kvs_keyspace_misses_total"] == 1
        assert now["kvs_batch_keys_sum"] == 3
        assert now["kvs_append_duration_seconds_count"] >= 3
        assert now["kvs_received_bytes_total"] > before["kvs_received_bytes_total"]
        assert now["kvs_sent_bytes_total"] > before["kvs_sent_bytes_total"]
        status = admin.status()
        assert [each["key"] for each in status["conflict_keys"]] == ["a"]
        assert [each["address"] for each in status["transactions"]] == [one.name]


def controlled(name: str) -> EngineControl:
    """Return the control of an engine."""
    return EngineControl(ENGINES, os.environ.get("PYTHONPATH"), name)


def test_it_answers_while_the_engine_loads() -> None:
    """Alive, and not ready before the server listens."""
    with controlled("loading") as engine:
        engine.hold("loading")
        with Server(*engine.flags, *ADMIN, env=engine.env, listens=False) as server:
            admin = Admin(server)
            engine.wait_held()
            assert admin.ask("/livez").status == 200
            assert admin.ask("/readyz")[:2] == (503, "the engine is loading\n")
            metrics = admin.metrics()
            assert metrics["kvs_ready"] == metrics["kvs_leads"] == 0
            assert "kvs_keys" not in metrics
            engine.let_go()
            server.wait_for("listening")
            for _ in polling("it is ready"):
                if admin.ask("/readyz").status == 200:
                    break
            assert server.stop() == 0
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", admin.port))


def test_a_server_that_stops_is_not_ready() -> None:
    """But alive, until its last client has been answered."""
    with controlled("blocking") as engine, Server(*engine.flags, *ADMIN, *PATIENT, env=engine.env) as server:
        admin = Admin(server)
        engine.hold("get")
        client = server.connect()
        client.send("GET a")
        engine.wait_held()
        server.send_signal(signal.SIGTERM)
        server.wait_for("stopping")
        assert admin.ask("/livez").status == 200
        assert admin.ask("/readyz")[:2] == (503, "the server is stopping\n")
        engine.let_go()
        assert server.wait_exit() == 0


def test_a_blocking_engine_is_no_reason_to_wait() -> None:
    """One whose calls take long."""
    flags, env = slow_engine(0.2)
    with Server(*flags, *ADMIN, env=env) as server:
        admin = Admin(server)
        client = server.connect()
        client.send(*(f"PUT k{number} v" for number in range(5)))
        assert "kvs_keys" in admin.metrics()
        assert admin.ask("/livez").status == 200
        client.replies(5)


def test_scraping_while_the_loop_is_busy() -> None:
    """Many at a time, by many clients that list many keys; nobody gets an error."""
    with Server(*ADMIN) as server, ExitStack() as stack:
        admin = Admin(server)
        client = server.connect()
        client.ok(*(f"PUT k{number} v" for number in range(5000)))
        stop = threading.Event()

        def keep_busy() -> None:
            with closing(server.connect()) as busy:
                while not stop.is_set():
                    busy.ask("KEYS k")

        threads = [threading.Thread(target=keep_busy) for _ in range(4)]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(stop.set)
        seen = [admin.metrics()["kvs_command_duration_seconds_count keys"] for _ in range(3)]
        assert seen == sorted(seen)
        assert admin.ask("/livez").text == "ok\n"
        answers = [admin.ask("/api/status") for _ in range(10)]
        assert {answer.status for answer in answers} == {200}


def test_tokens(tmp_path: Path) -> None:
    """What they open on a real server; other sites get nothing."""
    (tmp_path / "metrics").mkdir()
    admin_file, metrics_file = token_file(tmp_path), token_file(tmp_path / "metrics", "another token")
    with Server(*ADMIN, "--admin-token-file", admin_file, "--metrics-token-file", metrics_file) as server:
        admin = Admin(server)
        assert {path: admin.ask(path).status for path in ("/", "/livez", "/metrics", "/api/status")} == {
            "/": 200,
            "/livez": 200,
            "/metrics": 401,
            "/api/status": 401,
        }
        assert admin.ask("/metrics", bearer("another token")).status == 200
        assert admin.ask("/api/status", bearer("another token")).status == 401
        assert admin.ask("/api/status", bearer()).status == 200
        assert admin.ask("/metrics", {**bearer(), "Host": "evil.example"}).status == 421
        own = {"Content-Type": "application/json", "Origin": admin.url}
        assert admin.ask("/api/login", {**own, "Origin": "http://evil.example"}, {"token": TOKEN}).status == 403
        assert admin.ask("/api/login", own, {"token": TOKEN}).status == 200
        assert server.wait_for("admin_login")
        Path(metrics_file).write_text("a third token")
        server.send_signal(signal.SIGHUP)
        assert server.wait_for("reloaded")["changed"] == ["metrics_token_file"]
        assert admin.ask("/metrics", bearer("another token")).status == 401
        assert admin.ask("/metrics", bearer("a third token")).status == 200
        assert TOKEN not in server.log.decode()


def test_beyond_loopback_it_is_encrypted(tmp_path: Path) -> None:
    """With a token it may be there; a cookie is for TLS only."""
    flags = (*ADMIN, "--admin-host", "0.0.0.0", "--admin-token-file", token_file(tmp_path))
    with Server(*flags, *server_flags()) as server:
        admin = Admin(server, client_side())
        assert admin.ask("/readyz").text == "ok\n"
        assert admin.ask("/metrics").status == 401
        assert admin.metrics(bearer())["kvs_tls_certificate_expiry_timestamp_seconds"] > time.time()
        own = {"Content-Type": "application/json", "Origin": admin.url}
        assert "Secure" in admin.ask("/api/login", own, {"token": TOKEN}).headers["Set-Cookie"]
        with socket.create_connection(("127.0.0.1", admin.port)) as plain:
            plain.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            with suppress(ConnectionResetError):
                assert b"200" not in plain.recv(1 << 16)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--admin-host", "0.0.0.0"), "protected_mode = false"),
        (("--admin-token-file", "/nowhere"), "admin_token_file: cannot read /nowhere"),
        (("--admin-host", "nowhere.invalid"), "cannot listen on nowhere.invalid"),
    ],
)
def test_what_would_be_open_or_cannot_be_does_not_start(flags: tuple[str, ...], said: str) -> None:
    """With the reason."""
    ran = run_to_end("--port", "0", *ADMIN, *flags)
    assert ran.returncode in (1, 2)
    assert said in ran.stderr


def test_a_standby_answers_too() -> None:
    """It is ready while there is a leader, and says what it is."""
    need_etcd()
    with running_cluster() as cluster, ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(cluster, "kvs", *ADMIN))
        assert leader.leads()
        standby = stack.enter_context(EtcdServer(cluster, "kvs", *ADMIN))
        standby.wait_for("standby")
        of_leader, of_standby = Admin(leader), Admin(standby)
        for _ in polling("the standby is ready, and known"):
            if of_standby.ask("/readyz").status == 200 and of_leader.metrics()["kvs_standbys"] == 1:
                break
        assert (of_leader.metrics()["kvs_leads"], of_standby.metrics()["kvs_leads"]) == (1, 0)
        assert "kvs_replica_entries" in of_standby.metrics()
        cluster.members[0].pause()
        for _ in polling("neither can answer without etcd, and both say so"):
            if {admin.ask("/readyz").status for admin in (of_leader, of_standby)} == {503}:
                break
        assert of_leader.ask("/readyz").text.startswith("nothing is heard of the leader")
        for admin in (of_leader, of_standby):
            metrics = admin.metrics()
            assert (metrics["kvs_leads"], metrics["kvs_has_leader"]) == (0, 0)
        cluster.members[0].resume()
        for _ in polling("one of them leads again"):
            if sorted(admin.metrics()["kvs_leads"] for admin in (of_leader, of_standby)) == [0, 1]:
                break
        if of_standby.metrics()["kvs_leads"] == 1:
            leader, of_standby = standby, of_leader
        leader.send_signal(signal.SIGTERM)
        leader.wait_exit()
        for _ in polling("the standby leads"):
            if of_standby.metrics()["kvs_leads"] == 1:
                break
        assert of_standby.ask("/readyz").status == 200
