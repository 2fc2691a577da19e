"""Every command of both protocols, for every kind of user: allowed or refused as declared here, once for all."""

import io
import json
from itertools import product
from typing import Final, NamedTuple

import pytest

from kvs.adapters.inbound.line.commands import COMMANDS as LINE_COMMANDS
from kvs.adapters.inbound.line.connection import line_protocol
from kvs.adapters.inbound.line.limits import LineLimits
from kvs.adapters.inbound.protocol.connection import Connection
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.resp.command import RespCommand
from kvs.adapters.inbound.resp.commands.registry import COMMANDS, OF_SENTINELS
from kvs.domain.accounts import OPEN, Account
from kvs.domain.grants import (
    ADMIN,
    CONNECTION,
    EVERY_CATEGORY,
    EVERYTHING,
    NOTHING,
    PUBSUB,
    READ,
    TRANSACTION,
    WRITE,
    Grant,
    Grants,
)
from kvs.logs import make_logger
from kvs.ports.topology import ServerInfo, Topology
from tests.support.resp_connection import RespServer, answer
from tests.support.resp_wire import OK, QUEUED, Reply, Typed, request
from tests.support.sessions import UNLIMITED, output_of
from tests.support.users import security_of

DECLARED: Final = """
    R r: get strlen getrange mget getbit bitcount bitpos bitfield_ro lcs exists touch type ttl pttl expiretime
    R r: pexpiretime object|encoding object|freq object|idletime object|refcount memory|usage
    R *r: keys scan
    R **r: randomkey dbsize
    W w: set setnx setex psetex append setrange mset msetex msetnx del unlink delex expire pexpire expireat pexpireat
    W w: persist
    W **w: swapdb flushdb flushall
    W rw: getex delifeq getset getdel incr decr incrby decrby incrbyfloat setbit bitfield move
    W rw,w: rename renamenx
    W r,w: copy
    W w,r: bitop
    T: multi exec discard unwatch start commit rollback
    T r: watch
    !: auth quit reset hello
    C: ping echo select time wait info object object|help memory memory|help config config|help slowlog slowlog|help
    C: latency latency|help acl acl|cat acl|genpass acl|whoami acl|help sentinel|help client client|id client|getname
    C: client|setname client|setinfo client|info client|reply client|no-touch client|trackinginfo client|caching
    C: client|getredir client|help command command|count command|list command|info command|docs command|getkeys
    C: command|getkeysandflags command|help
    C *r: client|tracking
    CA: client|list client|kill client|no-evict client|pause client|unpause client|unblock
    P: subscribe unsubscribe psubscribe punsubscribe
    A: monitor config|get config|set config|resetstat config|rewrite role replicaof slaveof slowlog|reset slowlog|len
    A: slowlog|get latency|reset latency|histogram latency|history latency|latest acl|deluser acl|dryrun acl|getuser
    A: acl|list acl|load acl|log acl|save acl|setuser acl|users sentinel sentinel|ckquorum sentinel|masters
    A: sentinel|get-master-addr-by-name sentinel|master sentinel|myid sentinel|replicas sentinel|sentinels
    A: sentinel|slaves
"""
"""Categories, what becomes of each key in order, ``*`` for a range with a prefix, ``**`` for all keys; the commands."""

DECLARED_OF_LINES: Final = """
    R r: get ttl
    R *r: keys count
    W w: put del expire persist
    W rw: incr
    T: start commit rollback
    C: ping info
    !: auth help exit quit
"""

LETTERS: Final = {"R": READ, "W": WRITE, "T": TRANSACTION, "C": CONNECTION, "P": PUBSUB, "A": ADMIN, "!": 0}
OURS: Final = ServerInfo("a" * 40, "10.0.0.1", 4000, "1.0")

CLOSED: Final = Account(enabled=True, tokens=("0" * 64,))
"""A default user whose secret nobody knows."""

MINE: Final = b"a:"
"""The prefix of those who have one."""

USUAL: Final = READ | TRANSACTION | CONNECTION
USERS: Final = {
    "nothing": NOTHING,
    "reader": Grants(Grant(USUAL, (MINE,))),
    "writer": Grants(Grant(USUAL | WRITE | PUBSUB, (MINE,), (MINE,))),
    "blind": Grants(Grant(USUAL | WRITE, (), (MINE,))),
    "keyless": Grants(Grant(EVERY_CATEGORY)),
    "two": Grants(Grant(READ, (MINE,)), Grant(WRITE, (), (MINE,)), Grant(TRANSACTION | CONNECTION)),
    "admin": EVERYTHING,
}
users = pytest.mark.parametrize("who", USERS)


class Declared(NamedTuple):
    """What is declared of a command."""

    categories: int
    is_open: bool
    keys: list[int]
    range: int
    takes_prefix: bool


def declared(table: str) -> dict[str, Declared]:
    """Return a table by the names of commands."""
    found: dict[str, Declared] = {}
    for line in table.strip().splitlines():
        uses, _, names = line.partition(": ")
        letters, *kinds = uses.split()
        kind = kinds[0] if kinds else ""
        accesses = [READ * ("r" in each) | WRITE * ("w" in each) for each in kind.strip("*").split(",") if each]
        is_range = kind.startswith("*")
        entry = Declared(
            sum(LETTERS[letter] for letter in letters),
            "!" in letters,
            [] if is_range else accesses,
            accesses[0] if is_range else 0,
            is_range and not kind.startswith("**"),
        )
        found |= dict.fromkeys(names.split(), entry)
    return found


RESP: Final = declared(DECLARED)
LINES: Final = declared(DECLARED_OF_LINES)

RESP_COMMANDS: Final = {
    each.name.decode(): each
    for entry in [*COMMANDS, *OF_SENTINELS.values()]
    for each in (entry, *(entry.subcommands or {}).values())
}

ARGUMENTS: Final[dict[str, str]] = {
    "set": "K v",
    "setex": "K 100 v",
    "psetex": "K 100000 v",
    "getrange": "K 0 1",
    "setrange": "K 0 v",
    "getbit": "K 0",
    "setbit": "K 0 1",
    "bitpos": "K 1",
    "bitop": "AND K K",
    "lcs": "K K",
    "msetex": "1 K v",
    "incrby": "K 1",
    "decrby": "K 1",
    "incrbyfloat": "K 1",
    "keys": "K*",
    "scan": "0 MATCH K*",
    "swapdb": "0 0",
    "select": "0",
    "wait": "0 0",
    "move": "K 0",
    "expire": "K 100",
    "pexpire": "K 100000",
    "expireat": "K 9999999999",
    "pexpireat": "K 9999999999999",
    "client|tracking": "ON BCAST PREFIX K",
    "client|caching": "YES",
    "client|reply": "ON",
    "client|setinfo": "LIB-NAME x",
    "client|kill": "ID 999999",
    "client|pause": "0",
    "client|unblock": "1",
    "client|no-evict": "ON",
    "client|no-touch": "ON",
    "replicaof": "NO ONE",
    "slaveof": "NO ONE",
    "config|get": "port",
    "config|set": "timeout 0",
    "acl|setuser": "somebody on",
    "acl|deluser": "somebody",
    "acl|dryrun": "default ping",
    "command|getkeys": "get x",
    "command|getkeysandflags": "get x",
    "subscribe": "+x",
    "psubscribe": "+*",
    "hello": "2",
    "auth": "default x",
}
"""Arguments that a command accepts; K stands for a key. Others take so many as they need, keys as their table says."""


def words_of(name: str, key: bytes) -> list[bytes]:
    """Return a request of RESP, with a key in every place for keys."""
    command = RESP_COMMANDS[name]
    words = name.encode().split(b"|")
    if name in ARGUMENTS:
        return words + [word.encode().replace(b"K", key) for word in ARGUMENTS[name].split()]
    if command.subcommands is not None:
        return words
    words += [b"0"] * (abs(command.arity) - len(words))
    for keys in command.about.keys:
        for at in keys.places(words):
            words[at] = key
    return words


def is_allowed(entry: Declared, grants: Grants, key: bytes) -> bool:
    """Return whether a request with this key or prefix is to be allowed."""
    if entry.is_open:
        return True
    for grant in grants.grants:
        accesses = [(access, key) for access in entry.keys]
        accesses += [(entry.range, key if entry.takes_prefix else b"")] if entry.range else []
        if entry.categories & ~grant.categories == 0 and all(
            (not access & READ or used.startswith(grant.reads))
            and (not access & WRITE or used.startswith(grant.writes))
            for access, used in accesses
        ):
            return True
    return False


class Desk:
    """Connections of one user, who may do everything until the test says otherwise."""

    def __init__(self) -> None:
        self.security = security_of({"u": OPEN})
        self.server = RespServer(security=self.security)
        self.server.limits.max_value_bytes = 100
        self.server.shared.topology = Topology("data", OURS, 2000)
        user = self.security.users.get("u")
        assert user is not None
        self.user = user

    def resp(self, *state: bytes) -> Connection:
        """Return a connection in RESP that has asked something, without restrictions."""
        self.restrict(EVERYTHING)
        connection = self.server.connect()
        connection.peer.become(self.user)
        ask(connection, b"HELLO", b"3")
        if state:
            ask(connection, *state)
        return connection

    def line(self, state: bytes = b"PING") -> Connection:
        """Return one in the line protocol."""
        self.restrict(EVERYTHING)
        log = make_logger("info", "json", io.StringIO())
        bench = self.server.bench
        limits = LineLimits(100, 100, 1000, UNLIMITED)
        connection = line_protocol(limits, bench.budget, Observation(), self.security, log)(bench.open(), None)
        connection.peer.become(self.user)
        say(connection, state)
        return connection

    def restrict(self, grants: Grants) -> None:
        """Let the user have these grants from now on."""
        change = self.security.users.apply("u", lambda _: Account(True, True, (), (), grants), lambda _: None)
        assert change.finished
        assert change.error is None


def ask(connection: Connection, *words: bytes) -> Reply:
    """Return the reply in RESP."""
    connection.receive(request(*words))
    return answer(connection)  # type: ignore[arg-type]


def say(connection: Connection, line: bytes) -> dict[str, object]:
    """Return the reply to a line."""
    connection.receive(line + b"\n")
    while connection.backlog:
        connection.resume()
    reply: dict[str, object] = json.loads(output_of(connection))
    return reply


def is_refused(reply: Reply, code: bytes = b"NOPERM") -> bool:
    """Return whether a reply is an error with a code."""
    return isinstance(reply, Typed) and reply.kind == "-" and bytes(reply.value).startswith(code + b" ")  # type: ignore[arg-type]


def test_every_command_is_declared() -> None:
    """A new one has to be added above; and its own declaration says the same."""
    assert set(RESP_COMMANDS) == set(RESP)
    assert {name.decode().lower() for name in LINE_COMMANDS} == set(LINES)
    for name, command in RESP_COMMANDS.items():
        assert command.is_open == RESP[name].is_open, name
        assert command.is_open or command.categories == RESP[name].categories != 0, name


KEYS: Final = (b"a:k", b"b:k")
"""Within the grants, and beyond them."""


@users
def test_resp(who: str) -> None:
    """Outside, inside START, after WATCH and after MULTI, whose EXEC then refuses everything."""
    desk, grants = Desk(), USERS[who]
    for name, key, state in product(RESP, KEYS, ((), (b"START",), (b"WATCH", b"a:w"), (b"MULTI",))):
        connection = desk.resp(*state)
        desk.restrict(grants)
        allowed = is_allowed(RESP[name], grants, key)
        reply = ask(connection, *words_of(name, key))
        code = b"EXECABORT" if name == "exec" and not allowed else b"NOPERM"
        assert is_refused(reply, code) != allowed, (state, name, key, reply)
        if state == (b"MULTI",) and not allowed and is_allowed(RESP["exec"], grants, b"") and name != "exec":
            assert is_refused(ask(connection, b"EXEC"), b"EXECABORT"), name
        connection.close()


@users
def test_what_is_queued_is_checked_again(who: str) -> None:
    """When EXEC runs it, if the grants have changed since."""
    desk, grants = Desk(), USERS[who]
    for name, key in product(RESP, KEYS):
        connection = desk.resp(b"MULTI")
        if ask(connection, *words_of(name, key)) == QUEUED:
            desk.restrict(grants)
            reply = ask(connection, b"EXEC")
            if is_allowed(RESP["exec"], grants, b""):
                assert isinstance(reply, list)
                assert is_refused(reply[0]) != is_allowed(RESP[name], grants, key), (name, key, reply)
            else:
                assert is_refused(reply, b"EXECABORT"), (name, key, reply)
        connection.close()


@users
def test_lines(who: str) -> None:
    """The same in the line protocol."""
    desk, grants = Desk(), USERS[who]
    more = {"put": b" K v", "expire": b" K 100", "auth": b" default x", "incr": b" K", "keys": b" K", "count": b" K"}
    for (name, entry), key, state in product(LINES.items(), KEYS, (b"PING", b"START")):
        connection = desk.line(state)
        desk.restrict(grants)
        rest = more.get(name, b" K" if entry.keys else b"").replace(b"K", key)
        reply = say(connection, name.encode() + rest)
        assert (reply.get("code") == "forbidden") != is_allowed(entry, grants, key), (state, name, key, reply)
        connection.close()


def test_resp_without_authentication() -> None:
    """Nothing is answered but what one authenticates by, and ends a connection by; nor is said what there is."""
    server = RespServer(security=security_of({"default": CLOSED}))
    for name in RESP:
        connection = server.connect()
        reply = ask(connection, *words_of(name, b"a:k"))
        assert is_refused(reply, b"NOAUTH") != (RESP[name].is_open and name != "hello"), name
        assert connection.closing == (name == "quit")
        assert connection.closing or is_refused(ask(connection, b"NOSUCH", b"x"), b"NOAUTH")
        connection.close()


def test_lines_without_authentication() -> None:
    """Nothing but AUTH, HELP and what ends a connection."""
    desk = Desk()
    desk.security = security_of({"default": CLOSED})
    for name in LINES:
        connection = desk.line()
        connection.peer.become(None)
        reply = say(connection, name.encode() + b" default x" * (name == "auth"))
        assert (reply.get("code") == "unauthenticated") != (LINES[name].is_open and name != "auth"), name
        assert connection.closing == (name in ("exit", "quit"))
        assert connection.closing or say(connection, b"NOSUCH")["code"] == "unauthenticated"
        connection.close()


SEVERAL: Final = (
    *("mget K K", "exists K K", "touch K K", "del K K", "unlink K K", "watch K K", "mset K v K v", "msetnx K v K v"),
    *("msetex 2 K v K v", "bitop AND K K", "bitop AND K K K", "rename K K", "renamenx K K", "copy K K", "lcs K K"),
)
OPTIONAL: Final = {
    "blind": {
        "set K v": True,
        "set K v GET": False,
        "set K v IFEQ x": False,
        "set K v XX": True,
        "delex K": True,
        "delex K IFEQ x": False,
        "bitfield K GET u8 0": False,
        "bitfield K SET u8 0 1": False,
    },
    "reader": {"bitfield K GET u8 0": False, "bitfield_ro K GET u8 0": True, "copy K K": False},
    "writer": {"set K v GET": True, "delex K IFEQ x": True, "bitfield K SET u8 0 1": True, "copy K K": True},
}


def test_every_key_and_every_option_counts() -> None:
    """Of several keys, the last as much as the first; and options that have a value told, or compared."""
    desk = Desk()
    for line in SEVERAL:
        parts = line.encode().split(b"K")
        for outside in range(len(parts) - 1):
            keys = [KEYS[at == outside] for at in range(len(parts) - 1)]
            words = b"".join([part + key for part, key in zip(parts, [*keys, b""], strict=True)]).split()
            connection = desk.resp()
            desk.restrict(USERS["writer"])
            assert is_refused(ask(connection, *words)), words
            connection.close()
    for who, lines in OPTIONAL.items():
        for line, allowed in lines.items():
            connection = desk.resp()
            desk.restrict(USERS[who])
            words = line.encode().replace(b"K", b"a:k").split()
            assert is_refused(ask(connection, *words)) != allowed, (who, line)
            connection.close()


WRITES: Final = [
    name
    for name, entry in RESP.items()
    if entry.categories & WRITE and (entry.keys or entry.range) and name not in ("move", "swapdb")
]


@users
def test_what_is_written_is_checked_again(who: str) -> None:
    """By the outermost COMMIT, if the grants have changed since; the transaction stays open, and can be rolled back."""
    desk, grants = Desk(), USERS[who]
    for name, key in product(WRITES, KEYS):
        connection = desk.resp(b"SET", key, b"1")
        ask(connection, b"START")
        ask(connection, b"START")
        ask(connection, *words_of(name, key))
        written = [*connection.session.written_keys()] or connection.session.clears_all
        ask(connection, b"COMMIT")
        desk.restrict(grants)
        allowed = is_allowed(RESP["commit"], grants, b"") and (not written or _may_write(grants, name, key))
        assert is_refused(ask(connection, b"COMMIT")) != allowed, (name, key, written)
        assert connection.session.depth == (not allowed)
        if not allowed:
            desk.restrict(EVERYTHING)
            assert ask(connection, b"ROLLBACK") == OK
            assert ask(connection, b"EXISTS", key) == 1
        connection.close()


def _may_write(grants: Grants, name: str, key: bytes) -> bool:
    used = b"" if RESP[name].range else key
    return any(grant.categories & WRITE and used.startswith(grant.writes) for grant in grants.grants)


def test_the_line_protocol_checks_what_is_written() -> None:
    """It has a COMMIT of its own; the text names the user's own prefixes."""
    desk = Desk()
    connection = desk.line()
    for line in (b"START", b"PUT b:k v"):
        say(connection, line)
    desk.restrict(USERS["writer"])
    refused = say(connection, b"COMMIT")
    assert refused["code"] == "forbidden"
    assert '"a:"' in str(refused["mesg"])
    assert connection.session.depth == 1
    assert say(connection, b"ROLLBACK")["status"] == "Ok"
    for line in (b"START", b"PUT a:k v", b"COMMIT"):
        assert say(connection, line)["status"] == "Ok"


def test_a_command_of_resp_that_is_not_declared_is_of_no_category() -> None:
    """So nobody may run it but who may do everything, and the test above fails."""
    assert all(isinstance(command, RespCommand) and command.categories for command in RESP_COMMANDS.values())
