"""Whether there is an order of all transactions that explains what clients have seen and agrees with the clock.

It finds no fault with any history that there is such an order for. It need not find every other: where a value was
written by somebody who had not read the one before, and several were at it at the same time, it assumes nothing.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from tests.support.consistency.anomalies import LEVELS, Anomaly, Finding, name_of
from tests.support.consistency.effects import Appended, Effects
from tests.support.consistency.graph import BY_CLOCK, RANGE_RW, RW, Edge, Graph
from tests.support.consistency.history import (
    NEVER_NS,
    Outcome,
    Transaction,
    Window,
    element_of,
    elements_of,
    is_number,
)
from tests.support.consistency.timeline import Timeline
from tests.support.consistency.versions import NOBODY, Version
from tests.support.consistency.words import Story
from tests.support.consistency.writers import Writers

MOST_FINDINGS: Final = 20
"""Of each kind of search; a history that is wrong at all is often wrong in thousands of places."""


class Slack(NamedTuple):
    """By how much deadlines may differ from the clock of the history.

    Attributes:
        early_s: How much earlier something may expire: time stands still in a tick, and leaders' clocks may differ.
        late_s: How much later it may expire; None if there is no saying, as when a server is killed.
    """

    early_s: float = 1.0
    late_s: float | None = 1.0


def check(history: Sequence[Transaction], slack: Slack = Slack()) -> list[Finding]:  # noqa: B008  # it is immutable
    """Return what is wrong with a history, which began with no key there.

    Complexity: Linear in what was read and written, times how many were at the same key at the same time.
    """
    return _Check(history, slack).findings()


class _Check:
    def __init__(self, history: Sequence[Transaction], slack: Slack) -> None:
        self._slack = slack
        self._effects = [Effects(transaction) for transaction in history]
        self._windows: list[Window] = [effects.window for effects in self._effects]
        self._versions: list[Version] = []
        self._of_value: dict[tuple[str, str], Version] = {}
        self._timelines: dict[str, Timeline] = {}
        self._expiring: dict[int, Version] = {}
        self._latest_ns: dict[int, int] = {}
        self._graph = Graph()
        self._findings: list[Finding] = []
        self._story = Story(self._effects, self._versions, self._expiring)
        self._writers = Writers(self._effects, self._story, self._found)

    def findings(self) -> list[Finding]:
        self._look_inside()
        self._writers.find()
        self._make_versions()
        self._link_versions()
        self._note_deadlines()
        self._note_readers()
        self._place()
        self._find_cycles()
        return self._findings

    def _found(self, anomaly: Anomaly, text: str, *numbers: int) -> None:
        self._findings.append(Finding(anomaly, tuple(self._story.number(at) for at in numbers), text))

    # Each by itself.

    def _look_inside(self) -> None:
        for at, effects in enumerate(self._effects):
            if effects.faults:
                faults = "; ".join(effects.faults)
                self._found(Anomaly.INTERNAL, f"In {self._story.who(at)}, {faults}.", at)

    # Versions.

    def _new_version(self, key: str, value: str | None, writer: int) -> Version:
        version = Version(len(self._versions), key, value, writer)
        self._versions.append(version)
        return version

    def _new_expiry(self, version: Version) -> Version:
        """Return the version that an expiry leaves, which is like a transaction whose outcome nobody was told of."""
        self._windows.append((version.earliest_ns, NEVER_NS))
        self._expiring[len(self._windows) - 1] = version
        return self._new_version(version.key, None, len(self._windows) - 1)

    def _timeline(self, key: str) -> Timeline:
        if key not in self._timelines:
            self._timelines[key] = Timeline(key, self._new_version(key, None, NOBODY))
        return self._timelines[key]

    def _make_versions(self) -> None:
        for effects in self._effects:
            for key in effects.writes:
                self._timeline(key)
            for key in effects.blind_increments:
                timeline = self._timeline(key)
                timeline.maybe_present_ns = min(timeline.maybe_present_ns, effects.window[0])
        for at, effects in enumerate(self._effects):
            if effects.transaction.outcome is Outcome.ABORTED:
                continue
            for key, value in effects.writes.items():
                self._make_version(key, None if value is None else _last_element(value), at)
            if effects.clears:
                for key in self._timelines.keys() - effects.writes.keys():
                    self._make_version(key, None, at)
        for at, effects in enumerate(self._effects):
            for key, value in effects.reads.items():
                numbered = value is not None and is_number(value) and self._writers.happened[at]
                if numbered and (key, value) not in self._of_value:  # by an increment that nobody was told of
                    version = self._new_version(key, value, NOBODY)
                    self._of_value[key, value or ""] = version
                    self._timeline(key).versions.append(version)

    def _make_version(self, key: str, element: str | None, at: int) -> None:
        timeline = self._timelines[key]
        if not self._writers.happened[at]:
            begun_ns = self._windows[at][0]
            if element is None:
                timeline.maybe_absent_ns = min(timeline.maybe_absent_ns, begun_ns)
            else:
                timeline.maybe_present_ns = min(timeline.maybe_present_ns, begun_ns)
                if is_number(element):
                    timeline.maybe_added += self._added(key, element, at)
                lasts_s = self._effects[at].lasts_s.get(key)
                if lasts_s is not None:
                    timeline.maybe_absent_ns = min(timeline.maybe_absent_ns, self._earliest_ns(at, lasts_s))
            return
        version = self._new_version(key, element, at)
        timeline.versions.append(version)
        if element is not None and (self._writers.of[key, element] == at or (key, element) in self._writers.doubtful):
            self._of_value[key, element] = version

    def _link_versions(self) -> None:
        """Have each version follow the one that it is known to have replaced."""
        for timeline in self._timelines.values():
            if any(version.value is not None and is_number(version.value) for version in timeline.versions):
                self._link_counter(timeline)
                continue
            for version in timeline.versions:
                if version.writer < 0:
                    continue
                reads = self._effects[version.writer].reads
                if reads.get(timeline.key) is not None:
                    self._link(version, reads[timeline.key])
        lists = {
            (key, value)
            for at, effects in enumerate(self._effects)
            if self._writers.happened[at]
            for key, value in effects.reads.items()
            if value is not None and value.startswith(",")
        }
        for key, value in sorted(lists, key=lambda each: -len(each[1])):
            self._link_list(key, elements_of(value))

    def _link_counter(self, timeline: Timeline) -> None:
        known = sorted(
            (version for version in timeline.versions if version.value is not None),
            key=lambda version: int(version.value or ""),
        )
        for before, version in pairwise(known):
            version.follow(before)
        last = int(known[-1].value or "")
        told = 0
        for version in known:
            if version.writer != NOBODY:
                told += self._added(timeline.key, version.value or "", version.writer)
        others = self._writers.blind_increments.get(timeline.key, 0) + timeline.maybe_added
        if last > told + others:
            text = f"{timeline.key} is {last}, by {told} increments, and at most {others} that may have been."
            self._found(Anomaly.APPLIED_TWICE, text)

    def _added(self, key: str, total: str, at: int) -> int:
        """Return by how much a transaction has incremented a counter."""
        return int(total) - int(self._effects[at].reads.get(key) or 0)

    def _link_list(self, key: str, elements: list[str]) -> None:
        """Have the versions of a list follow each other as it shows."""
        versions = [self._of_value.get((key, element)) for element in elements]
        # Others are elements to which their writer has appended itself, or of which something has been found already.
        known = [version for version in versions if version is not None]
        for before, version in pairwise(known):
            self._link(version, before.value)
        if not known or known[0].previous is None:
            return
        read = self._effects[known[0].writer].reads.get(key)
        if read is None or element_of(read) != known[0].previous.value:  # else it has deleted the list and begun anew
            text = f"{key} = {elements} lacks {known[0].previous.value!r}, behind which it has been seen."
            self._found(Anomaly.LOST_UPDATE, text, *(each.writer for each in (known[0], known[0].previous)))

    def _link(self, version: Version, value: str | None) -> None:
        before = self._of_value.get((version.key, element_of(value))) if value is not None else None
        if before is None or before is version or version.previous is before:
            return
        if version.previous is None:
            version.follow(before)
        else:
            text = (
                f"{version.key} = {version.value!r} comes behind both {version.previous.value!r} and {before.value!r}."
            )
            self._found(Anomaly.LOST_UPDATE, text, *(each.writer for each in (version, version.previous, before)))

    def _note_deadlines(self) -> None:
        """Note when versions may expire, at the earliest, and look for those who have read them too late."""
        setters: dict[str, list[tuple[int, Version | None, float | None]]] = {}
        for at, effects in enumerate(self._effects):
            if effects.transaction.outcome is Outcome.ABORTED:
                continue
            for key, lasts_s in effects.lasts_s.items():
                value = effects.writes.get(key) or effects.reads.get(key)
                element = _last_element(value) if value is not None else None
                version = None if element is None else self._of_value.get((key, element))
                if value is not None and version is None:
                    continue  # of what never was
                setters.setdefault(key, []).append((at, version, lasts_s))
        for key, all_of_key in setters.items():
            for version in self._timeline(key).versions:
                those = [each for each in all_of_key if each[1] in (None, version)]
                times = [(at, lasts_s) for at, _, lasts_s in those if lasts_s is not None]
                if version.value is None or not times:
                    continue
                version.earliest_ns = min(self._earliest_ns(at, lasts_s) for at, lasts_s in times)
                if len(those) == 1 and those[0][1] is version and self._writers.happened[times[0][0]]:
                    self._note_latest(version, *times[0])

    def _earliest_ns(self, at: int, lasts_s: float) -> int:
        return self._effects[at].transaction.begun[0] + round((lasts_s - self._slack.early_s) * 1e9)

    def _note_latest(self, version: Version, at: int, lasts_s: float) -> None:
        ended_ns = self._windows[at][1]
        if self._slack.late_s is not None and ended_ns < NEVER_NS:
            self._latest_ns[version.number] = ended_ns + round((lasts_s + self._slack.late_s) * 1e9)

    # Readers.

    def _note_readers(self) -> None:
        keys = sorted(self._timelines)
        for at, effects in enumerate(self._effects):
            if not self._writers.happened[at]:
                continue
            for key, value in effects.reads.items():
                if value is None:
                    self._note_absent(at, key, by_range=False)
                    continue
                version = self._of_value.get((key, element_of(value)))
                if version is not None:
                    version.readers.append((at, False))
                    self._note_expired(at, version)
            ranged: dict[str, bool] = {}
            for each in effects.ranges:
                for key in _between(keys, each.low, each.high):
                    if key not in each.own:
                        ranged[key] = key in each.keys
                for key in each.keys - self._timelines.keys():
                    self._found(Anomaly.INVENTED, f"{self._story.who(at)} saw {key!r}, which nobody wrote.", at)
            for key, present in (ranged | effects.present).items():
                if key in effects.reads or (key not in self._timelines and not present):
                    continue
                if present:
                    self._timeline(key).present.append(at)
                else:
                    self._note_absent(at, key, by_range=True)

    def _note_absent(self, at: int, key: str, *, by_range: bool) -> None:
        timeline = self._timelines.get(key)
        if timeline is None:
            return
        value = self._effects[at].writes.get(key)
        own = None if value is None else self._of_value.get((key, _last_element(value)))
        if own is not None and own.writer == at and own.previous is None:
            timeline.creators[at] = own, by_range
        else:
            timeline.absent.append((at, by_range))

    def _note_expired(self, at: int, version: Version) -> None:
        latest_ns = self._latest_ns.get(version.number)
        if latest_ns is not None and self._windows[at][0] > latest_ns:
            late_s = (self._windows[at][0] - latest_ns) / 1e9
            text = f"{self._story.who(at)} read {version.key} = {version.value!r}, {late_s:.3f} s after it had expired."
            self._found(Anomaly.EXPIRED_READ, text, at)

    # The order.

    def _place(self) -> None:
        lost: dict[tuple[str, bool], list[int]] = {}
        for key in sorted(self._timelines):
            for fault in self._timelines[key].place(self._graph, self._windows, self._new_expiry):
                lost.setdefault((fault.key, fault.present), []).append(fault.reader)
        for (key, present), readers in list(lost.items())[:MOST_FINDINGS]:
            text = self._story.of_nothing(self._timelines[key], readers[0], present)
            anomaly = Anomaly.STALE_READ if present else Anomaly.LOST_WRITE
            if self._story.last_known_ns(self._timelines[key], readers[0], present) > self._started_ns(readers[0]):
                anomaly = Anomaly.MISSED_CONFLICT
            self._found(anomaly, text, *readers[:1])

    def _find_cycles(self) -> None:
        self._graph.add_clock(self._windows)
        for component in self._graph.components()[:MOST_FINDINGS]:
            for kinds, most in LEVELS:
                cycle = self._graph.shortest_cycle(component, kinds)
                if cycle is not None and len(cycle) <= most:
                    keys = [self._versions[edge.version].key if edge.version >= 0 else "" for edge in cycle]
                    anomaly = name_of(cycle, keys)
                    if anomaly in (Anomaly.STALE_READ, Anomaly.LOST_UPDATE):
                        anomaly = self._by_clock(anomaly, cycle)
                    self._found(anomaly, self._story.of_cycle(cycle), *(edge.before for edge in cycle))
                    break

    def _by_clock(self, anomaly: Anomaly, cycle: Sequence[Edge]) -> Anomaly:
        """Return what it is if what was overwritten was read when that had been acknowledged, or before COMMIT."""
        for edge in cycle:
            if edge.kind & ~BY_CLOCK not in (RW, RANGE_RW):
                continue
            version, acknowledged_ns = self._versions[edge.version], self._windows[edge.after][1]
            if acknowledged_ns < self._started_ns(edge.before):
                return Anomaly.STALE_READ if version.readers or version.next else Anomaly.LOST_WRITE
            if anomaly is Anomaly.STALE_READ:
                anomaly = Anomaly.MISSED_CONFLICT
        return anomaly

    def _started_ns(self, at: int) -> int:
        return self._effects[at].transaction.begun[0] if at < len(self._effects) else NEVER_NS


def _last_element(value: "str | Appended") -> str:
    return element_of(value.end if isinstance(value, Appended) else value)


def _between(keys: Sequence[str], low: str, high: str) -> Sequence[str]:
    return keys[bisect_left(keys, low) : bisect_left(keys, high) if high else len(keys)]
