"""How much of what could be tried is tried."""

import os
from typing import Final

import pytest

FULL_SCALE: Final = bool(os.environ.get("TEST_FULL_SCALE"))
"""Whether every point is tried, and not a sample; ``make faults`` sets it."""

KILLS: Final = int(os.environ.get("TEST_KILLS", "2000" if FULL_SCALE else "4"))
"""How many times a server is killed under load."""

MINUTES: Final = float(os.environ.get("TEST_MINUTES", "10"))
"""How long faults are drawn at random at full scale."""

full_scale_has_time = pytest.mark.timeout(0 if FULL_SCALE else 300)
"""Marks tests that take minutes or hours at full scale."""
