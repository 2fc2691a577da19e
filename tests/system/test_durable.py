"""The durable engine as its users meet it: kill it, start it again, look into its file, copy it, fill its disk."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.harness import Client, run_to_end

from .conftest import StartServer


@pytest.fixture(scope="session")
def transport_flags() -> tuple[str, ...]:
    """Return no flags: no transport has a say in this."""
    return ()


@pytest.fixture
def flags(tmp_path: Path) -> tuple[str, ...]:
    """Return what chooses the engine and a directory."""
    return ("--storage", "sqlite", "--data-dir", str(tmp_path / "data"))


def test_what_was_acknowledged_outlives_a_kill(start_server: StartServer, flags: tuple[str, ...]) -> None:
    """Puts, deletes and transactions; an open transaction is gone, as it is with any lost connection."""
    server = start_server(*flags)
    client = server.connect()
    client.ok("PUT a 1", "PUT b 2", "START", "PUT c 3", "DEL a", "START", "PUT d 4", "ROLLBACK", "COMMIT")
    client.ok("START", "PUT never 1")
    server.kill()
    server = start_server(*flags)
    loaded = server.wait_for("loaded")
    assert (loaded["keys"], loaded["journal_rows"]) == (0, 4)
    client = server.connect()
    assert client.ask("KEYS")["result"] == ["b", "c"]
    assert client.info("server")["engine"] == "sqlite"
    assert server.stop() == 0


def test_many_clients_are_served_by_one_transaction_of_sqlite(
    start_server: StartServer, flags: tuple[str, ...], tmp_path: Path
) -> None:
    """The commits of a tick stand together in the journal, and no reply comes before them."""
    server = start_server(*flags)
    clients = [server.connect() for _ in range(20)]
    with server.paused():
        for number, client in enumerate(clients):
            client.send(f"PUT k{number} v")
        for client in clients:
            client.wait_sent()
    assert [client.reply()["status"] for client in clients] == ["Ok"] * 20
    server.kill()
    log = (tmp_path / "data" / "kvs.db-wal").read_bytes()
    commits = sum(log[at + 4 : at + 8] != bytes(4) for at in range(32, len(log), 4096 + 24))
    assert commits < 10  # the schema, and a few ticks: not twenty
    assert start_server(*flags).connect().ask("COUNT")["result"] == 20


@pytest.mark.one_build
def test_a_second_server_is_refused(start_server: StartServer, flags: tuple[str, ...]) -> None:
    """In one line that names the directory and the first, with exit code 1."""
    server = start_server(*flags)
    ran = run_to_end("--port", "0", *flags)
    assert ran.returncode == 1
    assert ran.stderr == f"kvs: data_dir: {flags[3]} is in use by process {server.pid}; one at a time\n"


@pytest.mark.one_build
def test_the_directory_may_be_set_in_the_file(start_server: StartServer, tmp_path: Path) -> None:
    """With the options of the engine beside it."""
    file = tmp_path / "kvs.toml"
    file.write_text(
        f'data_dir = "{tmp_path}/data"\n[storage]\nengine = "sqlite"\n[storage.sqlite]\ndurability = "normal"\n'
    )
    server = start_server("--config", str(file))
    server.connect().ok("PUT a 1")
    assert server.stop() == 0
    assert (tmp_path / "data" / "kvs.db").exists()
    ran = run_to_end("config", "--config", str(file))
    assert [line.split() for line in ran.stdout.splitlines()][-2][:3] == [
        "storage.sqlite.durability",
        "normal",
        str(file),
    ]


@pytest.mark.one_build
def test_a_directory_that_is_not_used_is_warned_of(start_server: StartServer, tmp_path: Path) -> None:
    """Who gives one expects that something is kept."""
    server = start_server("--storage", "memory", "--data-dir", str(tmp_path / "data"))
    assert server.wait_for("data_dir_unused")["engine"] == "memory"
    assert not (tmp_path / "data").exists()


def test_other_programs_may_read_the_file_and_back_it_up(
    start_server: StartServer, flags: tuple[str, ...], tmp_path: Path
) -> None:
    """While clients write: what they read is the data set at one moment, in which every pair of keys is equal."""
    server = start_server(*flags, "--storage-option", "max_journal_bytes=1MiB")
    done = threading.Event()
    failures: list[str] = []

    def write(client: Client, pair: int) -> None:
        number = 0
        while not done.is_set():
            number += 1
            lines = ["START", *(f"PUT {side}{pair} {number}{'x' * 500}" for side in "ab"), "COMMIT"]
            client.send(*lines)
            failures.extend(str(reply) for reply in client.replies(4) if reply["status"] != "Ok")

    threads = [threading.Thread(target=write, args=(server.connect(), pair)) for pair in range(4)]
    for thread in threads:
        thread.start()
    try:
        server.wait_for("journal_compacted")
        for number in range(3):
            copy = tmp_path / f"copy{number}"
            ran = run_to_end("backup", flags[3], str(copy))
            assert (ran.returncode, ran.stdout[: len(str(copy))]) == (0, str(copy)), ran.stderr
            for path in (copy, Path(flags[3])):
                with closing(sqlite3.connect(f"file:{path}/kvs.db?mode=ro", uri=True)) as connection:
                    found = dict(connection.execute("SELECT key, value FROM data"))
                assert len(found) == 8
                assert all(found[b"a%d" % pair] == found[b"b%d" % pair] for pair in range(4))
            assert run_to_end("verify", flags[3]).returncode == 0
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []


@pytest.mark.one_build
def test_verify_tells_of_damage(start_server: StartServer, flags: tuple[str, ...]) -> None:
    """And so does a start: one line, exit code 1, and nothing is served."""
    server = start_server(*flags)
    server.connect().ok(*(f"PUT k{number} {'v' * 100}" for number in range(100)))
    assert server.stop() == 0
    path = Path(flags[3]) / "kvs.db"
    data = path.read_bytes()
    at = data.index(b"k50" + b"v" * 100)
    path.write_bytes(data[:at] + b"K" + data[at + 1 :])
    for arguments in (("verify", flags[3]), ("serve", "--port", "0", "--log-level", "error", *flags)):
        ran = run_to_end(*arguments)
        assert ran.returncode == 1
        (line,) = ran.stderr.splitlines()
        assert line.startswith(f"kvs: {path}: is damaged: row 51 of the journal is damaged")


@pytest.mark.one_build
def test_installed_engines_are_listed() -> None:
    """With what they promise; and the options of one, with every way to give them."""
    ran = run_to_end("engines")
    rows = [line.split(maxsplit=4) for line in ran.stdout.splitlines()]
    assert [row[:4] for row in rows] == [
        ["NAME", "DURABLE", "SHARED", "BLOCKING"],
        ["memory", "no", "no", "no"],
        ["sqlite", "yes", "no", "no"],
        ["etcd", "yes", "yes", "no"],
    ]
    ran = run_to_end("engines", "sqlite")
    for word in (
        "durable: yes, shared: no, blocking: no",
        "durability",
        "full, normal, off",
        "KVS_STORAGE_SQLITE_DURABILITY",
        "[storage.sqlite]",
    ):
        assert word in ran.stdout
    assert run_to_end("engines", "nope").returncode == 2


def test_what_was_read_is_told_before_anybody_is_let_in(start_server: StartServer, flags: tuple[str, ...]) -> None:
    """Keys, rows of the journal, bytes and rate."""
    server = start_server(*flags)
    client = server.connect()
    client.ok(*(f"PUT k{number} v" for number in range(1000)))
    assert server.stop() == 0
    server = start_server(*flags)
    events = [event["event"] for event in server.events()]
    assert events.index("loaded") < events.index("listening")
    loaded = server.wait_for("loaded")
    assert loaded["journal_rows"] == 1000
    assert loaded["bytes"] == sum(len(f"k{number}v") for number in range(1000))
    assert loaded["rows_per_s"] > 0
