"""What it costs to be watched: requests per second with the admin port scraped every second, and without one.

Both servers run at the same time and are loaded by turns. The one that is watched is scraped in the other's turns, too.
"""

import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.errors import BenchError
from bench.generator import Sample, Work, load, run
from bench.servers import Server, admin_port, running
from bench.spread import Row, Sections, spread

DEPTHS: Final = (1, 16)
EVERY_S: Final = 1.0
NAMES: Final = ("kvs", "kvs-resp")


def measure(python: str, seconds: float, rounds: int) -> Sections:
    """Measure each protocol at each depth, so many times by turns."""
    sections: Sections = {}
    for name in NAMES:
        with running(name, python) as plain, running(name, python, "--admin-port", "0") as watched, _scraped(watched):
            for server in (plain, watched):
                load(server, Work("put").keys)
            sections[f"{name}: scraped every second, and not"] = [
                _row(depth, plain, watched, seconds, rounds) for depth in DEPTHS
            ]
    return sections


def _row(depth: int, plain: Server, watched: Server, seconds: float, rounds: int) -> Row:
    samples: dict[int, list[Sample]] = {plain.pid: [], watched.pid: []}
    work = Work("mixed", depth=depth, seconds=seconds)
    for number in range(rounds):
        for server in (plain, watched) if number % 2 == 0 else (watched, plain):
            samples[server.pid].append(run(work, server))
    pairs = list(zip(samples[watched.pid], samples[plain.pid], strict=True))
    return {
        "depth": depth,
        "without, per second": spread(each.requests_per_s for each in samples[plain.pid]),
        "scraped, per second": spread(each.requests_per_s for each in samples[watched.pid]),
        "of without": spread(one.requests_per_s / other.requests_per_s for one, other in pairs),
        "CPU time, of without": spread(one.server_cpu_us / other.server_cpu_us for one, other in pairs),
    }


@contextmanager
def _scraped(server: Server) -> Iterator[None]:
    """Scrape a server every second, for the time of a context."""
    url = f"http://127.0.0.1:{admin_port(server)}/metrics"
    ended = threading.Event()
    failures: list[OSError] = []

    def scrape() -> None:
        while not ended.wait(EVERY_S):
            try:
                with urllib.request.urlopen(url) as response:  # of this benchmark
                    response.read()
            except OSError as error:
                failures.append(error)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failures:
        raise BenchError(f"{server.name} could not be scraped: {failures[0]}")
