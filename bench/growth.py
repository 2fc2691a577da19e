"""Does the cost of a request grow with nesting depth, with open transactions, with the number of keys?

Every comparison is of the server's CPU time per request at pipeline depth 64, where its own work shows,
taken in alternating rounds on one server.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from bench import machine
from bench.client import LineClient
from bench.errors import BenchError
from bench.generator import Sample, Work, load, run, started
from bench.servers import Server, running
from bench.spread import Row, Sections, spread

DEPTH: Final = 64
NESTED: Final = 1000
OPEN_TRANSACTIONS: Final = 1000
KEYS: Final = 100_000
FEW_KEYS: Final = 50  # small enough for every key to change between any two of a thousand snapshots
SMALL_STORE: Final = 10_000
NEW_AT_SMALL: Final = 10_000
NEW_AT_BIG: Final = 100_000


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how often: seconds per run, and rounds."""

    seconds: float
    rounds: int


def measure(name: str, python: str, effort: Effort, big_store: int) -> Sections:
    """Measure one server."""
    with running(name, python) as server:
        load(server, KEYS)
        rows = _nesting(server, effort)
        rows.append(_puts_beside_open_transactions(server, effort))
        rows += _old_snapshot(server, effort)
    return {
        f"{name}: nesting and snapshots": rows,
        f"{name}: PUT of new keys": _new_keys(name, python, effort, big_store),
    }


def _compared(what: str, rounds: int, base: Callable[[], Sample], grown: Callable[[], Sample]) -> Row:
    """Run two measurements in alternating order and compare them round by round."""
    pairs = []
    for number in range(rounds):
        if number % 2 == 0:
            pairs.append((base(), grown()))
        else:
            late = grown()
            pairs.append((base(), late))
    return {
        "what": what,
        "base us": spread(before.server_cpu_us for before, _ in pairs),
        "grown us": spread(after.server_cpu_us for _, after in pairs),
        "grown / base": spread(after.server_cpu_us / before.server_cpu_us for before, after in pairs),
        "rate base / grown": spread(before.requests_per_s / after.requests_per_s for before, after in pairs),
    }


def _nesting(server: Server, effort: Effort) -> list[Row]:
    # Few keys, so that the warm-up fills write set and read set and both sides then do the same.
    base = Work("get", 10, DEPTH, keys=1000, seconds=effort.seconds, warmup_s=0.3, setup="START")
    rows = []
    for workload, what in (("get", "GET"), ("put", "PUT"), ("nest", "START + ROLLBACK")):
        shallow = replace(base, workload=workload)
        deep = replace(shallow, setup_count=NESTED)
        rows.append(
            _compared(
                f"{what} at nesting depth {NESTED} against 1",
                effort.rounds,
                lambda work=shallow: run(work, server),  # type: ignore[misc]
                lambda work=deep: run(work, server),  # type: ignore[misc]
            )
        )
    return rows


def _puts_beside_open_transactions(server: Server, effort: Effort) -> Row:
    work = Work("put", depth=DEPTH, keys=KEYS, seconds=effort.seconds)

    def with_open_transactions() -> Sample:
        with _open_transactions(server, "PUT apart 1"):
            return run(work, server)

    what = f"PUT by others, {OPEN_TRANSACTIONS} open transactions on different snapshots against none"
    return _compared(what, effort.rounds, lambda: run(work, server), with_open_transactions)


def _old_snapshot(server: Server, effort: Effort) -> list[Row]:
    work = Work("get", 10, DEPTH, keys=FEW_KEYS, seconds=effort.seconds, setup="START")
    writes = _overwrite_all(FEW_KEYS)

    def newest() -> Sample:
        with _open_transactions(server, *writes):
            return run(work, server)

    def oldest() -> Sample:
        with started(work, server, hold=True) as reader:
            reader.wait_until_connected()
            with _open_transactions(server, *writes):
                return reader.sample()

    of_all = f"of {OPEN_TRANSACTIONS} snapshots, every key overwritten between any two"
    return [
        _compared(f"GET in the oldest {of_all}, against the newest", effort.rounds, newest, oldest),
        _compared(f"GET in the newest {of_all}, against no others", effort.rounds, lambda: run(work, server), newest),
    ]


def _overwrite_all(keys: int) -> list[str]:
    return [f"PUT {name} {name}{'v' * 16}" for name in (f"key:{number:012d}" for number in range(keys))]


@contextmanager
def _open_transactions(server: Server, *writes: str) -> Iterator[None]:
    """Keep a thousand transactions open, with writes before each START, so that no two share a snapshot."""
    with ExitStack() as stack:
        writer = stack.enter_context(LineClient(server))
        for _ in range(OPEN_TRANSACTIONS):
            writer.ask(*writes)
            stack.enter_context(LineClient(server)).ask("START")
        yield


def _new_keys(name: str, python: str, effort: Effort, big_store: int) -> list[Row]:
    rounds = effort.rounds
    small = [_fresh_small_store(name, python) for _ in range(rounds)]
    with running(name, python) as server:
        load(server, big_store)
        big = [_put_new(server, big_store + number * NEW_AT_BIG, NEW_AT_BIG) for number in range(rounds)]
    dict_small = spread(_bare_dict_us(SMALL_STORE, NEW_AT_SMALL) for _ in range(rounds))
    dict_big = spread([_bare_dict_us(big_store, NEW_AT_BIG)])
    at_small, at_big = spread(small), spread(big)
    rows: list[Row] = [
        {"store": f"{SMALL_STORE:,} keys", "server us": at_small, "bare dict us": dict_small},
        {"store": f"{big_store:,} keys", "server us": at_big, "bare dict us": dict_big},
    ]
    beyond = (at_big.median - dict_big.median) / (at_small.median - dict_small.median)
    rows.append(
        {
            "store": f"ratio (without the dict's own share: {beyond:.2f})",
            "server us": at_big.median / at_small.median,
            "bare dict us": dict_big.median / dict_small.median,
        }
    )
    return rows


def _fresh_small_store(name: str, python: str) -> float:
    with running(name, python) as server:
        load(server, SMALL_STORE)
        return _put_new(server, SMALL_STORE, NEW_AT_SMALL)


def _put_new(server: Server, first_key: int, keys: int) -> float:
    """Return the server's CPU microseconds per PUT of a new key."""
    return run(Work("load", depth=DEPTH, keys=keys, first_key=first_key), server).server_cpu_us


def _bare_dict_us(store: int, new: int) -> float:
    """Return the microseconds to put a new key into a dict of that size, in a process on the server core."""
    program = (
        "import json, sys, time\n"
        "store, new = map(int, sys.argv[1:])\n"
        "data = {b'key:%012d' % n: b'key:%012dvvvvvvvvvvvvvvvv' % n for n in range(store)}\n"
        "items = [(b'key:%012d' % n, b'key:%012dvvvvvvvvvvvvvvvv' % n) for n in range(store, store + new)]\n"
        "begin = time.perf_counter()\n"
        "for key, value in items:\n"
        "    data[key] = value\n"
        "print(json.dumps((time.perf_counter() - begin) / new * 1e6))\n"
    )
    with machine.pinned(machine.SERVER_CORE):
        result = subprocess.run(
            [sys.executable, "-c", program, str(store), str(new)], capture_output=True, text=True, check=False
        )
    if result.returncode != 0:
        raise BenchError(f"the bare dict failed: {result.stderr.strip()[-200:]}")
    return float(json.loads(result.stdout))
