"""What the audit log tells, and what it never does."""

import json
from dataclasses import fields, replace

import pytest

from kvs.adapters.inbound.line.commands import COMMANDS as LINE
from kvs.adapters.inbound.protocol.audit import AUTHENTICATING, MAX_KEYS, MAX_LOOKED_AT, Audit, text_of
from kvs.adapters.inbound.protocol.command import KEY, PREFIX, SECRET, VALUE, Command
from kvs.adapters.inbound.protocol.gate import Gate
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.protocol.peer import Peer
from kvs.adapters.inbound.resp.commands.registry import command_of
from kvs.application.memory_budget import MemoryBudget
from kvs.application.users import User
from kvs.domain.accounts import NEW
from kvs.testing.drivers import Clock
from tests.support.audit import Lines
from tests.support.resp_connection import RespServer, ask
from tests.support.resp_wire import OK, error
from tests.support.sessions import Bench
from tests.support.users import open_to_all
from tests.unit.protocol.test_printing import ALL, CONTEXT

GET = LINE[b"GET"]
CONFIG_SET = command_of([b"CONFIG", b"SET", b"a", b"b"], CONTEXT)
HELLO = command_of([b"HELLO"], CONTEXT)
HELLO_COMMAND = Command(**{each.name: getattr(HELLO, each.name) for each in fields(Command)})


@pytest.fixture
def lines() -> Lines:
    """Return what takes lines."""
    return Lines()


@pytest.fixture
def peer() -> Peer:
    """Return a client."""
    peer = Peer(7)
    peer.address = "127.0.0.1:5"
    peer.become(open_to_all().first_user())
    return peer


def about(event: str, **fields: object) -> dict[str, object]:
    """Return a line about the client."""
    client = {"session": 7, "peer": "127.0.0.1:5", "user": "default"}
    return {"timestamp": "1970-01-01T00:16:40.000000Z", "event": event, **client, **fields}


def test_connections(lines: Lines, peer: Peer) -> None:
    """Who comes, who is not let in, and why one has gone."""
    audit = Audit(lines, Clock())
    audit.connected(peer)
    audit.connection_refused(peer, "limit")
    audit.disconnected(peer, "closed by client")
    assert lines.told() == [
        about("connected"),
        about("connection_refused", code="LIMIT"),
        about("disconnected", reason="closed by client"),
    ]


def test_authentications(lines: Lines, peer: Peer) -> None:
    """The name that was claimed, unless nobody has it: people mistake the order of name and secret."""
    audit = Audit(lines, Clock(), is_user={"anna", "default"}.__contains__)
    auth = replace(HELLO_COMMAND, name=b"auth")
    audit.ran(peer, auth, [b"AUTH", b"anna", b"guess"], b"WRONGPASS")
    audit.ran(peer, auth, [b"AUTH", b"guess"], b"WRONGPASS")
    audit.ran(peer, auth, [b"AUTH", b"secret", b"anna"], b"WRONGPASS")
    audit.refused(peer, auth, [b"AUTH", b"anna", b"secret"], b"UNAVAILABLE")
    peer.become(User("anna", NEW))
    audit.ran(peer, auth, [b"AUTH", b"anna", b"secret"], b"")
    audit.ran(peer, HELLO_COMMAND, [b"HELLO", b"3", b"SETNAME", b"x", b"auth", b"anna", b"secret"], b"")
    audit.ran(peer, HELLO_COMMAND, [b"HELLO", b"3", b"SETNAME", b"x"], b"")
    assert [(line["event"], line["user"], line["code"]) for line in lines.told()] == [
        ("authentication_failed", "anna", "WRONGPASS"),
        ("authentication_failed", "default", "WRONGPASS"),
        ("authentication_failed", None, "WRONGPASS"),
        ("refused", "default", "UNAVAILABLE"),
        ("authenticated", "anna", "OK"),
        ("authenticated", "anna", "OK"),
    ]
    assert not [line for line in lines.taken if "secret" in line or "guess" in line]


def test_commands_of_administration(lines: Lines, peer: Peer) -> None:
    """With arguments, without values; other commands are not told of."""
    audit = Audit(lines, Clock())
    assert audit.ran(peer, CONFIG_SET, [b"CONFIG", b"SET", b"slowlog-max-len", b"5"], b"") > 0
    assert audit.ran(peer, GET, [b"GET", b"key"], b"") == 0
    (line,) = lines.told()
    assert line == about(
        "command", command="CONFIG SET", keys=[], arguments=["slowlog-max-len", "(redacted)"], code="OK"
    )


def test_all_commands(lines: Lines, peer: Peer) -> None:
    """By their keys."""
    audit = Audit(lines, Clock(), all_commands=True)
    audit.ran(peer, LINE[b"PUT"], [b"PUT", b"key", b"value"], b"CONFLICT")
    audit.ran(peer, LINE[b"COUNT"], [b"COUNT", b"user:"], b"")
    assert lines.told() == [
        about("command", command="PUT", keys=["key"], code="CONFLICT"),
        about("command", command="COUNT", keys=["user:"], code="OK"),
    ]


def test_refusals(lines: Lines, peer: Peer) -> None:
    """Before a command runs, and when it takes effect; what is refused for other reasons is no matter of this log."""
    audit = Audit(lines, Clock())
    audit.refused(peer, GET, [b"GET", b"secret:1"], b"FORBIDDEN")
    audit.ran(peer, LINE[b"COMMIT"], [b"COMMIT"], b"FORBIDDEN")
    audit.refused(peer, CONFIG_SET, [b"CONFIG", b"SET"], b"ERR")
    audit.refused(peer, GET, [b"GET"], b"USAGE")
    audit.refused(peer, GET, [b"GET", b"queued"], b"")
    audit.refused(peer, None, [b"BLAH", b"password"], b"UNKNOWN_COMMAND")
    assert [(line["event"], line["command"], line["keys"], line["code"]) for line in lines.told()] == [
        ("refused", "GET", ["secret:1"], "FORBIDDEN"),
        ("refused", "COMMIT", [], "FORBIDDEN"),
        ("refused", "CONFIG SET", [], "ERR"),
    ]


@pytest.mark.parametrize("command", ALL, ids=lambda one: one.name.decode())
def test_never_a_value_and_never_a_secret(lines: Lines, peer: Peer, command: Command) -> None:
    """Whatever the command, and however many arguments; keys are told."""
    audit = Audit(lines, Clock(), all_commands=True)
    request = [command.name, *[b"argument:%d:" % at for at in range(1, 10)]]
    audit.ran(peer, command, request, b"WRONGPASS" if command.name in AUTHENTICATING else b"")
    audit.refused(peer, command, request, b"NOPERM")
    text = "".join(lines.taken)
    for at in range(1, 10):
        kind = command.kind_of(at) if command.declares(at) else VALUE
        if kind in (VALUE, SECRET):
            assert f"argument:{at}:" not in text
    keys = [f"argument:{at}:" for at in range(1, 10) if command.declares(at) and command.kind_of(at) in (KEY, PREFIX)]
    assert lines.taken
    assert all(line["keys"] == keys for line in lines.told() if "keys" in line)


def test_what_clients_send_is_text_that_tells_all_bytes_apart() -> None:
    """It ends no line, drives no terminal, and no two keys look the same."""
    hostile = [b"\xff", b"\\xff", b"a\nb", b"a\\nb", "\u202e\x9b1m".encode(), b'"', b"\x00", b"\xc3\xa9", b"\xc3"]
    shown = [json.dumps(text_of(key, 100)) for key in hostile]
    assert len(set(shown)) == len(hostile)
    assert all(text.isascii() and text.isprintable() for text in shown)
    assert text_of(b"x" * 5, 3) == "xxx... (2 more bytes)"


def test_a_line_is_bounded(lines: Lines, peer: Peer) -> None:
    """Its keys, their length, and what it costs to look for them."""
    audit = Audit(lines, Clock(), all_commands=True)
    mset, mget = (command_of([name], CONTEXT) for name in (b"MSET", b"MGET"))
    audit.ran(peer, mset, [b"MSET", *[b"k", b"v"] * 30_000], b"")
    audit.ran(peer, mget, [b"MGET", *[b"\n" * 5000] * 30_000], b"")
    audit.ran(peer, mget, [b"MGET", *[b"k"] * MAX_KEYS], b"")
    first, second, third = (line["keys"] for line in lines.told())
    assert first == ["k"] * MAX_KEYS + [f"... ({60_001 - 2 * MAX_KEYS} more arguments)"]
    assert len(second) == MAX_KEYS + 1
    assert third == ["k"] * MAX_KEYS
    assert max(map(len, lines.taken)) < 50_000
    assert MAX_LOOKED_AT > 2 * MAX_KEYS


def test_it_is_paid_for(lines: Lines, peer: Peer) -> None:
    """By the length of the line."""
    audit = Audit(lines, Clock(), all_commands=True)
    audit.ran(peer, GET, [b"GET", b"k"], b"")
    units = audit.ran(peer, GET, [b"GET", b"\xff" * 500], b"")
    assert units >= len(lines.taken[1]) // 100 > 10


def test_what_it_costs_others() -> None:
    """Fast paths go on, unless each command is to be told of."""
    assert not Observation(audit=Audit(Lines(), Clock())).sees_all
    assert Observation(audit=Audit(Lines(), Clock(), all_commands=True)).sees_all


@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize("trouble", ["", "full"])
def test_audit_required(lines: Lines, *, required: bool, trouble: str) -> None:
    """Administration and authentication wait for the log; all else goes on."""
    audit = Audit(lines, Clock(), required=required)
    lines.trouble = trouble
    refused = "full" if required and trouble else ""
    assert audit.trouble(CONFIG_SET, [b"CONFIG", b"SET", b"a", b"b"]) == refused
    assert audit.trouble(HELLO, [b"HELLO", b"3", b"auth", b"anna", b"x"]) == refused
    assert audit.trouble(HELLO, [b"HELLO", b"3", b"SETNAME", b"x"]) == ""
    assert audit.trouble(GET, [b"GET", b"k"]) == ""


def test_a_client_cannot_pass_for_another_user(lines: Lines, peer: Peer) -> None:
    """The last AUTH of a HELLO counts, and a value of another option is none."""
    audit = Audit(lines, Clock())
    audit.ran(peer, HELLO, [b"HELLO", b"3", b"AUTH", b"anna", b"x", b"AUTH", b"default", b"pw"], b"")
    audit.ran(peer, HELLO, [b"HELLO", b"3", b"SETNAME", b"auth", b"SETNAME", b"x"], b"")
    assert lines.told() == [about("authenticated", code="OK")]


@pytest.mark.parametrize("code", [b"WRONGPASS", b"UNAUTHENTICATED"])
def test_a_wrong_secret_is_recorded_as_such(lines: Lines, peer: Peer, code: bytes) -> None:
    """In the words of either protocol."""
    Audit(lines, Clock()).ran(peer, LINE[b"AUTH"], [b"AUTH", b"default", b"wrong"], code)
    assert lines.told() == [about("authentication_failed", user=None, code=code.decode())]


def test_the_gate_refuses_what_cannot_be_told(lines: Lines) -> None:
    """In a connection; the refusal is told when there is room again."""
    server = RespServer(audit=Audit(lines, Clock(), required=True))
    connection = server.connect()
    lines.trouble = "full"
    refusal = error("UNAVAILABLE The audit log cannot be written (full), and audit_required is set.")
    assert ask(connection, b"SLOWLOG", b"GET", b"1") == refusal
    assert ask(connection, b"SET", b"k", b"") == OK
    lines.trouble = ""
    assert ask(connection, b"SLOWLOG", b"GET", b"2") == []
    assert [(line["event"], line["command"], line["arguments"], line["code"]) for line in lines.told()] == [
        ("refused", "SLOWLOG GET", ["1"], "UNAVAILABLE"),
        ("command", "SLOWLOG GET", ["2"], "OK"),
    ]


def test_a_gate_without_an_audit_log_asks_nothing() -> None:
    """Which is how a server runs by default."""
    peer = Peer()
    security = open_to_all()
    peer.become(security.first_user())
    Gate(10, 10, MemoryBudget(1 << 20), security).check(
        CONFIG_SET, [b"CONFIG", b"SET", b"a", b"b"], peer, Bench().open()
    )


def test_queued_commands_are_told_of_when_they_run(lines: Lines) -> None:
    """By EXEC, each by itself."""
    server = RespServer(audit=Audit(lines, Clock(), all_commands=True))
    connection = server.connect()
    for words in ((b"MULTI",), (b"SET", b"k", b""), (b"GET", b"k"), (b"EXEC",)):
        ask(connection, *words)
    assert [(line["command"], line["keys"]) for line in lines.told()] == [
        ("MULTI", []),
        ("SET", ["k"]),
        ("GET", ["k"]),
        ("EXEC", []),
    ]
