"""The etcd engine at many keys: what checkpoints and repairs cost clients, and how soon a standby follows.

A probe reads a key every millisecond, as in ``pauses.py``. Meanwhile others overwrite keys, for a second at a time: a
second counts as beside a checkpoint if one was being written all the time, and as without if none was. For a repair,
all chunks of the checkpoint are deleted from etcd and a standby is started, which complains unless the leader finds
out first, and is ended; then the leader writes a new checkpoint from its memory.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from typing import Any, Final

from bench.errors import BenchError
from bench.generator import Sample, Work, load, run
from bench.members import members
from bench.pauses import BACKGROUND, CLIENTS, DEPTH, PROBE_FIRST, PROBE_KEYS, probed, row
from bench.servers import Server, running, wait_for
from bench.spread import Row, Sections, spread
from kvs.adapters.storage.etcd.client.endpoints import namespace_prefix, parse_endpoints
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import delete, prefix_end
from kvs.adapters.storage.etcd.layout import Keys

WINDOW_S: Final = 1.0
REPAIR_TIMEOUT_S: Final = 600
NAMESPACE: Final = "bench"
ALONE: Final = "overwrite"
BESIDE: Final = "overwrite, while a checkpoint is written"
DAMAGE: Final = ("checkpoint_damaged", "checkpoint_failed")
"""A standby has told the leader, or the leader has come upon it in the middle of its next checkpoint."""


def measure(python: str, keys: int, seconds: float, rounds: int) -> Sections:
    """Measure with so many keys.

    Args:
        python: An interpreter that has kvs.
        keys: How many keys.
        seconds: For how long nothing else happens, and for how long keys are overwritten, in each round.
        rounds: How often.
    """
    with members() as etcd:
        options = (f"endpoints={etcd.endpoints}", f"namespace={NAMESPACE}")
        flags = ["--storage", "etcd", *(word for option in options for word in ("--storage-option", option))]
        with running("kvs", python, *flags) as leader:
            wait_for(leader, "leading")
            load(leader, PROBE_KEYS, first_key=PROBE_FIRST)
            load(leader, keys)
            samples: dict[str, list[Sample]] = {"nothing else": [], ALONE: [], BESIDE: [], "repair": []}
            rates: dict[str, list[float]] = {ALONE: [], BESIDE: []}
            repairs: list[dict[str, Any]] = []
            starts: list[float] = []
            for _ in range(rounds):
                samples["nothing else"].append(_probed(leader, lambda: time.sleep(seconds)))
                for phase, sample, rate in _overwritten(leader, keys, seconds):
                    samples[phase].append(sample)
                    rates[phase].append(rate)
                with running("kvs", python, *flags) as standby:
                    wait_for(standby, "following")
                    starts.append(_events(standby, "following")[0]["seconds"])
                known = len(_events(leader, *DAMAGE))
                _lose_chunks(etcd.endpoints)
                with running("kvs", python, *flags):
                    _wait_for_another(leader, known, *DAMAGE)
                sample, event = _repaired(leader)
                samples["repair"].append(sample)
                repairs.append(event)
    name = f"The etcd engine at {keys:,} keys"
    return {
        f"{name}: pauses of the leader": [row(phase, each) for phase, each in samples.items() if each],
        f"{name}: commits of {CLIENTS} clients at depth {DEPTH}": _rates(rates),
        f"{name}: the standby and the repair": [
            {
                "a standby follows, s": spread(starts),
                "a repair, s": spread(event["seconds"] for event in repairs),
                "keys written": repairs[-1]["keys"],
            }
        ],
    }


def _rates(rates: dict[str, list[float]]) -> list[Row]:
    if not (rates[ALONE] and rates[BESIDE]):
        raise BenchError("no checkpoint was written for as long as a second: overwrite for longer, or more keys")
    usual = spread(rates[ALONE]).median
    return [
        {"meanwhile": phase, "commits/s": spread(each), "of those without": spread(rate / usual for rate in each)}
        for phase, each in rates.items()
    ]


def _probed(leader: Server, background: Callable[[], object]) -> Sample:
    return probed(leader, background, workload="get")


def _overwritten(leader: Server, keys: int, seconds: float) -> Iterator[tuple[str, Sample, float]]:
    """Yield which second it was, what the probe saw, and how many commits there were."""
    work = Work("put", CLIENTS, DEPTH, keys=keys, seconds=WINDOW_S)
    windows: list[tuple[float, float, Sample, float]] = []
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        begin_s = time.time()
        sample, rate = _beside(leader, work)
        windows.append((begin_s, time.time(), sample, rate))
    written = [(_ended_s(event) - event["seconds"], _ended_s(event)) for event in _events(leader, "checkpoint_written")]
    for begin_s, end_s, sample, rate in windows:
        if any(since_s <= begin_s and end_s <= until_s for since_s, until_s in written):
            yield BESIDE, sample, rate
        elif not any(since_s < end_s and begin_s < until_s for since_s, until_s in written):
            yield ALONE, sample, rate


def _beside(leader: Server, work: Work) -> tuple[Sample, float]:
    """Return what the probe saw beside some work, and the rate of that."""
    rates: list[float] = []
    sample = _probed(leader, lambda: rates.append(run(work, leader, niceness=BACKGROUND).requests_per_s))
    return sample, rates[0]


def _repaired(leader: Server) -> tuple[Sample, dict[str, Any]]:
    """Return what the probe saw until the next checkpoint was written, and what the leader says of that."""
    count = len(_events(leader, "checkpoint_written"))
    sample = _probed(leader, lambda: _wait_for_another(leader, count, "checkpoint_written"))
    return sample, _events(leader, "checkpoint_written")[count]


def _lose_chunks(endpoints: str) -> None:
    chunks = Keys(namespace_prefix(NAMESPACE)).chunks
    with closing(EtcdClient(parse_endpoints(endpoints))) as client:
        client.txn([], [delete(chunks, prefix_end(chunks))])


def _events(server: Server, *names: str) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in server.log.read_text().splitlines()]
    return [each for each in events if each["event"] in names]


def _ended_s(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["timestamp"]).timestamp()


def _wait_for_another(server: Server, count: int, *names: str) -> None:
    """Wait until there are more than so many of these events."""
    deadline_s = time.monotonic() + REPAIR_TIMEOUT_S
    while len(_events(server, *names)) <= count:
        if time.monotonic() > deadline_s:
            raise BenchError(f"{server.name} does not tell of {' or '.join(names)} again")
        time.sleep(0.05)
