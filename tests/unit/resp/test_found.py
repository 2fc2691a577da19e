"""What suspended commands have found for their replies counts in the memory of all clients, and is bounded by that."""

import pytest

from kvs.adapters.inbound.protocol.clients import ClientDescription, ClientRegistry
from kvs.adapters.inbound.protocol.connection import CHARGE_STEP_BYTES
from kvs.adapters.inbound.resp.commands.charged import LARGE_COPY_BYTES
from kvs.adapters.inbound.resp.connection import RespConnection
from kvs.application.transact import BehindError
from kvs.domain.commit import KeyRange
from kvs.override import override
from kvs.ports.session import LITTLE_BYTES, Session, Steps
from tests.support.resp_connection import RespServer, answer, ask
from tests.support.resp_wire import OK, PONG, Typed, request
from tests.support.sessions import output_of, run

SHARE = 10
VALUE = b"v" * 4000
NUMBER = 300
FOUND_BYTES = NUMBER * len(VALUE)
LIMIT_BYTES = 20 * FOUND_BYTES // 100

MGET = (b"MGET", *[b"value"] * NUMBER)

COLLECTING: list[list[tuple[bytes, ...]]] = [
    [MGET],
    [(b"START",), MGET],
    [(b"KEYS", b"*")],
    [(b"KEYS", b"*k*")],
    [(b"MULTI",), *[(b"GET", b"value")] * NUMBER, (b"EXEC",)],
    [(b"MULTI",), *[(b"GETRANGE", b"value", b"0", b"-1")] * NUMBER, (b"EXEC",)],
]
"""Requests of which the last one finds much, in many shares."""

collecting = pytest.mark.parametrize("requests", COLLECTING, ids=lambda one: one[-1][0].decode())


class OneClient(ClientRegistry):
    """Every client has the same description."""

    def __init__(self, connection: RespConnection) -> None:
        super().__init__()
        self._client = ClientDescription(connection, "1.2.3.4:5", "1.2.3.4:6", 7, 0.0, 0.0, 0, "r")

    @override
    def ids(self) -> list[int]:
        return [1]

    @override
    def describe(self, session_id: int) -> ClientDescription | None:
        return self._client

    @override
    def kill(self, session_id: int) -> bool:
        return False

    @override
    def requests(self) -> int:
        return 0


def filled() -> RespServer:
    """Return a server with a value, and with many long keys."""
    server = RespServer(max_tick_requests=SHARE, max_key_bytes=1000)
    server.limits.max_arguments = NUMBER + 1
    server.limits.max_value_bytes = server.limits.max_bulk_bytes = 1 << 20
    server.bench.storage.put(b"value", VALUE)
    for number in range(6000):
        server.bench.storage.put(b"k%0200d" % number, b"")
    return server


def begun(server: RespServer, requests: list[tuple[bytes, ...]]) -> RespConnection:
    """Return a connection whose last request has not begun to find anything."""
    connection = server.connect()
    for words in requests[:-1]:
        ask(connection, *words)
    connection.receive(request(*requests[-1]))
    return connection


def begun_and_limited(
    server: RespServer, requests: list[tuple[bytes, ...]]
) -> tuple[RespConnection, RespConnection, int]:
    """Return such a connection, another one, and what both hold; ``LIMIT_BYTES`` on top of that are too much."""
    connection, other = begun(server, requests), server.connect()
    begun_bytes = server.bench.budget.used_bytes
    server.bench.budget.limit_bytes = begun_bytes + LIMIT_BYTES
    return connection, other, begun_bytes


def run_until_held(server: RespServer, connection: RespConnection, held_bytes: int) -> None:
    """Go on until all clients hold so much."""
    while server.bench.budget.used_bytes < held_bytes:
        assert connection.backlog
        connection.resume()
    assert output_of(connection) == b""


def is_refused(reply: object) -> bool:
    """Return whether a reply says that clients hold too much."""
    return isinstance(reply, Typed) and b"LIMIT The clients together hold max_clients_bytes" in repr(reply).encode()


@collecting
def test_what_is_found_counts_while_it_is_collected(requests: list[tuple[bytes, ...]]) -> None:
    """So the gate refuses others what takes memory, and nothing else."""
    server = filled()
    connection, other, begun_bytes = begun_and_limited(server, requests)
    assert ask(other, b"STRLEN", b"value") == len(VALUE)
    run_until_held(server, connection, begun_bytes + LIMIT_BYTES)
    assert is_refused(ask(other, b"STRLEN", b"value"))
    assert ask(other, b"PING") == PONG


@collecting
def test_who_finds_more_than_clients_may_hold_is_refused(requests: list[tuple[bytes, ...]]) -> None:
    """It gives back all that it has found, and others go on."""
    server = filled()
    connection, other, begun_bytes = begun_and_limited(server, requests)
    assert is_refused(answer(connection))
    assert server.bench.budget.used_bytes <= begun_bytes + CHARGE_STEP_BYTES
    assert ask(other, b"STRLEN", b"value") == len(VALUE)
    assert ask(connection, b"STRLEN", b"value") == len(VALUE)
    assert connection.session.depth == (requests[0] == (b"START",))
    connection.close()
    server.assert_nothing_is_left()


@collecting
def test_what_was_found_is_given_back(requests: list[tuple[bytes, ...]]) -> None:
    """At the end the reply counts instead; and nothing, when the client leaves before."""
    server = filled()
    staying = begun(server, requests)
    assert not is_refused(answer(staying))
    staying.close()
    assert server.bench.budget.used_bytes == 0
    leaving = begun(server, requests)
    run_until_held(server, leaving, LIMIT_BYTES)
    leaving.close()
    server.assert_nothing_is_left()


def test_clients_together_find_no_more_than_they_may_hold() -> None:
    """A command that goes on at the limit is refused, so others can end; each may exceed it by a share."""
    server = filled()
    connections = [begun(server, [MGET]) for _ in range(20)]
    limit_bytes = server.bench.budget.limit_bytes = server.bench.budget.used_bytes + 3 * FOUND_BYTES
    most_bytes = 0
    while any(connection.backlog for connection in connections):
        for connection in connections:
            if connection.backlog:
                connection.resume()
            most_bytes = max(most_bytes, server.bench.budget.used_bytes)
    assert most_bytes < limit_bytes + len(connections) * (SHARE * len(VALUE) + CHARGE_STEP_BYTES) + LITTLE_BYTES
    whole = sum(len(output_of(connection)) > FOUND_BYTES for connection in connections)
    assert 0 < whole < len(connections)
    server.assert_nothing_is_left()


@pytest.mark.one_build
@pytest.mark.parametrize(
    "words", [(b"COMMAND", b"INFO", *[b"get"] * 4000), (b"CLIENT", b"LIST", b"ID", *[b"1"] * 4000)]
)
def test_descriptions_that_are_asked_for_again_and_again_count(words: tuple[bytes, ...]) -> None:
    """A short request may name the same thing many times."""
    server = filled()
    words = (*words, *words[-1:] * 4000)
    server.limits.max_arguments = len(words)
    server.shared.clients = OneClient(server.connect())
    connection = begun(server, [words])
    server.bench.budget.limit_bytes = server.bench.budget.used_bytes + LIMIT_BYTES
    assert is_refused(answer(connection))


def test_a_queue_writes_nothing_if_its_replies_are_too_much() -> None:
    """It is refused as a whole, before it is applied."""
    server = filled()
    queue = [(b"SET", b"written", b"x"), *[(b"GET", b"value")] * NUMBER]
    connection = begun(server, [(b"MULTI",), *queue, (b"EXEC",)])
    server.bench.budget.limit_bytes = server.bench.budget.used_bytes + LIMIT_BYTES
    assert is_refused(answer(connection))
    assert ask(connection, b"EXISTS", b"written") == 0


def test_a_queue_that_only_writes_is_run_however_much_clients_hold() -> None:
    """It gives memory back."""
    server = filled()
    connection = begun(server, [(b"MULTI",), *[(b"SET", b"written", VALUE)] * NUMBER, (b"EXEC",)])
    server.bench.budget.limit_bytes = 0
    assert answer(connection) == [OK] * NUMBER


HOLDERS: list[tuple[bytes, ...]] = [
    (b"BITOP", b"NOT", b"to", b"long"),
    (b"BITOP", b"OR", b"to", b"long", b"value"),
    (b"LCS", b"short", b"short"),
    (b"BITFIELD", b"long", *[b"SET", b"u8", b"0", b"1"] * 50),
    (b"GETRANGE", b"longer", b"0", b"-1"),
]
"""Requests that hold memory of their own until they end, beside what they find."""


def filled_for_holders() -> RespServer:
    """Return a server with the values that they use."""
    server = filled()
    server.limits.max_value_bytes = server.limits.max_bulk_bytes = 1 << 21
    server.bench.storage.put(b"long", bytes(100_000))
    server.bench.storage.put(b"longer", bytes(LARGE_COPY_BYTES))
    server.bench.storage.put(b"short", VALUE[:1000])
    return server


@pytest.mark.parametrize("words", HOLDERS, ids=lambda one: one[0].decode())
def test_what_a_command_holds_is_given_back(words: tuple[bytes, ...]) -> None:
    """When it ends, and when its client leaves before."""
    server = filled_for_holders()
    staying = begun(server, [words])
    run_until_held(server, staying, 90_000)
    assert not isinstance(answer(staying), Typed)
    assert server.bench.budget.used_bytes <= CHARGE_STEP_BYTES
    leaving = begun(server, [words])
    run_until_held(server, leaving, 90_000)
    leaving.close()
    assert server.bench.budget.used_bytes <= CHARGE_STEP_BYTES
    staying.close()
    server.assert_nothing_is_left()


def test_what_a_command_of_a_queue_holds_comes_on_top() -> None:
    """While the replies before it wait; then it is only these again."""
    server = filled_for_holders()
    gets = [(b"GET", b"value")] * 50
    connection = begun(
        server, [(b"MULTI",), *gets, *HOLDERS[:-1], (b"LCS", b"short", b"short", b"LEN"), *gets, (b"EXEC",)]
    )
    work = connection.session.work
    run_until_held(server, connection, 50 * len(VALUE) + server.bench.budget.used_bytes)
    held: list[int] = []
    while connection.backlog:
        held.append(work.held_bytes)
        connection.resume()
    assert min(held) >= 50 * len(VALUE)
    assert max(held[:-1]) < held[0] + 110_000 + 50 * len(VALUE)
    assert work.held_bytes == 0


def most_held_bytes(connection: RespConnection) -> int:
    """Return the most that is held from now to the end of a command."""
    most_bytes = 0
    while connection.backlog:
        most_bytes = max(most_bytes, connection.session.work.held_bytes)
        connection.resume()
    return most_bytes


def test_what_a_command_of_a_queue_has_found_counts_once() -> None:
    """It is the command's, and then part of the reply of EXEC."""
    server = filled()
    connection = begun(server, [(b"MULTI",), MGET, *[(b"GET", b"value")] * 50, (b"EXEC",)])
    assert FOUND_BYTES < most_held_bytes(connection) < FOUND_BYTES + 60 * len(VALUE)


def test_a_queue_that_is_run_again_holds_the_replies_of_one_run() -> None:
    """Those of the run before are gone."""
    server = filled()
    connection = begun(server, [(b"MULTI",), MGET, (b"INCR", b"n"), *[(b"GET", b"value")] * 50, (b"EXEC",)])
    other = server.connect()
    run_until_held(server, connection, server.bench.budget.used_bytes + FOUND_BYTES + 20 * len(VALUE))
    assert ask(other, b"SET", b"value", VALUE) == OK
    assert FOUND_BYTES < most_held_bytes(connection) < FOUND_BYTES + 60 * len(VALUE)
    assert answer(connection) == [[VALUE] * NUMBER, 1, *[VALUE] * 50]


def test_a_search_that_is_run_again_holds_what_one_run_has_found() -> None:
    """As when records in its range were due that had not been deleted."""
    attempts: list[int] = []

    def search(session: Session) -> Steps[int]:
        session.work.hold(1000)
        attempts.append(session.work.held_bytes)
        if len(attempts) == 1:
            raise BehindError(KeyRange(b"", None))
        return session.work.held_bytes
        yield

    assert run(filled().connect().session.view(search)) == 1000
    assert attempts == [1000, 1000]
