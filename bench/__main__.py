"""The command line: `python -m bench quick`, from the root of the repository."""

import argparse
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from bench import (
    checkpoints,
    clients,
    cluster,
    compare,
    durable,
    expiry,
    failover,
    growth,
    hostile,
    machine,
    memory,
    pauses,
    plans,
    redis_benchmark,
    report,
    servers,
    startup,
    waits,
    watched,
)
from bench.errors import BenchError
from bench.spread import Sections

RESULTS: Final = Path(__file__).parent / "results"
COMPARED: Final = ("echo", "redis", "memcached", "kvs", "kvs-resp", "kvs-pure")
COMPARISONS: Final = {"quick": plans.quick, "full": plans.full}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one measurement; return the exit code."""
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every `with` ends what it started
    try:
        if options.command == "report":
            _report(options.results, options.charts)
        elif options.command in COMPARISONS:
            _compare(options)
        else:
            _measure(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    return 0


def _compare(options: argparse.Namespace) -> None:
    plan = COMPARISONS[options.command](options.rounds, options.seconds)
    names = _servers(options, COMPARED)
    heading = {"name": plan.name, "rounds": plan.rounds, **machine.describe(options.python)}
    out = options.out or RESULTS / f"{plan.name}.json"
    cells = []
    for cell in compare.compare(plan, names, options.python):
        cells.append(cell)
        # After every cell, so that an interrupt loses little.
        report.save(out, {**heading, "cells": [asdict(each) for each in cells]})
    _report(out, options.charts)


def _report(results: Path, directory: Path | None) -> None:
    try:
        heading, cells = report.read_cells(results)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{results} holds no comparison: {error}") from None
    text = report.comparison(heading, cells)
    print(text)
    if directory is not None:
        report.draw(cells, directory)
        (directory / f"{heading['name']}.md").write_text(text)


def _measure(options: argparse.Namespace) -> None:
    heading: dict[str, object] = {"name": options.command, **machine.describe(options.python)}
    sections = _sections(options)
    report.save(options.out or RESULTS / f"{options.command}.json", {**heading, "sections": _plain(sections)})
    text = report.findings(heading, sections)
    print(text)
    if options.charts is not None:
        options.charts.mkdir(parents=True, exist_ok=True)
        (options.charts / f"{options.command}.md").write_text(text)


def _sections(options: argparse.Namespace) -> Sections:
    python, seconds, rounds = options.python, options.seconds, options.rounds
    sections: Sections = {}
    match options.command:
        case "growth":
            effort = growth.Effort(seconds or 1.0, rounds or 5)
            for name in _servers(options, ("kvs",)):
                sections |= growth.measure(name, python, effort, options.keys or 10_000_000)
        case "memory":
            sections = memory.measure(_servers(options, ("redis", "kvs")), python, options.keys or 1_000_000)
        case "pauses":
            names = _servers(options, ("redis", "kvs"))
            sections = pauses.measure(names, python, options.keys or 1_000_000, seconds or 3.0, rounds or 3)
        case "hostile":
            sections = hostile.measure(_servers(options, ("kvs",)), python, rounds or 3)
        case "expiry":
            names = _servers(options, ("redis", "kvs"))
            sections = expiry.measure(names, python, options.keys or 1_000_000, seconds or 4.0, rounds or 3)
        case "startup":
            sections = startup.measure(_servers(options, ("redis", "kvs")), python, rounds or 20)
        case "durable":
            sections = durable.measure(python, options.keys or 1_000_000, seconds or 2.0, rounds or 5)
        case "cluster":
            sections = cluster.measure(python, options.keys or 100_000, seconds or 2.0, rounds or 5)
        case "checkpoints":
            sections = checkpoints.measure(python, options.keys or 1_000_000, seconds or 40.0, rounds or 3)
        case "failover":
            sections = failover.measure(python, rounds or 10)
        case "waits":
            sections = waits.measure(python, options.keys or 100_000, seconds or 4.0, rounds or 5)
        case "watched":
            sections = watched.measure(python, seconds or 3.0, rounds or 5)
        case "redis-benchmark":
            sections = redis_benchmark.measure(python, seconds or 1.0, rounds or 5)
        case _:
            for name in _servers(options, ("kvs",)):
                sections |= clients.measure(name, python, seconds or 3.0)
    return sections


def _plain(sections: Sections) -> dict[str, list[dict[str, object]]]:
    """Return the sections with spreads as dictionaries, as JSON wants them."""
    return {
        name: [{key: report.plain(value) for key, value in row.items()} for row in rows]
        for name, rows in sections.items()
    }


def _servers(options: argparse.Namespace, default: Sequence[str]) -> list[str]:
    names = options.servers.split(",") if options.servers else list(default)
    for name in names:
        servers.find(name)
    return names


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    description = "Measure kvs beside Redis and memcached."
    top = argparse.ArgumentParser(prog="python -m bench", description=description)
    commands = top.add_subparsers(dest="command", required=True)
    for name, what in {
        "quick": "about three minutes: mixed work at depth 1, 16, 64 and transactions",
        "full": "about half an hour: every combination of work, depth, clients and value size",
        "growth": "cost against nesting depth, open transactions and number of keys",
        "memory": "resident bytes per key",
        "pauses": "the longest wait of one client while others do big things",
        "hostile": "the longest wait of one client while others ask for the most expensive things",
        "expiry": "the wait of clients while a million keys fall due at once",
        "startup": "time from start to listening",
        "watched": "requests per second with the admin port scraped every second, and without one",
        "redis-benchmark": "Redis's own benchmark, on Redis and on kvs",
        "durable": "commits on the disk beside Redis that syncs always; reads; starts",
        "cluster": "the etcd engine: commits beside what etcd allows; relayed clients beside those of the leader",
        "checkpoints": "the etcd engine at a million keys: what checkpoints, repairs and standbys take",
        "failover": "the etcd engine: from the end of a leader to the first commit at another server",
        "waits": "what the loop waits for while batches are in flight",
        "clients": "1,000 busy clients against 50; 10,000 idle ones beside 200 busy ones",
    }.items():
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("--servers", help=f"comma-separated; of {', '.join(servers.VARIANTS)}")
        command.add_argument("--rounds", type=int, help="how often each figure is taken")
        command.add_argument("--seconds", type=float, help="how long each run lasts")
        command.add_argument("--keys", type=int, help="how many keys (growth, memory, pauses, expiry, durable)")
        command.add_argument("--out", type=Path, help="the JSON file to write (bench/results/<command>.json)")
        command.add_argument("--charts", type=Path, help="a directory for charts and tables")
        command.add_argument("--python", default=sys.executable, help="an interpreter that has kvs")
    command = commands.add_parser("report", help="tables and charts from a file of quick or full")
    command.add_argument("results", type=Path)
    command.add_argument("--charts", type=Path)
    return top


if __name__ == "__main__":
    sys.exit(main())
