"""The machine loses power at any moment: what it had told of is on the disk, and nothing is there in part."""

from collections.abc import Iterator
from random import Random
from typing import Final

import pytest

from tests.faults.points import HISTORY, SCRIPT, scratch_directory
from tests.faults.power_loss import Recording, Verdict, cases_of, record, verdicts
from tests.faults.scale import FULL_SCALE, full_scale_has_time
from tests.support.launcher import engines_path
from tests.support.seeds import SEED

pytestmark = [pytest.mark.draws, pytest.mark.usefixtures("strace"), full_scale_has_time]

SAMPLE: Final = 150
SMALL_SAMPLE: Final = 50
VARIANTS: Final = 3 if FULL_SCALE else 1


def recorded(durability: str, storage: str = "sqlite") -> Recording:
    """Record a server of the given durability."""
    flags = ("--storage-option", f"durability={durability}")
    with scratch_directory() as directory:
        return record(HISTORY, SCRIPT, directory, *flags, storage=storage, env={"PYTHONPATH": engines_path()})


def judged(recording: Recording, durability: str, sample: int) -> Iterator[Verdict]:
    """Judge a sample of the cases there are; all of them at full scale."""
    cases = cases_of(recording, VARIANTS)
    print(f"{len(cases)} cases")  # noqa: T201  # shown if the test fails, or with -s
    if not FULL_SCALE:
        cases = Random(SEED).sample(cases, sample)
    return verdicts(recording, HISTORY, cases, durability)


@pytest.fixture(scope="module")
def unsynced() -> Recording:
    """Return what a server does that never syncs."""
    return recorded("off")


def test_full_durability_keeps_everything_acknowledged() -> None:
    """Whatever the disk has kept of what it was not made to keep, every reply that was sent holds."""
    wrong = [verdict for verdict in judged(recorded("full"), "full", SAMPLE) if verdict.violation]
    assert not wrong, wrong[:5]


def test_normal_durability_keeps_a_first_part() -> None:
    """A power cut may take the last commits, but nothing that a sync has reached, and none in part."""
    wrong = [verdict for verdict in judged(recorded("normal"), "normal", SMALL_SAMPLE) if not verdict.keeps_synced]
    assert not wrong, wrong[:5]


def test_without_syncs_what_is_served_is_a_first_part(unsynced: Recording) -> None:
    """A power cut may take anything, but what is left is never served if it is not what once was."""
    for verdict in judged(unsynced, "off", SMALL_SAMPLE):
        assert verdict.refusal or verdict.is_prefix, verdict


# The tests of the test.


def test_no_sync_would_be_found(unsynced: Recording) -> None:
    """Judged as if it had promised everything, a server that never syncs is caught."""
    assert any(verdict.violation for verdict in judged(unsynced, "off", SMALL_SAMPLE))


def test_a_sync_behind_the_replies_would_be_found() -> None:
    """A server that syncs as soon as it has sent the replies is caught."""
    assert any(verdict.violation for verdict in judged(recorded("full", "late"), "full", SMALL_SAMPLE))
