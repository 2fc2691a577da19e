"""A server is killed at any of its writes, syncs and names: what it acknowledged is there, and nothing in part."""

import pytest

from tests.faults.points import Point, Stage, each
from tests.faults.scale import full_scale_has_time

pytestmark = [pytest.mark.draws, full_scale_has_time]


def test_killed_at_any_point(stage: Stage, points: list[Point]) -> None:
    """A restart finds everything that was acknowledged, of what was under way all or nothing, and can go on."""

    def check(point: Point) -> str | None:
        outcome = stage.meet(point, "signal=KILL")
        if outcome.exit_code not in (-9, 0):
            return f"the server ended with {outcome.exit_code}: {outcome.failures} {outcome.lines}"
        return outcome.violation()

    each(points, check)
