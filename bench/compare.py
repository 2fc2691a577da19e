"""The same work on several servers, in alternating rounds."""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench import machine
from bench.generator import Sample, Work, load, run
from bench.plans import Plan
from bench.servers import Server, running
from bench.spread import Spread, spread

GENERATOR_BOUND = 0.95  # a generator as busy as this may be what was measured
REFERENCE = "redis"
LIMIT = "echo"


@dataclass(frozen=True, slots=True)
class Figures:
    """What one server showed at one piece of work; each figure is a spread over the rounds.

    Attributes:
        per_s: Requests, or committed transactions, per second.
        of_reference: `per_s` as a ratio to Redis, taken round by round.
        of_limit: `per_s` as a share of the echo server's, taken round by round.
        foreign_cpu: CPU time that others took from the two cores, in cores: what disturbed the measurement.
        generator_bound: The generator may have been the limit: the rate is only a lower bound.
    """

    server: str
    per_s: Spread
    of_reference: Spread | None
    of_limit: Spread | None
    server_cpu_us: Spread
    p50_us: Spread
    p99_us: Spread
    p999_us: Spread
    max_us: Spread
    conflict_rate: Spread
    generator_utilisation: Spread
    foreign_cpu: Spread
    generator_bound: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """One piece of work and what each server showed at it."""

    work: Work
    figures: tuple[Figures, ...]


@dataclass(frozen=True, slots=True)
class _Round:
    sample: Sample
    foreign_cpu: float


def compare(plan: Plan, names: Sequence[str], python: str) -> Iterator[Cell]:
    """Measure a plan cell by cell."""
    for works in plan.groups:
        with ExitStack() as stack:
            servers = [stack.enter_context(running(name, python)) for name in names]
            for server in servers:
                load(server, works[0].keys, value_bytes=works[0].value_bytes)
            for work in works:
                yield _measure(work, [each for each in servers if work.suits(each)], plan.rounds)


def _measure(work: Work, servers: Sequence[Server], rounds: int) -> Cell:
    samples: dict[str, list[_Round]] = {server.name: [] for server in servers}
    for number in range(rounds):
        # Back and forth, so that no server always follows the same one and slow drift cancels out.
        for server in servers if number % 2 == 0 else reversed(servers):
            samples[server.name].append(_measure_once(work, server))
    rates = {name: [_rate(work, each.sample) for each in taken] for name, taken in samples.items()}
    cell = Cell(work, tuple(_figures(name, taken, rates) for name, taken in samples.items()))
    _log(cell)
    return cell


def _measure_once(work: Work, server: Server) -> _Round:
    begin, foreign = time.monotonic(), machine.busy_s() - _known_cpu_s(server)
    sample = run(work, server)
    foreign = machine.busy_s() - _known_cpu_s(server) - foreign
    return _Round(sample, max(0.0, foreign / (time.monotonic() - begin)))


def _known_cpu_s(server: Server) -> float:
    """Return the CPU seconds of the server, of the generators so far and of this process."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return machine.cpu_s(server.pid) + children.ru_utime + children.ru_stime + time.process_time()


def _rate(work: Work, sample: Sample) -> float:
    return sample.committed_per_s if work.is_transaction else sample.requests_per_s


def _figures(name: str, taken: Sequence[_Round], rates: Mapping[str, Sequence[float]]) -> Figures:
    def over(read: Callable[[Sample], float]) -> Spread:
        return spread(read(each.sample) for each in taken)

    def relative_to(other: str) -> Spread | None:
        if not all(rates.get(other, [0])):
            return None
        return spread(ours / theirs for ours, theirs in zip(rates[name], rates[other], strict=True))

    utilisation = over(lambda sample: sample.generator_utilisation)
    return Figures(
        server=name,
        per_s=spread(rates[name]),
        of_reference=relative_to(REFERENCE),
        of_limit=relative_to(LIMIT),
        server_cpu_us=over(lambda sample: sample.server_cpu_us),
        p50_us=over(lambda sample: sample.p50_us),
        p99_us=over(lambda sample: sample.p99_us),
        p999_us=over(lambda sample: sample.p999_us),
        max_us=over(lambda sample: sample.max_us),
        conflict_rate=over(lambda sample: sample.conflict_rate),
        generator_utilisation=utilisation,
        foreign_cpu=spread(each.foreign_cpu for each in taken),
        generator_bound=utilisation.median >= GENERATOR_BOUND,
    )


def title(work: Work) -> str:
    """Return the name of a piece of work for people."""
    size = f"{work.value_bytes} B" if work.value_bytes < 1 << 10 else f"{work.value_bytes >> 10} KiB"
    hot = f", {work.hot_keys} hot keys" if work.hot_keys else ""
    clients = "client" if work.connections == 1 else "clients"
    return f"{work.workload}, {work.connections} {clients}, {size}{hot}"


def _log(cell: Cell) -> None:
    shown = "  ".join(f"{figures.server} {figures.per_s.median:,.0f}/s" for figures in cell.figures)
    print(f"{title(cell.work)}, depth {cell.work.depth}: {shown}", file=sys.stderr)
