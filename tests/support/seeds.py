"""Seeds of random tests: the same ones in every run, others with ``TEST_SEED``."""

import os
from typing import Final

SEED: Final = int(os.environ.get("TEST_SEED", "1"))


def seeds(count: int) -> range:
    """Return so many seeds."""
    return range(SEED, SEED + count)
