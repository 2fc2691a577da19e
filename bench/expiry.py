"""What clients see of a million keys that fall due in the same millisecond.

Some clients are busy, and a probe sends one request every millisecond, as in `pauses`. Both are measured for a while
before the keys are due, and from then until the last one is gone.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from bench import machine
from bench.client import RespClient
from bench.errors import BenchError
from bench.generator import Sample, Work, load, started
from bench.pauses import BACKGROUND, CLIENTS, PROBE_FIRST, PROBE_KEYS, probed, row
from bench.servers import Server, running
from bench.spread import Sections, spread

KEYS: Final = 10_000  # of the busy clients
CROWDS: Final = (CLIENTS, 50)  # a modest load, and one that leaves the server no time
BATCH: Final = 500
US_PER_KEY: Final = 50  # to store a key with a deadline, at most
POLL_S: Final = 1.0  # each poll keeps the probe waiting for the generator's core
LONGEST_S: Final = 60.0


def measure(names: Sequence[str], python: str, keys: int, seconds: float, rounds: int) -> Sections:
    """Measure each server before and after the deadline, each round on a fresh one."""
    sections: Sections = {}
    for name in names:
        samples: dict[str, list[Sample]] = {}
        gone_s: dict[int, list[float]] = {crowd: [] for crowd in CROWDS}
        for _ in range(rounds):
            with running(name, python) as server, machine.pinned(machine.GENERATOR_CORE):
                load(server, PROBE_KEYS, first_key=PROBE_FIRST)
                load(server, KEYS)
                for crowd in CROWDS:
                    for who, sample in _round(server, crowd, keys, seconds, gone_s[crowd]):
                        samples.setdefault(who, []).append(sample)
        sections[f"{name}: {keys:,} keys due at once"] = [row(*each) for each in samples.items()]
        sections[f"{name}: until the last of them is gone"] = [
            {"busy clients": crowd, "seconds": spread(taken_s)} for crowd, taken_s in gone_s.items()
        ]
    return sections


def _round(server: Server, crowd: int, keys: int, seconds: float, gone_s: list[float]) -> Iterator[tuple[str, Sample]]:
    client = RespClient(server)
    expired = _expired(client)
    due_s = time.time() + keys * US_PER_KEY / 1e6 + 2 * seconds
    _fill(client, keys, b"%d" % int(due_s * 1000))
    if time.time() > due_s - 1.5 * seconds:
        raise BenchError(f"{server.name} takes longer than {US_PER_KEY} us to store a key")
    time.sleep(due_s - 1.5 * seconds - time.time())
    yield from _both(server, crowd, "before", lambda: time.sleep(seconds))

    def wait() -> None:
        while _expired(client) < expired + keys:
            if time.time() > due_s + LONGEST_S:
                raise BenchError(f"{server.name} has not deleted what was due {LONGEST_S:g} s ago")
            time.sleep(POLL_S)
        gone_s.append(time.time() - due_s)

    yield from _both(server, crowd, "from the deadline on", wait)
    client.close()


def _both(server: Server, crowd: int, when: str, background: Callable[[], None]) -> Iterator[tuple[str, Sample]]:
    work = Work("mixed", crowd, keys=KEYS, seconds=3600)
    with started(work, server, niceness=BACKGROUND) as busy:
        yield f"{crowd} busy clients, {when}: the probe", probed(server, background)
        busy.stop()
        yield f"{crowd} busy clients, {when}: these", busy.sample()


def _fill(client: RespClient, keys: int, due_ms: bytes) -> None:
    for at in range(0, keys, BATCH):
        # 7919 is a prime: neighbours in time are not neighbours in order.
        names = [b"due:%012d" % (key * 7919 % 10**12) for key in range(at, min(keys, at + BATCH))]
        client.ask(*[[b"SET", name, b"v" * 32, b"PXAT", due_ms] for name in names])


def _expired(client: RespClient) -> int:
    client.send([b"INFO", b"stats"])
    for line in client.read().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"expired_keys":
            return int(value)
    raise BenchError("INFO does not tell expired_keys")
