"""Resident bytes per key, of the whole process, beside Redis: of plain keys, and of keys that expire."""

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random
from typing import Final

from bench import machine
from bench.client import RespClient
from bench.generator import load
from bench.servers import Server, running
from bench.spread import Row, Sections

SETTLE_S: Final = 1.0
EXPIRING: Final = ("redis", "kvs-resp")
MOVES: Final = 8  # of each key's deadline: from the sixth on, kvs takes no more
LONGEST_TTL_S: Final = 100_000
BATCH: Final = 500


def measure(names: Sequence[str], python: str, keys: int) -> Sections:
    """Load each server with keys of 16 and values of 32 bytes and read its resident set before and after."""
    sizes = {}
    for name in names:
        with running(name, python) as server:
            empty = machine.resident_bytes(server.pid)
            load(server, keys)
            time.sleep(SETTLE_S)
            sizes[name] = empty, machine.resident_bytes(server.pid)
    base = sizes["redis"][1] if "redis" in sizes else None
    rows: list[Row] = [
        {
            "server": name,
            "empty MiB": empty / (1 << 20),
            "full MiB": full / (1 << 20),
            "bytes per key (whole process)": full / keys,
            "bytes per key (growth)": (full - empty) / keys,
            "of Redis": full / base if base else "-",
        }
        for name, (empty, full) in sizes.items()
    ]
    return {
        f"Memory at {keys:,} keys": rows,
        f"Memory at {keys:,} keys that expire": [_expiring(name, python, keys) for name in EXPIRING],
    }


def _expiring(name: str, python: str, keys: int) -> Row:
    """Set keys with deadlines, and then all of them again with others, several times, in no order."""
    draw = Random(1)
    sizes = []
    with running(name, python) as server:
        _set(server, iter(range(keys)), draw)
        for _ in range(MOVES):
            sizes.append(machine.resident_bytes(server.pid))
            _set(server, (draw.randrange(keys) for _ in range(keys)), draw)
        time.sleep(SETTLE_S)
        sizes.append(machine.resident_bytes(server.pid))
    moved = {f"after {moves} moves": sizes[moves] / keys for moves in (MOVES // 4, MOVES // 2, MOVES)}
    return {"server": name, "bytes per key (whole process)": sizes[0] / keys, **moved}


def _set(server: Server, numbers: Iterator[int], draw: Random) -> None:
    client = RespClient(server)
    while batch := list(islice(numbers, BATCH)):
        # 1000 s: so that none expires meanwhile.
        ttls = (b"%d" % draw.randrange(1000, LONGEST_TTL_S) for _ in batch)
        client.ask(*[[b"SET", b"key:%012d" % number, b"v" * 32, b"EX", next(ttls)] for number in batch])
    client.close()
