"""SUBSCRIBE and its like, to the channels of Sentinel: clients listen there for a change of the leader.

A standby sends a message there. A deposed leader closes all of its connections instead.
"""

from typing import Final

from kvs.adapters.inbound.protocol.command import ANSWERED, OTHER, everywhere
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import REFUSED, Handler, RespCommand
from kvs.adapters.inbound.resp.commands.wrong_names import unknown_command
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.adapters.inbound.resp.glob import Glob
from kvs.domain.errors import LimitError, TooLargeError, UsageError
from kvs.ports.session import Session

MAX_SUBSCRIPTIONS: Final = 64
MAX_CHANNEL_BYTES: Final = 128

CHANNEL_STARTS: Final = b"+-"
"""Each of Sentinel's channels begins with one of them."""

SWITCH_MASTER: Final = b"+switch-master"
"""The channel of changes of the leader. A message has the name, the old host and port, the new host and port."""

PATTERN_STARTS: Final = CHANNEL_STARTS + b"*?[\\"


def _subscribing(kind: str, starts: bytes, *, patterns: bool) -> Handler:
    def subscribe(session: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
        if session.depth:
            raise UsageError(f"{kind.upper()} inside a transaction that START opened; COMMIT or ROLLBACK ends it.")
        _check(arguments)
        if not all(name[:1] and name[:1] in starts for name in arguments[1:]):
            raise unknown_command(arguments)
        subscribed = context.patterns if patterns else context.channels
        if len(set(subscribed).union(arguments[1:])) > MAX_SUBSCRIPTIONS:
            raise LimitError(f"A client can have at most {MAX_SUBSCRIPTIONS} subscriptions.")
        confirmed = []
        for name in arguments[1:]:
            if name not in subscribed:
                subscribed.append(name)
            confirmed.append(_confirmation(context, kind, name))
        return b"".join(confirmed)

    return subscribe


def _unsubscribing(kind: str, *, patterns: bool) -> Handler:
    def unsubscribe(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
        _check(arguments)
        subscribed = context.patterns if patterns else context.channels
        confirmed = []
        for name in arguments[1:] or [*subscribed]:
            if name in subscribed:
                subscribed.remove(name)
            confirmed.append(_confirmation(context, kind, name))
        return b"".join(confirmed) or _confirmation(context, kind, None)

    return unsubscribe


def _check(arguments: list[bytes]) -> None:
    if len(arguments) - 1 > MAX_SUBSCRIPTIONS:
        raise LimitError(f"A client can have at most {MAX_SUBSCRIPTIONS} subscriptions.")
    for name in arguments[1:]:
        if len(name) > MAX_CHANNEL_BYTES:
            raise TooLargeError(f"The name has {len(name)} bytes; {MAX_CHANNEL_BYTES} are allowed.")


def _confirmation(context: ClientContext, kind: str, name: bytes | None) -> bytes:
    protocol = context.protocol
    head = b">3\r\n" if protocol.version > 2 else b"*3\r\n"
    number = replies.number(context.subscriptions())
    return b"".join((head, replies.bulk(kind.encode()), protocol.value(name), number))


def switch_of_master(context: ClientContext, former: tuple[str, int], leader: tuple[str, int]) -> list[bytes]:
    """Return the messages to a client that another server leads: one, and one for each pattern, if it subscribed."""
    topology = context.shared.topology
    if topology is None or not context.subscriptions():
        return []
    text = b"%b %b %d %b %d" % (topology.name, former[0].encode(), former[1], leader[0].encode(), leader[1])
    matching = [pattern for pattern in context.patterns if Glob(pattern).match(SWITCH_MASTER)]
    messages = [[b"pmessage", pattern, SWITCH_MASTER, text] for pattern in matching]
    if SWITCH_MASTER in context.channels:
        messages.insert(0, [b"message", SWITCH_MASTER, text])
    head = b">" if context.protocol.version > 2 else b"*"
    return [head + replies.bulks(message)[1:] for message in messages]


def _command(name: str, run: Handler) -> RespCommand:
    return RespCommand(name, run, (OTHER,), 1, multi_policy=REFUSED, is_local=everywhere, on_standby=ANSWERED)


COMMANDS: Final[list[RespCommand]] = [
    _command("subscribe", _subscribing("subscribe", CHANNEL_STARTS, patterns=False)),
    _command("unsubscribe", _unsubscribing("unsubscribe", patterns=False)),
    _command("psubscribe", _subscribing("psubscribe", PATTERN_STARTS, patterns=True)),
    _command("punsubscribe", _unsubscribing("punsubscribe", patterns=True)),
]

ALLOWED: Final = frozenset(command.name for command in COMMANDS) | {b"ping", b"quit", b"reset"}
"""What a client that has subscribed may do in RESP2."""
