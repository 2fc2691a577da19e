"""LATENCY: what has held the server up, and how long commands take."""

from collections.abc import Iterable
from typing import Final

from kvs.adapters.inbound.protocol.command import OTHER, SLOW_COST, everywhere
from kvs.adapters.inbound.protocol.statistics import CommandFigures
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import RespCommand
from kvs.adapters.inbound.resp.commands.subcommands import container
from kvs.adapters.inbound.resp.context import ClientContext, check_reply
from kvs.ports.session import Session, Steps

HISTOGRAM_COST: Final = 60
"""Units of work to describe the durations of a command."""

WORDS_PER_UNIT: Final = 8

FIRST_POWER: Final = 10
LAST_POWER: Final = 40
"""Powers of two of nanoseconds that bound the parts of a histogram: from 1 us to 18 minutes."""


def _latest(_: Session, context: ClientContext, __: list[bytes]) -> bytes:
    found = []
    for name, event in list(context.shared.observation.latency.events.items()):
        unix_s, duration_ms = event.samples[-1]
        numbers = [replies.number(number) for number in (unix_s, duration_ms, event.longest_ms)]
        found.append(replies.array([replies.bulk(name), *numbers]))
    return replies.array(found)


def _history(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    event = context.shared.observation.latency.events.get(arguments[2])
    samples = [] if event is None else list(event.samples)
    return replies.array(
        [replies.array([replies.number(unix_s), replies.number(duration_ms)]) for unix_s, duration_ms in samples]
    )


def _reset(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    events = context.shared.observation.latency.events
    names = arguments[2:] or list(events)
    return replies.number(sum([events.pop(name, None) is not None for name in names]))


def _histogram(session: Session, context: ClientContext, arguments: list[bytes]) -> Steps[bytes]:
    by_name = context.shared.observation.statistics.by_name()
    wanted = dict.fromkeys([name.lower() for name in arguments[2:]])
    session.work.left -= len(wanted) // WORDS_PER_UNIT
    parts = []
    for name in _named(by_name, wanted) if wanted else by_name:
        if by_name[name].calls:
            parts.append((replies.bulk(name), _durations(context, by_name[name])))
            session.work.left -= HISTOGRAM_COST
            if session.work.left <= 0:
                yield
    check_reply(context, [part for _, part in parts])
    return context.protocol.mapping(parts)


def _named(known: Iterable[bytes], wanted: Iterable[bytes]) -> list[bytes]:
    """Return the wanted commands, each once; a command with all its subcommands."""
    groups: dict[bytes, list[bytes]] = {}
    for each in known:
        for name in dict.fromkeys([each, each.partition(b"|")[0]]):
            groups.setdefault(name, []).append(each)
    return list(dict.fromkeys([each for name in wanted for each in groups.get(name, ())]))


def _durations(context: ClientContext, figures: CommandFigures) -> bytes:
    """Return how many calls took at most so many microseconds, where that differs from what is before."""
    counts = []
    before = 0
    for power in range(FIRST_POWER, LAST_POWER + 1):
        count = figures.durations.below_ns(1 << power)
        if count > before:
            counts.append((replies.number((1 << power) // 1000), replies.number(count)))
            before = count
    return context.protocol.mapping(
        [
            (replies.bulk(b"calls"), replies.number(int(figures.calls))),
            (replies.bulk(b"histogram_usec"), context.protocol.mapping(counts)),
        ]
    )


COMMANDS: Final[list[RespCommand]] = [
    container(
        "latency",
        [
            RespCommand("latency|reset", _reset, (OTHER,), 1, is_local=everywhere),
            RespCommand("latency|histogram", _histogram, (OTHER,), 1, cost=SLOW_COST, is_local=everywhere),
            RespCommand("latency|history", _history, (OTHER, OTHER), is_local=everywhere),
            RespCommand("latency|latest", _latest, (OTHER,), is_local=everywhere),
        ],
    )
]
