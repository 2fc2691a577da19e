"""Findings in words."""

from collections.abc import Mapping, Sequence
from typing import Final

from tests.support.consistency.effects import Effects
from tests.support.consistency.graph import BY_CLOCK, CLOCK, RW, WR, WW, Edge
from tests.support.consistency.history import NEVER_NS, Kind, Operation, Outcome
from tests.support.consistency.timeline import Timeline
from tests.support.consistency.versions import NOBODY, Version

EXPIRY: Final = -1
"""In place of the number of a transaction."""

_MS: Final = 1e6


class Story:
    """Tells of transactions and their versions.

    Args:
        effects: The transactions.
        versions: All versions, by their numbers.
        expiring: The versions that expired, by the numbers of what stands for their expiries.
    """

    def __init__(
        self, effects: Sequence[Effects], versions: Sequence[Version], expiring: Mapping[int, Version]
    ) -> None:
        self._effects = effects
        self._versions = versions
        self._expiring = expiring
        self._start_ns = min((each.transaction.begun[0] for each in effects), default=0)

    def number(self, at: int) -> int:
        """Return the transaction's own number."""
        return self._effects[at].transaction.number if 0 <= at < len(self._effects) else EXPIRY

    def who(self, at: int) -> str:
        """Return what a transaction is called."""
        if at in self._expiring:
            return f"the expiry of {_shown(self._expiring[at])}"
        if at == NOBODY:
            return "the beginning"
        transaction = self._effects[at].transaction
        outcome = "" if transaction.outcome is Outcome.COMMITTED else f", {transaction.outcome.value}"
        return f"T{transaction.number} (client {transaction.client}{outcome})"

    def of_cycle(self, cycle: Sequence[Edge]) -> str:
        """Return each step, and below it what the transactions are."""
        steps = [f"  {self.who(edge.before)} is before {self.who(edge.after)}: {self._why(edge)}." for edge in cycle]
        return "\n".join([*steps, *(self._detail(edge.before) for edge in cycle)])

    def of_nothing(self, timeline: Timeline, reader: int, present: bool) -> str:
        """Return that what a transaction saw of a key is explained by nothing."""
        text = f"  {self.who(reader)} saw {timeline.key} {'there' if present else 'absent'}"
        details = [self._detail(reader)]
        last = self._last_known(timeline, reader, present)
        if last is not None:
            did = "deleted it" if last.value is None else f"wrote {last.value!r}"
            text += f", although {self.who(last.writer)} was acknowledged before, which {did}"
            details.append(self._detail(last.writer))
        return "\n".join([f"{text}, and nothing explains it.", *details])

    def last_known_ns(self, timeline: Timeline, reader: int, present: bool) -> int:
        """Return when the last was acknowledged by which that is not so; 0 if there is none."""
        last = self._last_known(timeline, reader, present)
        return 0 if last is None else self._effects[last.writer].window[1]

    def _last_known(self, timeline: Timeline, reader: int, present: bool) -> Version | None:
        begun_ns = self._effects[reader].window[0]
        known = [
            version
            for version in timeline.versions
            if 0 <= version.writer < len(self._effects)
            and (version.value is not None) != present
            and self._effects[version.writer].window[1] < begun_ns
        ]
        return max(known, key=lambda version: self._effects[version.writer].window[1], default=None)

    def _why(self, edge: Edge) -> str:
        kind = edge.kind & ~BY_CLOCK
        if kind == CLOCK:
            ended, began = self._at_ms(edge.before, 1), self._at_ms(edge.after, 0)
            return f"it was acknowledged at {ended}, and the other began at {began}"
        version = self._versions[edge.version]
        by_clock = " (by the clock)" if edge.kind & BY_CLOCK else ""
        if kind == WR:
            return f"that one saw what it left, {_shown(version)}{by_clock}"
        if kind == WW:
            return f"its version of {version.key} was replaced by {_shown(version)}{by_clock}"
        if kind == RW:
            return f"it read {version.key} before that one left {_shown(version)}{by_clock}"
        return f"it looked whether {version.key} is there before that one left {_shown(version)}{by_clock}"

    def _at_ms(self, at: int, end: int) -> str:
        window = self._effects[at].window if at < len(self._effects) else (self._expiring[at].earliest_ns, NEVER_NS)
        return f"{(window[end] - self._start_ns) / _MS:.3f} ms"

    def _detail(self, at: int) -> str:
        if not 0 <= at < len(self._effects):
            return f"    {self.who(at)}"
        transaction = self._effects[at].transaction
        done = [_operation(each) for each in transaction.operations]
        ended = f"{self._at_ms(at, 1)}" if self._effects[at].window[1] < NEVER_NS else "nobody knows when"
        return f"    {self.who(at)}, between {self._at_ms(at, 0)} and {ended}: {', '.join(done)}"


def _shown(version: Version) -> str:
    return f"{version.key} absent" if version.value is None else f"{version.key} = {version.value!r}"


def _operation(operation: Operation) -> str:
    kind = operation.kind
    told: list[object] = [kind.value, operation.key]
    if kind in (Kind.READ, Kind.WRITE, Kind.APPEND, Kind.INCREMENT):
        told.append(repr(operation.value))
    elif kind in (Kind.SEEN, Kind.COUNT):
        told.append(operation.amount)
    elif kind is Kind.RANGE:
        told.append(list(operation.keys))
    if operation.lasts_s is not None:
        told.append(f"for {operation.lasts_s} s")
    return " ".join(map(str, told)).strip()
