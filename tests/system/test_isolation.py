"""Several clients at once: what conflicts, what does not, and what a client that is gone leaves behind."""

from collections.abc import Callable

import pytest

from tests.support.harness import OK, Client, Server, polling

from .conftest import TRANSPORTS_AND_ENGINES, flags_of

LEAVE: dict[str, Callable[[Client], None]] = {"reset": Client.reset, "close": Client.close}


@pytest.fixture(scope="session", params=TRANSPORTS_AND_ENGINES)
def transport_flags(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the flags that choose the transport under test, or an engine that blocks."""
    return flags_of(request.param)


def test_lost_update_conflicts(server: Server) -> None:
    """Of two that read and then write the same key, the second to commit gets ``conflict``, and may retry."""
    one, two = server.connect(), server.connect()
    one.ok("PUT n 10")
    for client in (one, two):
        client.ok("START", "GET n")
    one.ok("PUT n 11")
    two.ok("PUT n 12")
    assert one.ask("COMMIT") == OK
    refused = two.ask("COMMIT")
    assert refused["code"] == "conflict"
    assert '"n"' in refused["mesg"]
    assert two.ask("ROLLBACK")["code"] == "no_transaction"
    assert two.get("n") == "11"
    two.ok("START", "GET n", "PUT n 12", "COMMIT")
    assert one.get("n") == "12"


def test_write_skew_conflicts(server: Server) -> None:
    """Of two that read both keys and write one each, the second to commit gets ``conflict``."""
    one, two = server.connect(), server.connect()
    one.ok("PUT a 1", "PUT b 1")
    for client in (one, two):
        client.ok("START", "GET a", "GET b")
    one.ok("PUT a 0")
    two.ok("PUT b 0")
    assert one.ask("COMMIT") == OK
    assert two.ask("COMMIT")["code"] == "conflict"
    assert (two.get("a"), two.get("b")) == ("0", "1")


def test_phantom_conflicts(server: Server) -> None:
    """A key that appears under a prefix that was listed or counted is a conflict."""
    one, two = server.connect(), server.connect()
    for read in ("KEYS user.", "COUNT user."):
        two.ok("START", read, "PUT total 1")
        one.ok(f"PUT user.{read[0]} x")
        assert two.ask("COMMIT")["code"] == "conflict"


def test_read_only_transaction_never_conflicts(server: Server) -> None:
    """A transaction that writes nothing commits, whatever has happened to what it read, and reads one snapshot."""
    one, two = server.connect(), server.connect()
    one.ok("PUT a 1", "PUT b 1")
    two.ok("START", "GET a", "KEYS", "COUNT")
    one.ok("PUT a 2", "PUT b 2", "PUT c 2", "DEL a")
    assert two.get("b") == "1"
    assert two.ask("COMMIT") == OK


def test_read_only_transaction(server: Server) -> None:
    """START READONLY reads one snapshot, holds the same however much it reads, and refuses to write."""
    one, two = server.connect(), server.connect()
    one.ok(*(f"PUT key{number} 1" for number in range(500)))
    two.ok("START READONLY")
    one.ok("PUT key1 2", "DEL key2", "PUT key 2")
    held_bytes = two.info("session")["transaction_bytes"]
    two.ok("START", *(f"GET key{number}" for number in range(500)), "KEYS", "COUNT", "COMMIT")
    assert two.info("session")["transaction_bytes"] == held_bytes
    refused = [two.ask(line) for line in ("PUT key1 3", "DEL key1", "DEL none")]
    assert [(reply["code"], "READONLY" in reply["mesg"]) for reply in refused] == [("usage", True)] * 3
    assert [two.get(key) for key in ("key1", "key2", "key")] == ["1", "1", None]
    assert two.ask("COUNT")["result"] == 500
    assert two.ask("COMMIT") == OK
    assert [two.get(key) for key in ("key1", "key2", "key")] == ["2", None, "2"]
    two.ok("PUT key1 3", "START", "PUT key1 4")
    assert two.ask("START READONLY")["code"] == "usage"
    two.ok("COMMIT")
    assert one.get("key1") == "4"


def test_blind_write_never_conflicts(server: Server) -> None:
    """A transaction that reads nothing commits, whoever has written the key meanwhile."""
    one, two = server.connect(), server.connect()
    two.ok("START", "PUT a blind")
    one.ok("PUT a 1", "DEL a", "PUT a 2")
    assert two.ask("COMMIT") == OK
    assert one.get("a") == "blind"


def test_reading_own_writes_observes_nothing(server: Server) -> None:
    """What a transaction reads of its own pending writes does not make it conflict."""
    one, two = server.connect(), server.connect()
    two.ok("START", "PUT a mine", "GET a", "START", "GET a", "DEL a", "COMMIT")
    one.ok("PUT a theirs")
    assert two.ask("COMMIT") == OK
    assert one.get("a") is None


def test_reads_of_rolled_back_frame_count(server: Server) -> None:
    """What was read in an inner frame that was rolled back is still observed."""
    one, two = server.connect(), server.connect()
    two.ok("START", "START", "GET a", "ROLLBACK", "PUT b 1")
    one.ok("PUT a 1")
    assert two.ask("COMMIT")["code"] == "conflict"
    assert two.get("b") is None


def test_others_see_all_or_nothing(server: Server) -> None:
    """Nothing of a transaction is seen before its outermost COMMIT, and then everything."""
    one, two = server.connect(), server.connect()
    one.ok("PUT gone x")
    two.ok("START", "PUT a 1", "DEL gone", "START", "PUT b 2", "COMMIT")
    assert [one.get(key) for key in ("a", "b", "gone")] == [None, None, "x"]
    two.ok("COMMIT")
    assert [one.get(key) for key in ("a", "b", "gone")] == ["1", "2", None]


@pytest.mark.parametrize("leave", LEAVE)
def test_client_gone_in_mid_transaction(server: Server, leave: str) -> None:
    """A client that is reset or closes in mid-transaction leaves no write, no snapshot and no memory behind."""
    watcher = server.connect()
    watcher.ok("PUT a before")
    held_bytes = watcher.info("server")["clients_bytes"]
    client = server.connect()
    client.ok("START", "PUT a after", "START", "PUT b after", "GET c")
    watcher.ok("PUT a meanwhile", "PUT c meanwhile")  # makes the engine keep old values for the snapshot
    assert watcher.info("server")["open_transactions"] == 1
    LEAVE[leave](client)
    left = server.wait_left(client)
    assert (left["committed"], left["conflicted"], left["aborted"]) == (0, 0, 1)
    assert [watcher.get(key) for key in "abc"] == ["meanwhile", None, "meanwhile"]
    for _ in polling("what was kept for the snapshot is dropped"):
        figures = watcher.info("server")
        if not figures.get("history_bytes"):  # an engine may have none
            break
    assert figures["open_transactions"] == 0
    assert figures["clients"] == 1
    assert figures["clients_bytes"] == held_bytes


@pytest.mark.parametrize("leave", LEAVE)
def test_clients_gone_while_they_are_owed_replies(server: Server, leave: str) -> None:
    """Clients that vanish with requests waiting and replies unread leave nothing behind, and hurt nobody."""
    watcher = server.connect()
    watcher.ok("PUT big " + "x" * 60_000)
    clients = [server.connect(receive_buffer_bytes=4096) for _ in range(20)]
    for client in clients:
        client.send("START", "PUT a 1", *["GET big"] * 500)
    for _ in polling("the server holds replies for them"):
        if watcher.info("server")["clients_bytes"] > len(clients) << 20:
            break
    for client in clients:
        LEAVE[leave](client)
    for client in clients:
        assert server.wait_left(client)["aborted"] == 1
    assert watcher.get("a") is None
    figures = watcher.info("server")
    assert figures["clients"] == 1
    assert figures["clients_bytes"] < 1 << 10


def test_exit_aborts_the_transaction(server: Server) -> None:
    """EXIT in mid-transaction undoes it, and runs nothing that comes after."""
    client, other = server.connect(), server.connect()
    client.send("START", "PUT a 1", "EXIT", "COMMIT", "PUT b 1")
    assert client.rest() == [OK, OK, OK]
    client.close()
    assert server.wait_left(client)["aborted"] == 1
    assert [other.get(key) for key in "ab"] == [None, None]


def test_end_of_input_aborts_the_transaction(server: Server) -> None:
    """A half-close in mid-transaction undoes it, after every reply."""
    client, other = server.connect(), server.connect()
    client.send("START", "PUT a 1", "GET a")
    client.half_close()
    assert client.rest() == [OK, OK, {"status": "Ok", "result": "1"}]
    client.close()
    assert server.wait_left(client)["aborted"] == 1
    assert other.get("a") is None


def test_counters_under_contention(server: Server) -> None:
    """Increments by many clients that retry on conflict are all counted, none twice."""
    clients = [server.connect() for _ in range(8)]
    clients[0].ok("PUT n 0")
    before = clients[0].info("server")
    committed = 0
    while committed < 200:
        for client in clients:
            client.send("START", "GET n")
        seen = [int(client.replies(2)[1]["result"]) for client in clients]
        for client, number in zip(clients, seen, strict=True):
            client.send(f"PUT n {number + 1}", "COMMIT")
        outcomes = [client.replies(2)[1] for client in clients]
        committed += outcomes.count(OK)
        assert all(outcome == OK or outcome["code"] == "conflict" for outcome in outcomes)
        assert outcomes.count(OK) == 1
    assert clients[0].get("n") == str(committed)
    figures = clients[0].info("server")
    assert figures["commits"] - before["commits"] == committed
    assert figures["conflicts"] - before["conflicts"] == committed * (len(clients) - 1)
