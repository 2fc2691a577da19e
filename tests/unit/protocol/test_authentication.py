"""Who clients are: AUTH and HELLO, what they get before, and what a connection does while a secret is checked."""

import io
import json
from typing import Final

import pytest

from kvs.adapters.inbound.line.limits import LINE_OVERHEAD_BYTES
from kvs.adapters.inbound.protocol.connection import Connection
from kvs.adapters.inbound.protocol.security import (
    STRANGER_ARGUMENTS,
    STRANGER_OUTPUT_BYTES,
    STRANGER_REQUEST_BYTES,
    Security,
)
from kvs.application import secret_hashes
from kvs.application.secret_hashes import LEAST
from kvs.domain.accounts import OPEN, Account
from kvs.domain.grants import CONNECTION, EVERYTHING, READ, TRANSACTION, WRITE, Grant, Grants
from tests.support.detection import new_detector
from tests.support.resp_connection import RespServer, ask
from tests.support.resp_wire import OK, PONG, Typed, read_reply, request
from tests.support.sessions import Bench, output_of
from tests.support.users import Errands, security_of

SECRET: Final = "open sesame"  # noqa: S105
BOB: Final = Account(True, passwords=(secret_hashes.hash_password(SECRET.encode(), LEAST),), grants=EVERYTHING)
TOKEN: Final = secret_hashes.new_token()
MACHINE: Final = Account(True, tokens=(secret_hashes.hash_token(TOKEN.encode()),), grants=EVERYTHING)
LOCKED: Final = Account(enabled=True, tokens=("0" * 64,), grants=EVERYTHING)
ACCOUNTS: Final = {"default": LOCKED, "bob": BOB, "machine": MACHINE, "off": Account(passwords=BOB.passwords)}

NOAUTH_TEXT: Final = b"NOAUTH Authentication required."
WRONGPASS_TEXT: Final = b"WRONGPASS invalid username-password pair or user is disabled."
NOAUTH: Final = Typed("-", NOAUTH_TEXT)
WRONGPASS: Final = Typed("-", WRONGPASS_TEXT)


def server_with(errands: Errands | None = None) -> RespServer:
    """Return a server whose default user has a secret that nobody knows."""
    return RespServer(security=security_of(ACCOUNTS, errands))


def lines(security: Security) -> Connection:
    """Return a connection whose protocol is not known yet."""
    return new_detector(Bench(), security=security).connect()


def talk(connection: Connection, data: bytes) -> bytes:
    """Return the output for some input, of whichever connection goes on."""
    connection.receive(data)
    current = connection
    while True:
        while current.backlog and not current.busy:
            current.resume()
        if current.successor is None:
            return output_of(current)
        assert isinstance(current.successor, Connection)
        current = current.successor


@pytest.mark.parametrize(
    "words",
    [
        *((b"AUTH", b"bob", SECRET.encode()), (b"AUTH", b"machine", TOKEN.encode())),
        (b"HELLO", b"2", b"AUTH", b"bob", SECRET.encode()),
    ],
)
def test_who_authenticates_is_that_user(words: tuple[bytes, ...]) -> None:
    """By a password and by a token, in each way."""
    connection = server_with().connect()
    assert ask(connection, b"GET", b"k") == NOAUTH
    reply = ask(connection, *words)
    assert reply == OK or isinstance(reply, list)
    assert connection.peer.user is not None
    assert ask(connection, b"ACL", b"WHOAMI") == connection.peer.user.name.encode()


@pytest.mark.parametrize(
    "words",
    [
        *((b"AUTH", b"bob", b"wrong"), (b"AUTH", b"nobody", b"x"), (b"AUTH", b"x"), (b"AUTH", b"off", SECRET.encode())),
        *((b"HELLO", b"3", b"AUTH", b"bob", b"x"), (b"AUTH", b"machine", b""), (b"AUTH", b"\xff\x00", b"\xff\x00")),
        (b"AUTH", b"bob", b"x" * 500),
    ],
)
def test_whatever_is_wrong_the_answer_is_the_same(words: tuple[bytes, ...]) -> None:
    """The user, the secret, or that it is switched off; and the client stays who it was."""
    server = server_with()
    connection = server.connect()
    assert ask(connection, *words) == WRONGPASS
    assert connection.peer.user is None
    assert ask(connection, b"AUTH", b"bob", SECRET.encode()) == OK
    assert ask(connection, *words) == WRONGPASS
    assert ask(connection, b"PING") == PONG
    (refusal,) = server.shared.security.refusals.newest(10)
    assert (refusal.reason, refusal.count, refusal.object) == ("auth", 2, words[0].decode())


def test_hello_needs_authentication() -> None:
    """But for its errors, as in Redis; SETNAME before AUTH is of no harm."""
    connection = server_with().connect()
    for words in ((b"HELLO",), (b"HELLO", b"3"), (b"HELLO", b"3", b"SETNAME", b"me")):
        reply = ask(connection, *words)
        assert isinstance(reply, Typed)
        assert bytes(str(reply.value), "ascii").find(b"NOAUTH HELLO must be called") >= 0
    assert isinstance(ask(connection, b"HELLO", b"3", b"AUTH", b"bob", SECRET.encode()), Typed)


def test_a_server_without_users_takes_any_secret_of_the_default_user() -> None:
    """As Redis does; and AUTH with a secret alone says that there is none."""
    connection = RespServer().connect()
    assert ask(connection, b"AUTH", b"default", b"anything") == OK
    assert ask(connection, b"AUTH", b"nobody", b"anything") == WRONGPASS
    reply = ask(connection, b"AUTH", b"anything")
    assert isinstance(reply, Typed)
    assert b"without any password configured" in bytes(reply.value)  # type: ignore[arg-type]
    assert isinstance(ask(connection, b"AUTH", b"a", b"b", b"c"), Typed)


@pytest.mark.parametrize("begun", [(b"START",), (b"WATCH", b"k"), (b"MULTI",)])
def test_nobody_becomes_another_user_within_what_the_first_has_begun(begun: tuple[bytes, ...]) -> None:
    """START, WATCH and MULTI; RESET ends each of them."""
    connection = RespServer(security=security_of({"bob": BOB})).connect()
    assert ask(connection, *begun) == OK
    reply = ask(connection, b"AUTH", b"bob", SECRET.encode())
    assert isinstance(reply, Typed)
    assert bytes(reply.value).startswith(b"ERR ")  # type: ignore[arg-type]
    ask(connection, b"RESET")
    assert ask(connection, b"AUTH", b"bob", SECRET.encode()) == OK


def test_hello_with_auth_is_refused_by_exec() -> None:
    """It is queued, as HELLO is."""
    connection = RespServer(security=security_of({"bob": BOB})).connect()
    ask(connection, b"MULTI")
    ask(connection, b"HELLO", b"3", b"AUTH", b"bob", SECRET.encode())
    (reply,) = ask(connection, b"EXEC")  # type: ignore[misc]
    assert isinstance(reply, Typed)
    assert reply.kind == "-"
    assert connection.peer.user is not None
    assert connection.peer.user.name == "default"


def test_reset_is_the_end_of_a_user() -> None:
    """Then the client has to authenticate again, if that is asked."""
    connection = server_with().connect()
    ask(connection, b"AUTH", b"bob", SECRET.encode())
    ask(connection, b"RESET")
    assert ask(connection, b"PING") == NOAUTH
    connection = RespServer(security=security_of({"bob": BOB})).connect()
    ask(connection, b"AUTH", b"bob", SECRET.encode())
    ask(connection, b"RESET")
    assert ask(connection, b"ACL", b"WHOAMI") == b"default"


def test_a_monitor_and_a_tracker_end_with_the_user() -> None:
    """Who becomes another user does not learn what the former was told."""
    server = RespServer(security=security_of({"bob": BOB}))
    connection, other = server.connect(), server.connect()
    ask(connection, b"HELLO", b"3")
    ask(connection, b"CLIENT", b"TRACKING", b"ON", b"BCAST")
    ask(connection, b"MONITOR")
    assert connection.shows_others
    ask(connection, b"AUTH", b"bob", SECRET.encode())
    assert not connection.shows_others
    output_of(connection)
    ask(other, b"SET", b"k", b"")
    server.tell()
    assert output_of(connection) == b""


# While a secret is checked.


def waiting(words: tuple[bytes, ...] = (b"AUTH", b"bob", SECRET.encode())) -> tuple[Errands, RespServer, Connection]:
    """Return a connection whose secret is being checked, and what has to run."""
    errands = Errands(waits=True)
    server = server_with(errands)
    connection = server.connect()
    connection.receive(request(*words))
    assert connection.busy
    assert connection.backlog
    assert output_of(connection) == b""
    return errands, server, connection


def test_requests_behind_auth_wait_for_it() -> None:
    """They are run as the user, in order; the connection is woken once, and does not ask to be served before."""
    errands, _, connection = waiting()
    woken: list[bool] = []
    connection.peer.changed = lambda: woken.append(connection.busy)
    connection.receive(request(b"PING") + request(b"ACL", b"WHOAMI")[:10])
    connection.receive(request(b"ACL", b"WHOAMI")[10:])
    assert connection.resume() == 0
    assert output_of(connection) == b""
    errands.run_all()
    assert woken[0] is False
    while connection.backlog:
        connection.resume()
    assert output_of(connection) == b"+OK\r\n+PONG\r\n$3\r\nbob\r\n"
    assert not connection.busy


def test_a_wrong_secret_is_answered_where_it_stood() -> None:
    """And what stands behind it is not run."""
    errands, _, connection = waiting((b"AUTH", b"bob", b"wrong"))
    connection.receive(request(b"PING"))
    errands.run_all()
    while connection.backlog:
        connection.resume()
    assert output_of(connection) == b"-" + WRONGPASS_TEXT + b"\r\n-" + NOAUTH_TEXT + b"\r\n"


def test_a_client_that_leaves_leaves_nothing() -> None:
    """The check ends without it."""
    errands, server, connection = waiting()
    connection.close()
    assert server.shared.security.authenticator.waiting == 0
    errands.run_all()
    assert output_of(connection) == b""
    server.assert_nothing_is_left()


def test_a_client_that_half_closes_gets_its_answer() -> None:
    """Then the connection ends."""
    errands, _, connection = waiting()
    connection.end_of_input()
    assert not connection.closing
    errands.run_all()
    while connection.backlog:
        connection.resume()
    assert output_of(connection) == b"+OK\r\n"
    assert connection.closing


# Before authentication.


def test_the_limits_of_a_request() -> None:
    """So many arguments and bytes are let through, not one more; who is known has the usual limits."""
    server = server_with()
    for words, fits in (
        ([b"AUTH"] * STRANGER_ARGUMENTS, True),
        ([b"AUTH"] * (STRANGER_ARGUMENTS + 1), False),
        ([b"AUTH", b"x" * (STRANGER_REQUEST_BYTES - 200)], True),
        ([b"AUTH", b"x" * (STRANGER_REQUEST_BYTES + 1)], False),
        ([b"AUTH", *[b"x" * 3000] * 6], False),
    ):
        server.limits.max_bulk_bytes = 1 << 20
        connection = server.connect()
        connection.receive(request(*words))
        while connection.backlog:
            connection.resume()
        assert connection.closing != fits, words
        reply = read_reply(io.BytesIO(output_of(connection)))
        assert isinstance(reply, Typed)
        assert (b"Protocol error" in bytes(reply.value)) != fits  # type: ignore[arg-type]
    connection = server.connect()
    ask(connection, b"AUTH", b"bob", SECRET.encode())
    assert ask(connection, b"EXISTS", *[b"k"] * STRANGER_ARGUMENTS) == 0
    ask(connection, b"RESET")
    connection.receive(request(b"EXISTS", *[b"k"] * STRANGER_ARGUMENTS))
    assert connection.closing


def test_the_limit_of_a_line() -> None:
    """The same in the line protocol."""
    assert LINE_OVERHEAD_BYTES < STRANGER_REQUEST_BYTES
    for size, fits in ((STRANGER_REQUEST_BYTES, True), (STRANGER_REQUEST_BYTES + 1, False)):
        connection = lines(security_of(ACCOUNTS))
        line = b"AUTH bob ".ljust(size, b"x")
        reply = json.loads(talk(connection, line + b"\n"))
        assert reply["code"] == ("unauthenticated" if fits else "too_large")
        assert connection.closing != fits
    connection = lines(security_of(ACCOUNTS))
    connection.receive(b"x" * (STRANGER_REQUEST_BYTES + 1))
    assert connection.closing


def test_output_is_bounded_however_much_is_asked() -> None:
    """Replies that nobody takes are not made."""
    connection = lines(security_of(ACCOUNTS))
    connection.receive(b"HELP\n" * 3000)
    assert connection.held_bytes() < STRANGER_OUTPUT_BYTES + (16 << 10)
    assert connection.backlog


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"AUTH secret\r\n", b"-WRONGPASS "),
        (b"AUTH bob secret\r\n", b'{"status": "Error", "code": "unauthenticated"'),
        (b"AUTH bob %b\r\n" % SECRET.encode(), b'{"status": "Ok"}'),
        (b"AUTH bob %b\nPING\n" % SECRET.encode(), b'{"status": "Ok"}\n{"status": "Ok", "result": "PONG"}'),
        (b"AUTH secret\n", b'{"status": "Error", "code": "usage"'),
        (b"PING\r\n", b"-NOAUTH "),
        (b"PING\r\nAUTH x\r\n", b"-NOAUTH Authentication required.\r\n-WRONGPASS "),
        (b"GET k\n", b'{"status": "Error", "code": "unauthenticated"'),
        (b"\n", b'{"status": "Error", "code": "usage"'),
        (b"HELLO 3\r\n", b"-NOAUTH HELLO "),
    ],
)
def test_the_first_line(data: bytes, answer: bytes) -> None:
    """AUTH with a secret alone is Redis's, with a user ours; nothing else tells anything."""
    output = talk(lines(security_of(ACCOUNTS)), data)
    assert output.startswith(answer), output


# What one may not read is not named.


def test_a_conflict_names_only_what_may_be_read() -> None:
    """Although the transaction has observed it, under other grants."""
    both = Grants(Grant(READ | WRITE | TRANSACTION | CONNECTION, (b"a:", b"b:"), (b"a:", b"b:")))
    server = RespServer(security=security_of({"u": Account(True, True, grants=both)}))
    user = server.shared.security.users.get("u")
    connection, other = server.connect(), server.connect()
    connection.peer.become(user)
    for grants, told in (
        (both, b'"a:1", "b:1" changed'),
        (Grants(Grant(both.grants[0].categories, (b"a:",), (b"a:",))), b'"a:1" changed'),
    ):
        ask(connection, b"START")
        for key in (b"a:1", b"b:1"):
            ask(connection, b"EXISTS", key)
        ask(connection, b"SET", b"a:2", b"")
        for key in (b"a:1", b"b:1"):
            ask(other, b"SET", key, b"")
        server.shared.security.users.apply("u", lambda _: Account(True, True, grants=grants), lambda _: None)  # noqa: B023
        reply = ask(connection, b"COMMIT")
        assert isinstance(reply, Typed)
        assert bytes(reply.value).startswith(b"CONFLICT " + told)  # type: ignore[arg-type]


def test_a_cursor_is_of_its_user_and_its_prefix() -> None:
    """Another user's is as unknown as one that was never given."""
    grants = Grants(Grant(READ, (b"a:", b"b:")))
    accounts = {name: Account(True, True, grants=grants) for name in ("u", "v")}
    server = RespServer(security=security_of(accounts))
    for number in range(100):
        server.bench.storage.put(b"a:%d" % number, b"")
    mine, my_other, yours = server.connect(), server.connect(), server.connect()
    for connection, name in ((mine, "u"), (my_other, "u"), (yours, "v")):
        connection.peer.become(server.shared.security.users.get(name))
    reply = ask(mine, b"SCAN", b"0", b"MATCH", b"a:*")
    assert isinstance(reply, list)
    cursor = reply[0]
    assert isinstance(cursor, bytes)
    unknown = ask(yours, b"SCAN", b"12345", b"MATCH", b"a:*")
    assert isinstance(unknown, Typed)
    for connection in (mine, my_other):
        assert ask(connection, b"SCAN", cursor, b"MATCH", b"b:*") == unknown
        assert isinstance(ask(connection, b"SCAN", cursor, b"MATCH", b"a:*"), list)
    assert ask(yours, b"SCAN", cursor, b"MATCH", b"a:*") == unknown


def test_info_tells_users_without_administration_of_nobody_else() -> None:
    """In both protocols."""
    grants = Grants(Grant(READ | CONNECTION, (b"",)))
    security = security_of({"default": Account(True, True, grants=grants)})
    server = RespServer(security=security)
    server.bench.storage.put(b"k", b"")
    told = ask(server.connect(), b"INFO", b"everything")
    assert isinstance(told, bytes)
    sections = {line[2:] for line in told.splitlines() if line.startswith(b"# ")}
    assert sections == {b"Server", b"Persistence", b"Replication", b"Modules", b"Cluster", b"Session"}
    assert b"process_id" not in told
    figures = json.loads(talk(lines(security), b"INFO\n"))["result"]
    assert set(figures["server"]) == {"version", "build", "engine", "uptime_s"}
    server.shared.security.users.apply("default", lambda _: OPEN, lambda _: None)
    told = ask(server.connect(), b"INFO")
    assert isinstance(told, bytes)
    assert b"# Keyspace\r\ndb0:keys=1" in told
