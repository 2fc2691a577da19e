"""Resident bytes per key, of the whole process, beside Redis."""

import time
from collections.abc import Sequence
from typing import Final

from bench import machine
from bench.generator import load
from bench.servers import running
from bench.spread import Row, Sections

SETTLE_S: Final = 1.0


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
    return {f"Memory at {keys:,} keys": rows}
