"""The bounds on what is stored and what a transaction holds, just below, at and just above."""

import re
from pathlib import Path

import pytest

from tests.support.harness import OK, PONG, Client, Server, codes

from .conftest import StartServer


@pytest.fixture(scope="session")
def transport_flags() -> tuple[str, ...]:
    """Return no flags: no transport has a say in this."""
    return ()


# Keys and values.


def test_max_key_bytes(start_server: StartServer) -> None:
    """A key may have max_key_bytes and no more, in every command; the connection goes on."""
    server = start_server("--max-key-bytes", "10")
    client = server.connect()
    for size, code in ((9, None), (10, None), (11, "too_large")):
        key = "k" * size
        lines = [f"PUT {key} 1", f"GET {key}", f"DEL {key}", f"KEYS {key}", f"COUNT {key}"]
        assert codes(client, *lines) == [code] * len(lines)
    assert codes(client, "PUT żżżżż 1", "PUT żżżżżx 1") == [None, "too_large"]
    assert client.info("server")["keys"] == 1


def test_key_limit_in_a_transaction(start_server: StartServer) -> None:
    """A key that is too long leaves the transaction as it was."""
    client = start_server("--max-key-bytes", "10").connect()
    assert codes(client, "START", "PUT a 1", "PUT " + "k" * 11 + " 1", "COMMIT") == [None, None, "too_large", None]
    assert client.get("a") == "1"


def test_max_value_bytes(start_server: StartServer) -> None:
    """A value may have max_value_bytes and no more; the connection goes on, and the key keeps its value."""
    client = start_server("--max-value-bytes", "100").connect()
    for size, code in ((99, None), (100, None), (101, "too_large"), (1000, "too_large")):
        assert codes(client, f"PUT k {'v' * size}") == [code]
    assert client.get("k") == "v" * 100
    assert codes(client, "PUT k " + "ż" * 50, "PUT k " + "ż" * 50 + "x") == [None, "too_large"]


def test_default_limits_of_keys_and_values(server: Server) -> None:
    """By default a key may have 8192 bytes and a value 16 MiB."""
    client = server.connect()
    key, value = "k" * 8192, "v" * (16 << 20)
    client.send_behind(f"PUT {key} {value}\nPUT {key}k 1\nPUT {key} {value}v\nGET {key}\n".encode())
    replies = client.replies(4)
    assert [reply.get("code") for reply in replies] == [None, "too_large", "too_large", None]
    assert replies[3]["result"] == value


# Transactions.

TRANSACTION = ("START", "PUT a 1", "GET b", "START", "PUT a " + "2" * 300, "KEYS pre", "START")
"""Something of all that a transaction retains: pending values, shadowed ones, the read set and frames."""


def test_max_transaction_bytes(server: Server, start_server: StartServer) -> None:
    """A transaction may hold max_transaction_bytes and no more; who would exceed it keeps the transaction."""
    client = server.connect()
    client.ok(*TRANSACTION, "PUT z 12345")
    size = client.info("session")["transaction_bytes"]
    assert size > 300
    client = start_server("--max-transaction-bytes", str(size)).connect()
    for value, code in (("1234", None), ("12345", None), ("123456", "limit")):
        client.ok(*TRANSACTION)
        assert codes(client, f"PUT z {value}") == [code]
        assert client.info("session")["depth"] == 3
        client.ok("COMMIT", "COMMIT", "COMMIT")
        assert client.get("a") == "2" * 300
        assert client.get("z") == (None if code else value)
        client.ok("DEL z")


def test_everything_retained_counts(server: Server, start_server: StartServer) -> None:
    """Reads and frames count against max_transaction_bytes as writes do."""
    limit = 2000
    measuring = server.connect()
    client = start_server("--max-transaction-bytes", str(limit)).connect()
    for request in ("GET other", "DEL other", "KEYS other", "COUNT other", "START", "PUT other value"):
        measuring.ok("START", "PUT a ")
        before = measuring.info("session")["transaction_bytes"]
        measuring.ok(request)
        size = measuring.info("session")["transaction_bytes"]
        assert size > before
        measuring.ok(*["ROLLBACK"] * measuring.info("session")["depth"])
        for padding, code in ((limit - size - 1, None), (limit - size, None), (limit - size + 1, "limit")):
            assert codes(client, "START", "PUT a " + "x" * padding, request) == [None, None, code]
            client.ok(*["COMMIT"] * client.info("session")["depth"])
            assert client.get("a") == "x" * padding
            client.ok("DEL other")


def test_max_transaction_depth(start_server: StartServer) -> None:
    """START may nest max_transaction_depth levels and no more; the transaction stays as it was."""
    client = start_server("--max-transaction-depth", "3").connect()
    assert codes(client, "START", "START", "START", "PUT a 1", "START") == [None, None, None, None, "limit"]
    assert client.info("session")["depth"] == 3
    assert codes(client, "COMMIT", "START", "COMMIT", "COMMIT", "COMMIT", "COMMIT") == [None] * 5 + ["no_transaction"]
    assert client.get("a") == "1"


def test_default_depth(server: Server) -> None:
    """By default 1024 levels are allowed."""
    client = server.connect()
    assert codes(client, *["START"] * 1025) == [None] * 1024 + ["limit"]
    assert codes(client, "PUT a 1", *["COMMIT"] * 1025) == [None] * 1025 + ["no_transaction"]
    assert client.get("a") == "1"


# Data and history.


def test_max_data_bytes(start_server: StartServer) -> None:
    """The data set may hold max_data_bytes and no more; deletes and smaller values are never refused."""
    client = start_server("--max-data-bytes", "5000").connect()
    refusal = client.ask("PUT first " + "x" * 6000)
    assert refusal["code"] == "limit"
    found = re.search(r"this needs (\d+) more", refusal["mesg"])
    assert found is not None
    fits = 6000 - (int(found[1]) - 5000)
    for length, code in ((fits - 1, None), (fits, None), (fits + 1, "limit")):
        assert codes(client, "PUT first " + "x" * length) == [code]
        assert client.info("server")["keys"] == (0 if code else 1)
        client.ok("DEL first")
    client.ok("PUT first " + "x" * (fits - 1))
    overwriting = ["PUT first " + "x" * length for length in (fits, fits + 1, fits - 1)]
    assert codes(client, "PUT second 1", *overwriting) == ["limit", None, "limit", None]
    assert codes(client, "PUT first x", "PUT second 1", "DEL first", "DEL second") == [None] * 4
    assert codes(client, "PUT first " + "x" * fits) == [None]


def test_commit_beyond_max_data_bytes(start_server: StartServer) -> None:
    """A COMMIT that would outgrow max_data_bytes is refused whole, and leaves the transaction open."""
    server = start_server("--max-data-bytes", "1000")
    client = server.connect()
    client.ok("PUT old " + "x" * 500, "START", "PUT new " + "y" * 500)
    assert codes(client, "COMMIT") == ["limit"]
    assert client.info("session")["depth"] == 1
    assert client.get("new") == "y" * 500
    assert server.connect().get("new") is None
    client.ok("DEL old", "COMMIT")
    assert server.connect().get("new") == "y" * 500


OFTEN = ("--input-timeout-s", "0.4")
"""Has the server look more often for transactions that are to be ended: four times within the shortest timeout."""


def keep_history(reader: Client, writer: Client, length: int) -> None:
    """Make the engine keep an old value for a reader."""
    writer.ok("PUT a " + "1" * length)
    reader.ok("START", "PUT mine 1")
    writer.ok("PUT a 2")


def test_max_history_bytes(server: Server, start_server: StartServer) -> None:
    """Old versions may take max_history_bytes and no more; then the transaction gets ``timeout`` and the end."""
    writer = server.connect()
    keep_history(server.connect(), writer, 5000)
    size = writer.info("server")["history_bytes"]
    assert size > 5000
    server = start_server("--max-history-bytes", str(size), *OFTEN)
    writer = server.connect()
    for length in (4999, 5000):
        reader = server.connect()
        keep_history(reader, writer, length)
        assert reader.get("a") == "1" * length
        reader.ok("ROLLBACK")
    reader = server.connect()
    keep_history(reader, writer, 5001)
    (ended,) = reader.rest()
    assert ended["code"] == "timeout"
    assert "max_history_bytes" in ended["mesg"]
    assert server.wait_left(reader)["aborted"] == 1
    assert writer.get("mine") is None
    assert writer.info("server")["open_transactions"] == 0


def test_history_ends_the_oldest_transaction(start_server: StartServer) -> None:
    """Only the oldest transaction has to go; a younger one reads its snapshot on."""
    server = start_server("--max-history-bytes", "10000", *OFTEN)
    oldest, younger, writer = (server.connect() for _ in range(3))
    writer.ok("PUT a " + "a" * 6000, "PUT b " + "b" * 6000)
    oldest.ok("START")
    assert oldest.get("a") == "a" * 6000
    writer.ok("PUT a new")
    younger.ok("START")
    assert younger.get("a") == "new"
    writer.ok("PUT b new")
    assert [reply["code"] for reply in oldest.rest()] == ["timeout"]
    assert younger.get("b") == "b" * 6000
    younger.ok("COMMIT")


def test_command_in_a_transaction_that_history_ended(start_server: StartServer) -> None:
    """A command that reaches an expired snapshot first gets the ``timeout`` line itself, and only that."""
    server = start_server("--max-history-bytes", "100")
    reader, writer = server.connect(), server.connect()
    writer.ok("PUT a " + "1" * 5000)
    reader.ok("START")
    assert writer.ask("PING") == PONG  # the last to be served is the first when both send at once
    with server.paused():
        writer.send("PUT a 2")
        writer.wait_sent()
        reader.send("GET a", "PUT b 1", "COMMIT", "PUT c 1")
        reader.wait_sent()
    assert [reply["code"] for reply in reader.rest()] == ["timeout"]
    assert [writer.reply(), writer.ask("COUNT")] == [OK, {"status": "Ok", "result": 1}]


# All of them.


def test_settings_file_sets_limits(start_server: StartServer, tmp_path: Path) -> None:
    """A limit works alike from the file, the environment and the command line, the nearer winning."""
    file = tmp_path / "kvs.toml"
    file.write_text("max_value_bytes = 10\nmax_key_bytes = 10\nmax_transaction_depth = 1\n", encoding="utf-8")
    server = start_server(
        "--config", str(file), "--max-key-bytes", "3", env={"KVS_MAX_VALUE_BYTES": "5", "KVS_MAX_KEY_BYTES": "4"}
    )
    client = server.connect()
    assert codes(client, "PUT abc 12345", "PUT abcd 1", "PUT abc 123456") == [None, "too_large", "too_large"]
    assert codes(client, "START", "START") == [None, "limit"]
