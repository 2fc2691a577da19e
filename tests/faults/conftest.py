"""Fixtures: what has to be there for faults to be made, and where they are made."""

import os
from collections.abc import Iterator
from typing import Final

import pytest

from tests.faults.points import Point, Stage, sampled, scratch_directory
from tests.faults.scale import FULL_SCALE
from tests.faults.strace import why_unusable
from tests.support.seeds import SEED

SAMPLE: Final = 32
"""Points that are tried in an ordinary run."""


@pytest.fixture(scope="session")
def strace() -> None:
    """Skip where there is no strace, or processes may not be traced; fail if ``TEST_STRACE`` is ``required``."""
    reason = why_unusable()
    if reason and os.environ.get("TEST_STRACE") == "required":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="package")
def stage(strace: None) -> Iterator[Stage]:
    """Return where servers meet faults."""
    with scratch_directory() as directory:
        yield Stage(directory)


@pytest.fixture
def points(stage: Stage) -> list[Point]:
    """Return the points to try: all at full scale, else some of each kind."""
    points = stage.points()
    print(f"{len(points)} points: {stage.counted()}")  # noqa: T201  # shown if the test fails, or with -s
    return points if FULL_SCALE else sampled(points, SAMPLE, SEED)
