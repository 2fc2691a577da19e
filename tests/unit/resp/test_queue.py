"""The queue of MULTI: how EXEC ends it, what is not let through, and what becomes of replies that are not wanted."""

import pytest

from tests.support.resp_connection import RespServer, ask
from tests.support.resp_wire import NULL, OK, PONG, QUEUED, Reply, Typed, request
from tests.support.sessions import output_of


def error_of(reply: Reply) -> bytes:
    """Return the first word of an error."""
    assert isinstance(reply, Typed)
    assert reply.kind == "-"
    assert isinstance(reply.value, bytes)
    return reply.value.split(b" ", 1)[0]


@pytest.mark.parametrize("extra", [[b"x"], [b"x", b"y"]])
def test_exec_with_an_argument_discards_the_queue(extra: list[bytes]) -> None:
    """With the watches; the next MULTI begins from nothing."""
    server = RespServer()
    connection, other = server.connect(), server.connect()
    assert ask(connection, b"WATCH", b"w") == OK
    assert ask(connection, b"MULTI") == OK
    assert ask(connection, b"SET", b"k", b"") == QUEUED
    assert error_of(ask(connection, b"EXEC", *extra)) == b"EXECABORT"
    assert server.bench.storage.open_snapshots == 0
    assert ask(connection, b"EXISTS", b"k") == 0
    assert error_of(ask(connection, b"EXEC")) == b"ERR"
    assert ask(other, b"SET", b"w", b"") == OK
    assert ask(connection, b"MULTI") == OK
    assert ask(connection, b"PING") == QUEUED
    assert ask(connection, b"EXEC") == [PONG]
    server.assert_nothing_is_left()


@pytest.mark.parametrize("refused", [(b"NOSUCH",), (b"GET",), (b"GET", b""), (b"START",), (b"CLIENT", b"REPLY", b"ON")])
def test_exec_runs_nothing_behind_a_command_that_was_refused(refused: tuple[bytes, ...]) -> None:
    """Whatever was the matter with it; the connection goes on."""
    server = RespServer()
    connection = server.connect()
    assert ask(connection, b"MULTI") == OK
    assert ask(connection, b"SET", b"k", b"") == QUEUED
    assert error_of(ask(connection, *refused)) == b"ERR"
    assert error_of(ask(connection, b"EXEC")) == b"EXECABORT"
    assert ask(connection, b"EXISTS", b"k") == 0
    server.assert_nothing_is_left()


def test_exec_is_let_through_without_memory_and_what_is_queued_then_is_not() -> None:
    """It gives memory back."""
    server = RespServer()
    connection = server.connect()
    assert ask(connection, b"MULTI") == OK
    assert ask(connection, b"SET", b"k", b"") == QUEUED
    server.bench.budget.limit_bytes = 0
    assert error_of(ask(connection, b"SET", b"l", b"")) == b"LIMIT"
    assert error_of(ask(connection, b"EXEC")) == b"EXECABORT"
    assert ask(connection, b"PING") == PONG
    server.assert_nothing_is_left()


def test_exec_answers_in_order_with_what_is_run_behind_it() -> None:
    """HELLO, CLIENT and INFO have their replies in their places, in the version that HELLO chose before them."""
    server = RespServer()
    connection = server.connect()
    assert ask(connection, b"MULTI") == OK
    queue: list[tuple[bytes, ...]] = [
        *((b"GET", b"no"), (b"HELLO", b"3"), (b"GET", b"no"), (b"CLIENT", b"SETNAME", b"me"), (b"INFO", b"cluster")),
        *((b"CLIENT", b"GETNAME"), (b"INCR", b"n"), (b"CLIENT", b"SETNAME", b"not a name")),
    ]
    for words in queue:
        assert ask(connection, *words) == QUEUED
    reply = ask(connection, b"EXEC")
    assert isinstance(reply, list)
    assert reply[0] == NULL
    assert reply[2] == Typed("_", None)
    assert reply[3] == OK
    assert b"cluster_enabled:0" in repr(reply[4]).encode()
    assert reply[5:7] == [b"me", 1]
    assert error_of(reply[7]) == b"ERR"
    assert len(reply) == len(queue)
    server.assert_nothing_is_left()


def test_replies_that_are_not_wanted_are_not_sent() -> None:
    """CLIENT REPLY OFF holds until ON, SKIP for one command; an error counts as a reply."""
    server = RespServer()
    connection = server.connect()

    def said(*commands: tuple[bytes, ...]) -> bytes:
        connection.receive(b"".join(request(*words) for words in commands))
        return output_of(connection)

    assert said((b"CLIENT", b"REPLY", b"SKIP"), (b"PING",), (b"ECHO", b"a")) == b"$1\r\na\r\n"
    assert said((b"CLIENT", b"REPLY", b"SKIP"), (b"NOSUCH",), (b"PING",)) == b"+PONG\r\n"
    assert said((b"CLIENT", b"REPLY", b"OFF"), (b"SET", b"k", b""), (b"NOSUCH",), (b"CLIENT", b"REPLY", b"SKIP")) == b""
    assert said((b"GET", b"k"), (b"CLIENT", b"REPLY", b"ON"), (b"GET", b"k")) == b"+OK\r\n$0\r\n\r\n"
    assert said((b"CLIENT", b"REPLY", b"SKIP"), (b"MULTI",), (b"PING",), (b"EXEC",)) == b"+QUEUED\r\n*1\r\n+PONG\r\n"
    assert said((b"CLIENT", b"REPLY", b"OFF"), (b"RESET",), (b"PING",)).endswith(b"+PONG\r\n")
    assert connection.requests == 20
