"""A disk that fails, or is full, at any write, sync or name: never a wrong Ok, one clear line, and nothing is lost."""

import pytest

from tests.faults.points import Outcome, Point, Stage, each
from tests.faults.scale import FULL_SCALE, full_scale_has_time

pytestmark = [pytest.mark.draws, full_scale_has_time]

ERRORS = ["error=EIO", "error=ENOSPC"]


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("error", ERRORS)
def test_failing_at_any_point(stage: Stage, points: list[Point], error: str, lasting: bool) -> None:
    """The server refuses to start or stops with code 1, and a restart finds everything that was acknowledged."""

    def check(point: Point) -> str | None:
        outcome = stage.meet(point, error, lasting=lasting)
        return _complaint(outcome) or outcome.violation()

    variant = ERRORS.index(error) * 2 + lasting
    each(points if FULL_SCALE else points[variant::4], check)


def _complaint(outcome: Outcome) -> str | None:
    """Return what is wrong with the way in which a server ended, None if nothing is."""
    told = f"{outcome.exit_code}: {outcome.failures} {outcome.lines}"
    if not outcome.listened:
        refused = len(outcome.lines) == 1 and str(outcome.directory) in outcome.lines[0] and not outcome.failures
        return None if outcome.exit_code == 1 and refused else f"it was not refused in one line but ended with {told}"
    if outcome.lines:
        return f"it said what is no event, and ended with {told}"
    if outcome.gave_up:
        reasons = [str(failure.get("reason", "")) for failure in outcome.failures]
        named = any(str(outcome.directory) in reason for reason in reasons)
        late = any("readonly" in reason for reason in reasons)
        if outcome.exit_code != 1 or not named:
            return f"its failure is not told of, and it ended with {told}"
        return f"it listened though it could not write, and ended with {told}" if late else None
    # It was asked to stop. What else fails then has been acknowledged long before, and the log that holds it stays.
    return None if outcome.answered and outcome.exit_code == 0 else f"it ended with {told}"
