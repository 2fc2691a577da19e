"""Commands about this connection, and about the others."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.containers import container
from kvs.adapters.inbound.resp.keyspace import NO_KEYS
from kvs.adapters.inbound.resp.peer import AT_ONCE, REFUSED, SLOW_COST, Command, Peer
from kvs.adapters.inbound.resp.replies import RESP2, RESP3
from kvs.domain.changes import INTEGER_MIN, integer
from kvs.domain.errors import TooLargeError, UsageError
from kvs.ports.inbound import Session

if TYPE_CHECKING:
    from kvs.adapters.inbound.client import Client

REDIS_VERSION: Final = b"7.0.0"
"""The version of Redis whose replies these are: programs turn features on and off by it."""

MAX_NAME_BYTES: Final = 512
"""Longest name of a client, or of its library."""


def _ping(_: Session, __: Peer, arguments: list[bytes]) -> bytes:
    if len(arguments) > 2:
        raise UsageError("wrong number of arguments for 'ping' command")
    return replies.bulk(arguments[1]) if len(arguments) == 2 else replies.PONG


def _echo(_: Session, __: Peer, arguments: list[bytes]) -> bytes:
    return replies.bulk(arguments[1])


def _quit(_: Session, peer: Peer, __: list[bytes]) -> bytes:
    peer.closing = True
    return replies.OK


def _reset(session: Session, peer: Peer, _: list[bytes]) -> bytes:
    session.reset()
    peer.end_queue()
    peer.dialect = RESP2
    peer.name = b""
    return replies.RESET


def _select(_: Session, __: Peer, arguments: list[bytes]) -> bytes:
    if integer(arguments[1]) != 0:
        raise UsageError("DB index is out of range")
    return replies.OK


def _hello(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    dialect, name = peer.dialect, peer.name
    if len(arguments) > 1:
        try:
            version = integer(arguments[1])
        except UsageError:
            raise UsageError("Protocol version is not an integer or out of range") from None
        if version not in (2, 3):
            return replies.failure("NOPROTO", b"unsupported protocol version")
        dialect = RESP2 if version == 2 else RESP3
    at = 2
    while at < len(arguments):
        option = arguments[at].upper()
        if option == b"AUTH" and at + 2 < len(arguments):
            if arguments[at + 1] != b"default":  # who has no password, as in Redis before one is set
                return replies.failure("WRONGPASS", b"invalid username-password pair or user is disabled.")
            at += 3
        elif option == b"SETNAME" and at + 1 < len(arguments):
            name = _name(arguments[at + 1])
            at += 2
        else:
            raise UsageError(f"Syntax error in HELLO option '{arguments[at].decode(errors='backslashreplace')[:64]}'")
    peer.dialect, peer.name = dialect, name
    return dialect.mapping(
        [
            (replies.bulk(b"server"), replies.bulk(b"kvs")),
            (replies.bulk(b"version"), replies.bulk(REDIS_VERSION)),
            (replies.bulk(b"proto"), replies.number(dialect.version)),
            (replies.bulk(b"id"), replies.number(session.id)),
            (replies.bulk(b"mode"), replies.bulk(b"standalone")),
            (replies.bulk(b"role"), replies.bulk(b"master")),
            (replies.bulk(b"modules"), replies.EMPTY_ARRAY),
        ]
    )


# CLIENT.


def _id(session: Session, _: Peer, __: list[bytes]) -> bytes:
    return replies.number(session.id)


def _getname(_: Session, peer: Peer, __: list[bytes]) -> bytes:
    return replies.bulk(peer.name) if peer.name else peer.dialect.null


def _setname(_: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    peer.name = _name(arguments[2])
    return replies.OK


def _setinfo(_: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    option = arguments[2].lower()
    if option == b"lib-name":
        peer.library = _name(arguments[3], b"lib-name")
    elif option == b"lib-ver":
        peer.library_version = _name(arguments[3], b"lib-ver")
    else:
        raise UsageError(f"Unrecognized option '{arguments[2].decode(errors='backslashreplace')[:64]}'")
    return replies.OK


def _on_or_off(_: Session, __: Peer, arguments: list[bytes]) -> bytes:
    if arguments[2].upper() not in (b"ON", b"OFF"):
        raise UsageError("syntax error")
    return replies.OK  # nothing is ever evicted, and no key has a time of its last use


def _info(session: Session, peer: Peer, _: list[bytes]) -> bytes:
    for client in peer.shared.clients.connected:
        if client.connection.session is session:
            return peer.dialect.text(_described(client, peer.shared.uptime_clock()))
    return peer.dialect.text(b"")


def _list(_: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    wanted: set[int] | None = None
    at = 2
    while at < len(arguments):
        option = arguments[at].upper()
        if option == b"TYPE" and at + 2 == len(arguments):
            if not _normal(arguments[at + 1]):
                wanted = set()
            at += 2
        elif option == b"ID" and at + 1 < len(arguments):
            wanted = {_client_id(word, "Invalid client ID", INTEGER_MIN) for word in arguments[at + 1 :]}
            at = len(arguments)
        else:
            raise UsageError("syntax error")
    now_s = peer.shared.uptime_clock()
    lines = [
        _described(client, now_s)
        for client in peer.shared.clients.connected
        if not client.refused and (wanted is None or client.connection.session.id in wanted)
    ]
    return peer.dialect.text(b"".join(lines))


def _kill(session: Session, peer: Peer, arguments: list[bytes]) -> bytes:
    by_address = len(arguments) == 3
    skips_me = not by_address
    wanted = list(peer.shared.clients.connected)
    if by_address:
        address = arguments[2].decode(errors="replace")
        wanted = [client for client in wanted if client.peer == address]
        if not wanted:
            raise UsageError("No such client")
    elif len(arguments) % 2:
        raise UsageError("syntax error")
    for option, word in _pairs(arguments[2:] if not by_address else []):
        if option == b"ID":
            number = _client_id(word, "client-id should be greater than 0")
            wanted = [client for client in wanted if client.connection.session.id == number]
        elif option == b"ADDR":
            wanted = [client for client in wanted if client.peer.encode() == word]
        elif option == b"TYPE":
            wanted = wanted if _normal(word) else []
        elif option == b"USER":
            if word != b"default":
                raise UsageError(f"No such user '{word.decode(errors='backslashreplace')[:64]}'")
        elif option == b"SKIPME" and word.lower() in (b"yes", b"no"):
            skips_me = word.lower() == b"yes"
        elif option == b"MAXAGE":
            oldest_s = peer.shared.uptime_clock() - integer(word)
            wanted = [client for client in wanted if client.connected_s <= oldest_s]
        else:
            raise UsageError("syntax error")
    killed = 0
    for client in wanted:
        if client.connection.session is not session:
            client.abort()
        elif skips_me:
            continue
        else:
            peer.closing = True
        killed += 1
    return replies.OK if by_address else replies.number(killed)


def _pairs(words: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for at in range(0, len(words), 2):
        yield words[at].upper(), words[at + 1]


def _described(client: "Client", now_s: float) -> bytes:
    """Return a line of CLIENT LIST."""
    session = client.connection.session
    facts = {
        "id": session.id,
        "addr": client.peer,
        "age": int(now_s - client.connected_s),
        "idle": int(now_s - client.last_input_s),
        "db": 0,
        "depth": session.depth,
        "tot-cmds": client.connection.requests,
        **client.connection.facts(),
    }
    return " ".join([f"{name}={value}" for name, value in facts.items()]).encode() + b"\n"


def _normal(kind: bytes) -> bool:
    """Return whether clients of that kind are those there are."""
    if kind.lower() not in (b"normal", b"master", b"replica", b"slave", b"pubsub"):
        raise UsageError(f"Unknown client type '{kind.decode(errors='backslashreplace')[:64]}'")
    return kind.lower() == b"normal"


def _client_id(word: bytes, message: str, least: int = 1) -> int:
    try:
        number = integer(word)
    except UsageError:
        raise UsageError(message) from None
    if number < least:
        raise UsageError(message)
    return number


def _name(name: bytes, of: bytes = b"") -> bytes:
    if len(name) > MAX_NAME_BYTES:
        raise TooLargeError(f"The name has {len(name)} bytes; {MAX_NAME_BYTES} are allowed.")
    if not all(0x21 <= code <= 0x7E for code in name):
        what = f"{of.decode()} cannot" if of else "Client names cannot"
        raise UsageError(f"{what} contain spaces, newlines or special characters.")
    return name


GROUP: Final = "connection"

CLIENT: Final[list[Command]] = [
    Command("id", _id, 2, "fast", NO_KEYS, GROUP, "Returns the number of this connection."),
    Command("getname", _getname, 2, "fast", NO_KEYS, GROUP, "Returns the name that was set."),
    Command("setname", _setname, 3, "fast", NO_KEYS, GROUP, "Names this connection, for CLIENT LIST."),
    Command("setinfo", _setinfo, 4, "fast", NO_KEYS, GROUP, "Tells of the client's library, for CLIENT LIST."),
    Command("info", _info, 2, "", NO_KEYS, GROUP, "Describes this connection."),
    Command("list", _list, -2, "admin", NO_KEYS, GROUP, "Describes all connections."),
    Command("kill", _kill, -3, "admin", NO_KEYS, GROUP, "Closes connections."),
    Command("no-evict", _on_or_off, 3, "admin", NO_KEYS, GROUP, "Does nothing, for nobody is evicted."),
    Command("no-touch", _on_or_off, 3, "fast", NO_KEYS, GROUP, "Does nothing, for no use is noted."),
]

COMMANDS: Final[list[Command]] = [
    Command("ping", _ping, -1, "fast", NO_KEYS, GROUP, "Returns PONG, or what is given.", runs_always=True),
    Command("echo", _echo, 2, "fast", NO_KEYS, GROUP, "Returns what is given."),
    Command("quit", _quit, -1, "fast", NO_KEYS, GROUP, "Ends the connection.", in_queue=AT_ONCE, runs_always=True),
    Command("reset", _reset, 1, "fast", NO_KEYS, GROUP, "Begins anew.", in_queue=AT_ONCE, runs_always=True),
    Command("select", _select, 2, "fast", NO_KEYS, GROUP, "Chooses a database; there is one, 0."),
    Command("hello", _hello, -1, "fast", NO_KEYS, GROUP, "Chooses the version of the protocol.", in_queue=REFUSED),
    container(
        "client",
        CLIENT,
        GROUP,
        "Tells of connections, and closes them.",
        cost=SLOW_COST,
        in_queue=REFUSED,
        runs_always=True,
    ),
]
