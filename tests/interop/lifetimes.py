"""What the tests of programs see behind the programs' backs: whether what was stored has a deadline, and has gone."""

from tests.support.harness import polling
from tests.support.resp_wire import Address, Wire

LONG_S = 1000
"""A lifetime that no test outlives."""


def lifetime_s(address: Address) -> int:
    """Return how many seconds the only key has left; -1 if it has no deadline."""
    with Wire(address) as wire:
        keys = wire.ask("KEYS", "*")
        assert isinstance(keys, list)
        (key,) = keys
        assert isinstance(key, bytes)
        left_s = wire.ask("TTL", key)
    assert isinstance(left_s, int)
    return left_s


def is_long(left_s: int) -> bool:
    """Tell whether a lifetime of ``LONG_S`` may have so much left: not that of another unit."""
    return LONG_S - 120 < left_s <= LONG_S


def wait_until_gone(address: Address) -> None:
    """Wait until there is no key; nobody deletes any meanwhile."""
    with Wire(address) as wire:
        for _ in polling("every key has expired"):
            if wire.ask("DBSIZE") == 0:
                return
