"""One key: which versions it had, in which order as far as that is known, and who has seen which of them.

A version that is overwritten by somebody who has read it is followed by that one immediately. So versions form *runs*
within which nothing else can be; a delete ends a run. Of two runs one is before the other as a whole; which, the clock
tells, if any transaction that has to do with the one was acknowledged before one that has to do with the other began.

Who has seen the key absent has seen what a delete has left, or an expiry, or the beginning. Who has only seen that it
was there has seen some run. If only one can be meant, that is what was read; if none can be, something is lost.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tests.support.consistency.graph import BY_CLOCK, RANGE_RW, RW, WR, WW, Graph
from tests.support.consistency.history import Window
from tests.support.consistency.versions import LATER_NS, NOBODY, Candidates, Order, Span, Version


class Run(NamedTuple):
    """Versions of which each has immediately replaced the one before; only the last may be a delete."""

    versions: list[Version]
    values: Span  # of those who have written or read its values
    whole: Span  # that, and who has ended it


class Fault(NamedTuple):
    """Something that a transaction has seen and that cannot be.

    Attributes:
        reader: The transaction.
        key: What it has looked at.
        present: Whether it was there.
    """

    reader: int
    key: str
    present: bool


class Timeline:
    """One key.

    Attributes:
        versions: The versions of transactions that have happened, in no order, with their readers.
        initial: The state at the beginning, which is none.
        creators: Those who saw it absent and then wrote it: the version, and whether they saw it by a range.
        absent: Those who saw it absent, and whether by a range.
        present: Those who saw that it was there, and not what.
        maybe_absent_ns: When the first transaction began that may have deleted it, if it has happened.
        maybe_present_ns: When the first transaction began that may have written it, if it has happened.
        maybe_added: By how much those have incremented it.
    """

    def __init__(self, key: str, initial: Version) -> None:
        self.key = key
        self.initial = initial
        self.versions: list[Version] = [initial]
        self.creators: dict[int, tuple[Version, bool]] = {}
        self.absent: list[tuple[int, bool]] = []
        self.present: list[int] = []
        self.maybe_absent_ns = LATER_NS
        self.maybe_present_ns = LATER_NS
        self.maybe_added = 0

    def place(self, graph: Graph, windows: list[Window], new_expiry: Callable[[Version], Version]) -> Iterable[Fault]:
        """Find out who has seen what, and add to the graph what follows from it.

        Args:
            graph: The graph.
            windows: Those of all transactions; an expiry is one.
            new_expiry: Makes the version that an expiry of another leaves.

        Returns:
            What cannot be.
        """
        runs = self._runs(windows)
        with_values = [run for run in runs if run.versions[0].value is not None]
        order = Order([run.values for run in with_values])
        faults = [*self._place_absent(order, with_values, windows, new_expiry)]
        faults += self._place_present(graph, order, with_values, windows)
        self._add_known(graph)
        self._add_by_clock(graph, self._runs(windows), windows)
        return faults

    # What was seen.

    def _place_absent(
        self, order: Order, runs: list[Run], windows: list[Window], new_expiry: Callable[[Version], Version]
    ) -> Iterable[Fault]:
        gone = [version for version in self.versions if version.value is None]
        spans = [
            (windows[each.writer][0], order.over_ns(windows[each.writer][1]))
            if each.writer >= 0
            else (-1, order.over_ns(-1))
            for each in gone
        ]
        for at, run in enumerate(runs):
            last = run.versions[-1]
            if last.value is not None and last.earliest_ns < LATER_NS:
                gone.append(last)
                spans.append((last.earliest_ns, order.over_ns(run.values.done_ns, at)))
        candidates = Candidates(spans)
        seers = [(reader, by_range) for reader, (_, by_range) in self.creators.items()]
        for reader, by_range in seers + self.absent:
            begun_ns, done_ns = windows[reader]
            found = [gone[at] for at in candidates.between(begun_ns, done_ns, 3)]
            found = [each for each in found if each.writer != reader]
            if len(found) > 1 or self.maybe_absent_ns <= done_ns:
                continue
            if not found:
                yield Fault(reader, self.key, present=False)
                continue
            version = found[0]
            if version.value is not None:
                if version.expiry is None:
                    version.expiry = new_expiry(version)
                    version.expiry.follow(version)
                    self.versions.append(version.expiry)
                version = version.expiry
            if reader in self.creators:
                self.creators[reader][0].follow(version)
            version.readers.append((reader, by_range))

    def _place_present(self, graph: Graph, order: Order, runs: list[Run], windows: list[Window]) -> Iterable[Fault]:
        spans = []
        for at, run in enumerate(runs):
            over_ns, last = order.over_ns(run.values.done_ns, at), run.versions[-1]
            if last.value is None:
                over_ns = min(over_ns, windows[last.writer][1])
            writer = run.versions[0].writer
            spans.append((windows[writer][0] if writer >= 0 else -1, over_ns))
        candidates = Candidates(spans)
        for reader in self.present:
            begun_ns, done_ns = windows[reader]
            found = candidates.between(begun_ns, done_ns, 2)
            if len(found) > 1 or self.maybe_present_ns <= done_ns:
                continue
            if not found:
                yield Fault(reader, self.key, present=True)
                continue
            versions = runs[found[0]].versions
            graph.add(versions[0].writer, reader, WR, versions[0].number)
            end = versions[-1].expiry or versions[-1]
            if end.value is None:
                graph.add(reader, end.writer, RANGE_RW, end.number)

    # What follows.

    def _runs(self, windows: list[Window]) -> list[Run]:
        runs = []
        for version in self.versions:
            before = version.previous
            if before is not None and before.value is not None and before.next[0] is version:
                continue
            versions = [version]
            while versions[-1].value is not None and versions[-1].next:
                versions.append(versions[-1].next[0])
            runs.append(_run(versions, windows))
        return runs

    def _add_known(self, graph: Graph) -> None:
        """Add the order of those who have to do with the same version, or with that and the next."""
        for version in self.versions:
            for reader, _ in version.readers:
                graph.add(version.writer, reader, WR, version.number)
            for following in version.next:
                graph.add(version.writer, following.writer, WW, following.number)
                for reader, by_range in version.readers:
                    graph.add(reader, following.writer, RANGE_RW if by_range else RW, following.number)

    def _add_by_clock(self, graph: Graph, runs: list[Run], windows: list[Window]) -> None:
        """Add the order of runs, and of those between them who have seen nothing."""
        order = Order([run.whole for run in runs])
        seers = sorted((windows[reader][0], reader) for reader, _ in self.absent if reader not in self.creators)
        begun = [begun_ns for begun_ns, _ in seers]
        for at, run in enumerate(runs):
            last = run.versions[-1]
            following, first_ns = order.after(run.whole.done_ns, at)
            for each in following:
                head = runs[each].versions[0]
                graph.add(last.writer, head.writer, WW | BY_CLOCK, head.number)
                for reader, by_range in last.readers:
                    graph.add(reader, head.writer, (RANGE_RW if by_range else RW) | BY_CLOCK, head.number)
            for place in range(bisect_right(begun, run.whole.done_ns), bisect_left(begun, first_ns)):
                graph.add(last.writer, seers[place][1], WR | BY_CLOCK, last.number)
        for _, reader in seers:
            for each in order.after(windows[reader][1])[0]:
                head = runs[each].versions[0]
                graph.add(reader, head.writer, RW | BY_CLOCK, head.number)


def _run(versions: list[Version], windows: list[Window]) -> Run:
    done_ns, begun_ns = LATER_NS, -1
    for version in versions:
        if version.value is not None:
            if version.writer != NOBODY:
                done_ns = min(done_ns, windows[version.writer][1])
                begun_ns = max(begun_ns, windows[version.writer][0])
            for reader, _ in version.readers:
                done_ns = min(done_ns, windows[reader][1])
                begun_ns = max(begun_ns, windows[reader][0])
    values = Span(done_ns, begun_ns)
    last = versions[-1]
    if last.value is None:
        begins, ends = windows[last.writer] if last.writer != NOBODY else (-1, -1)
        done_ns, begun_ns = min(done_ns, ends), max(begun_ns, begins)
    return Run(versions, values, Span(done_ns, begun_ns))
