"""Commands about how values are stored: OBJECT and MEMORY."""

from typing import Final

from kvs.adapters.inbound.protocol.command import KEY, OTHER
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import RespCommand
from kvs.adapters.inbound.resp.commands.subcommands import container
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.domain.errors import UsageError
from kvs.domain.updates import integer
from kvs.domain.values import entry_bytes
from kvs.ports.session import Session


def _encoding(session: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    return context.protocol.null if session.get(arguments[2]) is None else replies.bulk(b"raw")


def _refcount(session: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    return context.protocol.null if session.get(arguments[2]) is None else replies.ONE


def _freq(session: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    if session.get(arguments[2]) is None:
        return context.protocol.null
    raise UsageError(
        "An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching "
        "between policies at runtime LRU and LFU data will take some time to adjust."
    )


def _idletime(session: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    if session.get(arguments[2]) is None:
        return context.protocol.null
    raise UsageError("OBJECT IDLETIME is not supported: accesses are not recorded")


def _usage(session: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    for at in range(3, len(arguments), 2):
        if arguments[at].upper() != b"SAMPLES" or at + 1 == len(arguments):
            raise UsageError("syntax error")
        if integer(arguments[at + 1]) < 0:
            raise UsageError("syntax error")
    value = session.get(arguments[2])
    return context.protocol.null if value is None else replies.number(entry_bytes(arguments[2], value))


COMMANDS: Final[list[RespCommand]] = [
    container(
        "object",
        [
            RespCommand("object|encoding", _encoding, (OTHER, KEY)),
            RespCommand("object|freq", _freq, (OTHER, KEY)),
            RespCommand("object|idletime", _idletime, (OTHER, KEY)),
            RespCommand("object|refcount", _refcount, (OTHER, KEY)),
        ],
    ),
    container("memory", [RespCommand("memory|usage", _usage, (OTHER, KEY, OTHER), 1)]),
]
