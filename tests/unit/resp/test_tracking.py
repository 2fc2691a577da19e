"""CLIENT TRACKING: who is told of which changes, in which order, and what is never told."""

import io
from typing import Final

import pytest

from kvs.adapters.inbound.line.connection import line_protocol
from kvs.adapters.inbound.line.limits import LineLimits
from kvs.adapters.inbound.protocol import tracking as tracking_module
from kvs.adapters.inbound.protocol.connection import TOO_SLOW
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.resp.connection import RespConnection
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.application.changes import MAX_KEYS
from kvs.domain.commit import CommitRequest
from kvs.domain.errors import OutcomeUnknownError
from kvs.domain.values import Value
from kvs.logs import make_logger
from kvs.override import override
from tests.support.naive_storage import NaiveStorage
from tests.support.resp_connection import RespServer, ask
from tests.support.resp_wire import NULL_ARRAY, OK, QUEUED, Reply, Typed, error, read_reply, request, words
from tests.support.sessions import UNLIMITED, output_of
from tests.support.users import open_to_all

ALL: Final = Typed("_", None)


def told(*keys: bytes) -> Typed:
    """Return the message that these keys have changed."""
    return Typed(">", [b"invalidate", list(keys)])


TOLD_ALL: Final = Typed(">", [b"invalidate", ALL])


@pytest.fixture
def server() -> RespServer:
    """Return a server."""
    server = RespServer(storage=MemoryStorage(0, UNLIMITED))
    server.limits.max_value_bytes = 100
    server.limits.max_arguments = 100_000
    return server


def tracking(server: RespServer, options: str = "") -> RespConnection:
    """Return a client that tracks."""
    connection = server.connect()
    ask(connection, b"HELLO", 3)
    assert said(connection, f"CLIENT TRACKING ON {options}") == [OK]
    return connection


def received(connection: RespConnection) -> list[Reply]:
    """Return all that has come for a client, in order."""
    output = output_of(connection)
    stream = io.BytesIO(output)
    replies = []
    while stream.tell() < len(output):
        replies.append(read_reply(stream))
    return replies


def said(connection: RespConnection, *lines: str) -> list[Reply]:
    """Return what comes for a client that has sent some requests, in this tick."""
    connection.receive(b"".join([request(*words(line)) for line in lines]))
    while connection.backlog:
        connection.resume()
    return received(connection)


def news(server: RespServer, connection: RespConnection) -> list[Reply]:
    """Return what comes for a client by the end of the tick."""
    server.tell()
    return received(connection)


def values_of(*lines: str, server: RespServer) -> RespConnection:
    """Run requests of another client, which does not track."""
    connection = server.connect()
    said(connection, *lines)
    return connection


# What is tracked.


@pytest.mark.parametrize(
    "read", ["GET a", "MGET b a", "EXISTS a", "TTL a", "TYPE a", "STRLEN a", "OBJECT ENCODING a", "BITCOUNT a"]
)
@pytest.mark.parametrize(
    "write",
    [
        *("SET a 2", "DEL a", "APPEND a x", "EXPIRE a 100", "MSET x 1 a 1", "RENAME a c", "RENAME b a", "GETDEL a"),
        *("COPY b a REPLACE", "SETBIT a 1 1", "GETEX a EX 100", "BITOP NOT a b"),
    ],
)
def test_a_key_that_was_read(server: RespServer, read: str, write: str) -> None:
    """Is told once, whichever command has read it, and whichever has changed it."""
    values_of("MSET a 1 b 2", server=server)
    client = tracking(server)
    said(client, read)
    assert news(server, client) == []
    values_of(write, server=server)
    messages = news(server, client)
    keys = [key for message in messages for key in message.value[1]]  # type: ignore[union-attr,index]
    assert b"a" in keys
    assert len(messages) == 1
    values_of("SET a 3", "SET b 3", server=server)
    news(server, client)
    values_of("SET a 4", server=server)
    assert news(server, client) == []
    server.assert_nothing_is_left()


@pytest.mark.parametrize("write", ["SET a 1", "DEL b", "PERSIST a", "SETNX a 2", "GETEX a", "GET a", "SET c 1 XX"])
def test_what_changes_nothing_that_was_read(server: RespServer, write: str) -> None:
    """Is not told."""
    values_of("SET a 1", server=server)
    client = tracking(server)
    said(client, "GET x", "SET a 5", "APPEND c x", "GETDEL c", "WATCH a", "UNWATCH")
    news(server, client)
    values_of(write, server=server)
    assert news(server, client) == []


def test_keys_that_are_stored_in_another_form(server: RespServer) -> None:
    """Are told as the client knows them."""
    client = tracking(server)
    said(client, r'GET "\xff\x00x"')
    values_of(r'SET "\xff\x00x" 1', server=server)
    assert news(server, client) == [told(b"\xff\x00x")]


def test_messages_stand_behind_replies(server: RespServer) -> None:
    """Those of the client that has made the change, too; changes of a tick come together."""
    client = tracking(server)
    client.receive(request("MGET", "a", "b") + request("SET", "a", "1") + request("SET", "b", "1"))
    server.tell()
    replies = received(client)
    assert replies[1:3] == [OK, OK]
    assert replies[3:] == [told(b"a", b"b")]


def test_a_value_that_was_read_after_the_change(server: RespServer) -> None:
    """Is not told: the client has the new one, though the change is only now durable."""
    client = tracking(server)
    assert said(client, "SET a 1", "GET a") == [OK, b"1"]
    assert news(server, client) == []
    values_of("SET a 2", server=server)
    assert news(server, client) == [told(b"a")]


def test_nothing_is_told_that_is_not_durable(server: RespServer) -> None:
    """The tick hands over what its sync has made durable, and nothing else leaves."""
    client = tracking(server)
    said(client, "GET a")
    values_of("SET a 1", server=server)
    server.bench.tracking.step()
    assert received(client) == []
    assert news(server, client) == [told(b"a")]


def test_the_line_protocol(server: RespServer) -> None:
    """Changes what RESP has read."""
    client = tracking(server)
    log = make_logger("info", "json", server.bench.log)
    line = line_protocol(LineLimits(100, 100, 1000, 1 << 20), server.bench.budget, Observation(), open_to_all(), log)(
        server.bench.open(), None
    )
    said(client, "MGET a b")
    line.receive(b"PUT a 1\n")
    assert news(server, client) == [told(b"a")]
    line.receive(b"START\nPUT b 1\nROLLBACK\nSTART\nPUT b 1\n")
    assert news(server, client) == []
    line.receive(b"COMMIT\n")
    assert news(server, client) == [told(b"b")]
    line.close()


def test_expiry(server: RespServer) -> None:
    """Is a change like any other, by nobody."""
    client = tracking(server, "NOLOOP")
    said(client, "SET a 1 PX 500", "GET a")
    news(server, client)
    server.pass_time(1)
    assert news(server, client) == [told(b"a")]


def test_a_record_that_a_command_finds_due(server: RespServer) -> None:
    """Is deleted by that command, and told."""
    server.bench.expiry._steps_per_tick = 0  # so that no tick deletes anything
    client = tracking(server)
    said(client, "SET a 1 PX 500", "GET a")
    news(server, client)
    server.pass_time(1)
    assert news(server, client) == []
    assert ask(values_of(server=server), b"GET", b"a") == Typed("$", None)
    assert news(server, client) == [told(b"a")]


@pytest.mark.parametrize("mode", ["", "NOLOOP", "BCAST", "BCAST PREFIX x NOLOOP", "OPTIN"])
@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB"])
def test_deleting_everything(server: RespServer, mode: str, command: str) -> None:
    """Is told to everybody, whether they have read anything or not; nothing is tracked any more."""
    client = tracking(server, mode)
    said(client, "GET a")
    assert said(client, command) == [OK]
    assert news(server, client) == [TOLD_ALL]
    assert len(server.bench.tracking.table) == 0
    server.assert_nothing_is_left()


def test_everything_in_a_transaction(server: RespServer) -> None:
    """Is told when it is committed, with what was written then."""
    client = tracking(server)
    said(client, "GET a")
    other = values_of("START", "FLUSHALL", "SET a 1", server=server)
    assert news(server, client) == []
    said(other, "COMMIT")
    said(client, "GET a")
    assert news(server, client) == [TOLD_ALL]


class Unsure(NaiveStorage):
    """An engine that does not know what has become of a PUT."""

    @override
    def put(self, key: bytes, value: Value) -> None:
        raise OutcomeUnknownError("who knows")


def test_a_write_whose_outcome_is_unknown() -> None:
    """May have changed anything."""
    server = RespServer(storage=Unsure())
    server.limits.max_value_bytes = 100
    client = tracking(server)
    said(client, "GET a")
    values_of("SET a 1", server=server)
    assert news(server, client) == [TOLD_ALL]


# Modes.


def test_own_changes_are_told_unless_noloop(server: RespServer) -> None:
    """Of a single command, of EXEC, of COMMIT; with NOLOOP, what others change is told afterwards, too."""
    loop, noloop = tracking(server), tracking(server, "NOLOOP")
    for client, expected in ((loop, [told(b"a")]), (noloop, [])):
        for lines in (["SET a 1"], ["MULTI", "SET a 2", "EXEC"], ["START", "SET a 3", "COMMIT"], ["INCR a"]):
            said(client, "GET a")
            news(server, client)
            said(client, *lines)
            assert news(server, client) == expected
    values_of("SET a 5", server=server)
    assert news(server, noloop) == [told(b"a")]


def test_broadcast(server: RespServer) -> None:
    """Everything under the prefixes is told every time, whether it was read or not, once per tick; nothing else is."""
    client = tracking(server, "BCAST PREFIX user: PREFIX x")
    everything = tracking(server, "BCAST")
    said(client, "GET other")
    values_of("SET user:1 1", "SET user:1 2", "SET us 1", "SET other 1", server=server)
    server.tell()
    assert received(client) == [told(b"user:1")]
    assert received(everything) == [told(b"user:1", b"us", b"other")]
    values_of("SET user:1 3", "DEL x", "SET xy 1", server=server)
    messages = news(server, client)
    assert sorted(messages, key=repr) == sorted([told(b"user:1"), told(b"xy")], key=repr)
    assert len(server.bench.tracking.table) == 0
    server.assert_nothing_is_left()


def test_broadcast_without_own_changes(server: RespServer) -> None:
    """What another has changed as well is told."""
    one, other = tracking(server, "BCAST NOLOOP"), tracking(server, "BCAST NOLOOP")
    said(one, "SET a 1", "SET both 1")
    said(other, "SET b 1", "SET both 2")
    said(one, "SET both 3")
    server.tell()
    assert received(one) == [told(b"both", b"b")]
    assert received(other) == [told(b"a", b"both")]


def test_opt_in(server: RespServer) -> None:
    """Only the command after CLIENT CACHING YES is tracked, or the queue."""
    client = tracking(server, "OPTIN")
    said(client, "GET a", "CLIENT CACHING YES", "CLIENT GETNAME", "GET b", "GET c")
    said(client, "CLIENT CACHING YES", "MULTI", "GET d", "GET e", "EXEC", "GET f")
    said(client, "CLIENT CACHING YES", "FOO", "GET g")
    values_of("MSET a 1 b 1 c 1 d 1 e 1 f 1 g 1", server=server)
    assert news(server, client) == [told(b"b", b"d", b"e")]


def test_opt_out(server: RespServer) -> None:
    """Everything but the command after CLIENT CACHING NO."""
    client = tracking(server, "OPTOUT")
    said(client, "GET a", "CLIENT CACHING NO", "GET b", "GET c", "CLIENT CACHING NO", "MULTI", "GET d", "EXEC", "GET e")
    values_of("MSET a 1 b 1 c 1 d 1 e 1", server=server)
    assert news(server, client) == [told(b"a", b"c", b"e")]


# Transactions.


def test_a_queue(server: RespServer) -> None:
    """What its commands read is tracked when EXEC runs them; a value that it replaces itself is told."""
    client = tracking(server)
    said(client, "MULTI", "GET a", "GET b", "SET b 1", "MGET c d", "EXEC")
    assert news(server, client) == [told(b"b")]
    values_of("MSET a 1 c 1 d 1", server=server)
    assert news(server, client) == [told(b"a", b"c", b"d")]


def test_a_queue_that_is_not_run(server: RespServer) -> None:
    """Tells nothing: its changes were not made."""
    client = tracking(server)
    said(client, "GET a", "WATCH w")
    values_of("SET w 1", server=server)
    news(server, client)
    assert said(client, "MULTI", "SET a 1", "EXEC") == [OK, QUEUED, Typed("_", None)]
    assert news(server, client) == []
    said(client, "MULTI", "SET a 1", "DISCARD")
    assert news(server, client) == []


@pytest.mark.parametrize("end", ["ROLLBACK", "COMMIT", "RESET"])
def test_a_transaction_that_is_not_applied(server: RespServer, end: str) -> None:
    """Tells nothing: it was rolled back, or conflicted, or was aborted."""
    client = tracking(server)
    said(client, "GET a")
    other = values_of("START", "GET b", "SET a 1", server=server)
    values_of("SET b 1", server=server)
    assert news(server, client) == []
    said(other, end)
    assert news(server, client) == []


def test_reading_what_is_pending(server: RespServer) -> None:
    """Is told at once, behind the reply, as it may never be committed; and it is not tracked."""
    client = tracking(server)
    replies = said(client, "START", "SET a 1", "GET a", "DEL a", "MGET a b", "FLUSHALL", "GET b", "ROLLBACK")
    assert replies[2:4] == [b"1", told(b"a")]
    assert replies[5:7] == [[Typed("_", None)] * 2, told(b"a")]
    assert replies[8:10] == [Typed("_", None), told(b"b")]
    assert news(server, client) == []


def test_reading_from_an_old_snapshot(server: RespServer) -> None:
    """Is told at once, behind the reply, until the transaction has ended; one of the newest commit is tracked."""
    client = tracking(server)
    said(client, "START")
    assert said(client, "GET a") == [Typed("_", None)]
    values_of("SET a 1", server=server)
    assert news(server, client) == [told(b"a")]
    assert said(client, "GET a") == [Typed("_", None), told(b"a")]
    assert said(client, "GET b") == [Typed("_", None), told(b"b")]
    assert said(client, "ROLLBACK", "GET a") == [OK, b"1"]
    values_of("SET a 2", server=server)
    assert news(server, client) == [told(b"a")]


@pytest.mark.parametrize(("mode", "expected"), [("BCAST", told(b"a", b"b")), ("BCAST PREFIX a PREFIX c", told(b"a"))])
def test_an_old_snapshot_in_broadcast_mode(server: RespServer, mode: str, expected: Reply) -> None:
    """It is the same there, for keys under the prefixes."""
    client = tracking(server, mode)
    said(client, "START")
    assert said(client, "MGET a b") == [[Typed("_", None)] * 2]
    values_of("SET a 1", server=server)
    assert said(client, "MGET a b") == [[Typed("_", None)] * 2, expected]
    assert len(server.bench.tracking.table) == 0


def test_a_snapshot_from_before_anybody_tracked(server: RespServer) -> None:
    """Counts as old, since nobody has counted the changes since."""
    client = server.connect()
    said(client, "HELLO 3", "START")
    values_of("SET a 1", server=server)
    assert said(client, "CLIENT TRACKING ON", "GET a") == [OK, Typed("_", None), told(b"a")]


def test_a_long_read_that_others_overtake(server: RespServer) -> None:
    """The message waits for the reply, which may have the old value."""
    client = tracking(server)
    client.receive(request("MGET", *[b"%d" % number for number in range(500)]))
    assert client.backlog
    values_of("SET 7 1", server=server)
    assert news(server, client) == []
    while client.backlog:
        client.resume()
    reply, message = received(client)
    assert isinstance(reply, list)
    assert (len(reply), message) == (500, told(b"7"))


def test_a_long_read_from_an_old_snapshot(server: RespServer) -> None:
    """Everything that it has read is told at once, in several messages."""
    client = tracking(server)
    said(client, "START")
    values_of("SET x 1", server=server)
    keys = [b"%d" % number for number in range(500)]
    client.receive(request("MGET", *keys))
    while client.backlog:
        client.resume()
    reply, *messages = received(client)
    assert reply == [Typed("_", None)] * 500
    assert [key for message in messages for key in message.value[1]] == keys  # type: ignore[union-attr,index]


def test_a_long_queue(server: RespServer) -> None:
    """Its keys are registered in shares."""
    client = tracking(server)
    replies = said(client, "MULTI", *[f"GET {number}" for number in range(100)], "EXEC")
    assert len(replies[-1]) == 100  # type: ignore[arg-type]
    values_of("SET 7 1", "SET 99 1", server=server)
    assert news(server, client) == [told(b"7", b"99")]


# The end.


@pytest.mark.parametrize("end", ["CLIENT TRACKING OFF", "RESET", "HELLO 2", "QUIT"])
@pytest.mark.parametrize("mode", ["", "BCAST"])
def test_the_end_of_tracking(server: RespServer, end: str, mode: str) -> None:
    """Nothing is told any more, and nothing is held; nobody wants to know of changes."""
    client = tracking(server, mode)
    said(client, "GET a", end)
    assert server.bench.tracking.has_work
    assert news(server, client) == []
    assert not server.bench.changes.wanted
    values_of("SET a 1", server=server)
    assert news(server, client) == []
    assert server.bench.tracking.table.items == 0
    assert server.bench.budget.used_bytes == 0
    assert not server.bench.tracking.has_work


def test_one_that_leaves_does_not_end_it_for_others(server: RespServer) -> None:
    """Who has read the same key is still told."""
    one, other = tracking(server), tracking(server)
    said(one, "GET a")
    said(other, "GET a")
    one.close()
    server.tell()
    assert server.bench.tracking.table.items == 1
    values_of("SET a 1", server=server)
    assert news(server, other) == [told(b"a")]


def test_ending_and_beginning_in_one_packet(server: RespServer) -> None:
    """The new one stays."""
    client = tracking(server)
    said(client, "CLIENT TRACKING OFF", "CLIENT TRACKING ON BCAST")
    news(server, client)
    values_of("SET a 1", server=server)
    assert news(server, client) == [told(b"a")]
    said(client, "CLIENT TRACKING OFF", "CLIENT TRACKING ON", "CLIENT TRACKING OFF")
    server.tell()
    assert not server.bench.changes.wanted


def test_nothing_begins_in_a_queue(server: RespServer) -> None:
    """It would begin behind EXEC, and what the queue has read would not be tracked."""
    client = server.connect()
    ask(client, b"HELLO", 3)
    refused = said(client, "MULTI", "CLIENT TRACKING ON", "GET a", "EXEC")
    assert refused[1] == error("ERR CLIENT TRACKING is not allowed between MULTI and EXEC")
    assert len(server.bench.tracking) == 0


def test_no_message_follows_a_hello_in_a_queue(server: RespServer) -> None:
    """The client does not speak RESP3 any more; what it gets besides comes."""
    client = tracking(server, "BCAST")
    client.receive(request("MULTI") + request("HELLO", "2") + request("GET", "a") * 100)
    while client.backlog:
        client.resume(10)
    output_of(client)
    client.receive(request("EXEC"), 10)
    assert client.backlog
    values_of("SET a 1", server=server)
    server.tell()
    while client.backlog:
        client.resume(10)
    assert b">2" not in output_of(client)


def test_a_hello_in_a_queue_that_is_not_run(server: RespServer) -> None:
    """Does not end it."""
    client = tracking(server)
    said(client, "WATCH w", "GET a")
    values_of("SET w 1", server=server)
    assert said(client, "MULTI", "HELLO 2", "EXEC")[-1] in (NULL_ARRAY, Typed("_", None))
    values_of("SET a 1", server=server)
    assert told(b"a") in news(server, client)


# Bounds.


def test_the_table_is_bounded(server: RespServer) -> None:
    """Who has read the oldest keys is told that they have changed; the memory is that of all clients."""
    server.bench.tracking.max_keys = 10
    client = tracking(server)
    said(client, *[f"GET {number}" for number in range(500, 600)])
    before = server.bench.budget.used_bytes
    messages = news(server, client)
    evicted = [key for message in messages for key in message.value[1]]  # type: ignore[union-attr,index]
    assert set(evicted) >= {b"%d" % number for number in range(500, 590)}
    assert len(server.bench.tracking.table) <= 10
    assert server.bench.budget.used_bytes - before == server.bench.tracking.table.held_bytes
    said(client, "GET x")
    server.tell()
    assert server.bench.budget.used_bytes > before
    server.assert_nothing_is_left()


def test_the_table_gives_way_to_clients(server: RespServer) -> None:
    """If all of them together hold too much."""
    client = tracking(server)
    said(client, "GET a", "GET b")
    assert news(server, client) == []
    server.bench.budget.limit_bytes = server.bench.budget.used_bytes
    assert news(server, client) == [told(b"a", b"b")]
    assert len(server.bench.tracking.table) == 0


def test_many_changes_become_one_message(server: RespServer) -> None:
    """That all keys have changed: of one commit, of a tick, or while messages are behind."""
    changes, tracked = server.bench.changes, server.bench.tracking
    keys = [b"%d" % number for number in range(MAX_KEYS)]
    client = tracking(server)
    changes.add_commit(CommitRequest((), dict.fromkeys([*keys, b"x"], b"")), 7)
    assert news(server, client) == [TOLD_ALL]
    changes.add(keys, 7)
    changes.add([b"x"], 7)
    assert news(server, client) == [TOLD_ALL]
    for key in (b"x", b"y"):
        changes.add([*keys[1:], key], 7)
        tracked.became_durable(changes.take())
    assert news(server, client) == [TOLD_ALL]


def test_messages_leave_in_shares(server: RespServer) -> None:
    """However many clients, keys and prefixes there are, a tick does a bounded part; all is told in the end."""
    clients = [tracking(server, mode) for mode in ["", "BCAST", "BCAST NOLOOP", "BCAST PREFIX 1 PREFIX 2"] * 20]
    keys = [b"%d" % number for number in range(50)]
    for client in clients:
        ask(client, b"MGET", *keys)
    server.tell()
    server.bench.tracking._units = 50
    values_of("MSET " + " ".join(f"{number} 1" for number in range(50)), server=server)
    expected = [set(keys), set(keys), set(keys), {key for key in keys if key[:1] in b"12"}] * 20
    got: list[set[bytes]] = [set() for _ in clients]
    ticks = 0
    server.tell()
    while True:
        ticks += 1
        told_now = 0
        for at, client in enumerate(clients):
            for message in received(client):
                told_now += 1
                got[at].update(message.value[1])  # type: ignore[union-attr,index,arg-type]
        assert told_now <= 50 // tracking_module.PUSH_UNITS + 1
        if not server.bench.tracking.has_work:
            break
        server.tell()
    assert got == expected
    assert ticks > 80 * tracking_module.PUSH_UNITS // 50
    server.assert_nothing_is_left()


@pytest.mark.parametrize("room_bytes", [1 << 20, 20_000])
def test_a_client_that_reads_is_not_closed(room_bytes: int) -> None:
    """However much has changed at once: it gets no more in a tick than it may have unread."""
    server = RespServer(storage=MemoryStorage(0, UNLIMITED), max_key_bytes=1000)
    server.limits.max_value_bytes = 100
    server.limits.max_arguments = 100_000
    server.bench.tracking._units = 4000
    server.bench.tracking._tick_bytes = room_bytes
    client = tracking(server, "BCAST")
    client._room_bytes = room_bytes
    expected = {(b"%d" % number).ljust(number % 900, b"x") for number in range(9_000)}
    connection = server.connect()
    assert ask(connection, b"MSET", *(word for key in expected for word in (key, b"1"))) == OK
    found: set[bytes] = set()
    server.tell()
    while True:
        for message in received(client):
            found.update(message.value[1])  # type: ignore[union-attr,index,arg-type]
        if not server.bench.tracking.has_work:
            break
        server.tell()
    assert not client.closing
    assert found == expected


def test_nobody_begins_when_memory_has_run_out(server: RespServer) -> None:
    """Prefixes are given back by nobody but their client; to end it needs none."""
    client = tracking(server)
    server.bench.budget.used_bytes += server.bench.budget.limit_bytes
    (refused,) = said(client, "CLIENT TRACKING ON")
    assert isinstance(refused, Typed)
    assert refused.kind == "-"
    assert said(client, "CLIENT TRACKING OFF") == [OK]
    server.bench.budget.used_bytes -= server.bench.budget.limit_bytes


def test_a_client_that_does_not_read(server: RespServer) -> None:
    """Is closed when there is more for it than may be sent in a tick."""
    client = tracking(server, "BCAST")
    client._room_bytes = 1000
    client.output_full = True
    for number in range(100):
        values_of(f"SET {number} 1", server=server)
        server.tell()
    assert client.closing
    assert client.close_reason == TOO_SLOW
    assert 900 < len(output_of(client)) <= 1000
    assert len(server.bench.tracking) == 0
    server.assert_nothing_is_left()


def test_a_long_read_costs_its_keys(server: RespServer) -> None:
    """Registering 65,000 keys takes many shares, and so does telling of them."""
    client = tracking(server)
    client.receive(request("MGET", *[b"%d" % number for number in range(60_000)]))
    shares = 0
    while client.backlog:
        client.resume(1000)
        shares += 1
    registered_alone = 60_000 // tracking_module.KEYS_PER_UNIT // 100
    assert shares > registered_alone
    assert len(server.bench.tracking.table) == 60_000


def test_figures(server: RespServer) -> None:
    """INFO tells how much is tracked."""
    one, other = tracking(server), tracking(server)
    tracking(server, "BCAST PREFIX a PREFIX b")
    said(one, "MGET a b")
    said(other, "MGET a c")
    shown = ask(other, b"INFO")
    assert isinstance(shown, Typed)
    assert isinstance(shown.value, bytes)
    for figure in (
        b"tracking_clients:3",
        b"tracking_total_keys:3",
        b"tracking_total_items:4",
        b"tracking_total_prefixes:2",
    ):
        assert figure in shown.value


# Refusals.

SYNTAX: Final = error("ERR syntax error")
NO_RESP3: Final = error("ERR CLIENT TRACKING needs RESP3 (HELLO 3), and no REDIRECT: there is no pub/sub to send by")


def test_what_needs_pub_sub_is_refused(server: RespServer) -> None:
    """RESP2 and REDIRECT; OFF is not."""
    client = server.connect()
    assert said(client, "CLIENT TRACKING ON", "CLIENT TRACKING OFF") == [NO_RESP3, OK]
    ask(client, b"HELLO", 3)
    assert said(client, "CLIENT TRACKING ON REDIRECT 1") == [
        error("ERR The client ID you want redirect to does not exist")
    ]
    assert said(client, "CLIENT TRACKING ON REDIRECT x", "CLIENT GETREDIR") == [
        error("ERR value is not an integer or out of range"),
        -1,
    ]


def test_prefixes_are_bounded(server: RespServer) -> None:
    """In number and in length."""
    client = tracking(server, "BCAST " + " ".join(f"PREFIX {number}:" for number in range(1024)))
    assert said(client, "CLIENT TRACKING ON BCAST PREFIX a") == [error("ERR a client can have at most 1024 prefixes")]
    other = tracking(server, "BCAST PREFIX b")
    assert said(other, "CLIENT TRACKING ON BCAST PREFIX " + 101 * "a") == [
        error("ERR The prefix has 101 bytes; max_key_bytes is 100.")
    ]


def test_caching_in_a_queue_is_refused(server: RespServer) -> None:
    """It would come too late: what is about connections is run after the transaction."""
    client = tracking(server, "OPTIN")
    assert said(client, "MULTI", "CLIENT CACHING YES", "EXEC")[1:] == [
        error("ERR CLIENT CACHING is not allowed between MULTI and EXEC"),
        error("EXECABORT Transaction discarded because of previous errors."),
    ]
