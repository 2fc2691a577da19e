"""The contract catches planted faults: each broken engine fails the case that holds the promise it breaks.

Each is tested as a third party would test it: by a module of a few lines, in a run of pytest of its own. Of the cases
that it has to pass a sample is tried, and all of them at full scale.
"""

from collections.abc import Set as AbstractSet
from contextlib import closing
from random import Random
from typing import Final

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from kvs.ports.storage import Storage
from kvs.testing import DurableStorageContract, StorageContract
from kvs.testing.cases.durability import DurabilityCases
from kvs.testing.cases.sessions import SessionCases
from kvs.testing.cases.threads import ThreadCases
from kvs.testing.drivers import InProcessDriver
from kvs.testing.machine import STEPS, machine_of, random_walk
from tests.contract.broken_engines import FAULTS, Fault, changes, commits, reads, snapshots
from tests.contract.broken_engines.commits import LimitedStorage
from tests.contract.broken_engines.durability import DurableStorage
from tests.faults.scale import FULL_SCALE
from tests.support.naive_storage import LockedStorage, NaiveStorage
from tests.support.seeds import SEED

pytestmark = pytest.mark.one_build

MODULE = """
from contextlib import closing

from kvs.testing import StorageContract
from {module} import {name}


class TestIt(StorageContract):
    records = True

    def open_storage(self):
        return closing({name}())
"""

LIMITED_MODULE = (
    MODULE
    + """
    def refused_writes(self):
        return {{b"long": bytes({name}.MAX_VALUE_BYTES + 1)}}
"""
)

DURABLE_MODULE = """
from kvs.testing import DurableStorageContract
from {module} import {name}


class TestIt(DurableStorageContract):
    records = True

    def open_storage_in(self, directory):
        return {name}.open_in(directory)
"""


def cases_of(kind: type) -> set[str]:
    """Return the names of a class's cases, without ``test_``."""
    return {name.removeprefix("test_") for name in dir(kind) if name.startswith("test_")}


RANDOM = cases_of(SessionCases) | {"scans_and_counts_agree_with_a_sorted_list"}
SCRIPTED = cases_of(StorageContract) - RANDOM
DURABLE = cases_of(DurabilityCases)
HEADINGS = (
    "Consistency",
    "Commit",
    "Snapshots",
    "Durability",
    "Concurrency",
    "Failure",
    "Expiry",
    "Keys",
    "Values",
    "Prefixes",
    "``",
)


SAMPLE: Final = 4
"""Of the cases that an engine has to pass, how many are tried. That its promise fails is seen in every run."""


def cases_for(engine: type[Storage]) -> set[str]:
    """Return the scripted cases; for an engine that keeps data on disk those alone that look there."""
    return DURABLE if issubclass(engine, DurableStorage) else SCRIPTED


def failing(pytester: pytest.Pytester, engine: type[Storage], cases: AbstractSet[str]) -> set[str]:
    """Run cases for an engine, as its author would; return the names of those that fail."""
    durable = issubclass(engine, DurableStorage)
    source = DURABLE_MODULE if durable else LIMITED_MODULE if issubclass(engine, LimitedStorage) else MODULE
    pytester.makepyfile(test_it=source.format(module=engine.__module__, name=engine.__name__))
    flags = ("-p", "no:cacheprovider", "-p", "no:timeout", "-W", "error", "--tb=native", "-q")
    passed, _, failed = pytester.inline_run(
        *flags, *(f"test_it.py::TestIt::test_{name}" for name in sorted(cases))
    ).listoutcomes()
    assert len(passed) + len(failed) >= len(cases) - len(cases_of(ThreadCases)) - 3  # they ran: some may be skipped
    return {report.nodeid.split("::test_")[1].partition("[")[0] for report in failed}


@pytest.mark.parametrize("engine", [NaiveStorage, LimitedStorage, LockedStorage, DurableStorage])
def test_an_engine_without_a_fault_passes_everything(pytester: pytest.Pytester, engine: type[Storage]) -> None:
    """Those that the broken ones are made of."""
    assert failing(pytester, engine, cases_for(engine)) == set()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.engine.__name__)
def test_a_broken_engine_is_caught_by_name_of_its_promise(pytester: pytest.Pytester, fault: Fault) -> None:
    """And only what needs that promise fails with it. What threads do to each other besides is left to chance."""
    cases = cases_for(fault.engine)
    if not FULL_SCALE:
        others = sorted(cases - {fault.promise, *fault.noticed_by})
        chosen = Random(f"{SEED} {fault.engine.__name__}").sample(others, min(SAMPLE, len(others)))
        cases = {fault.promise, *fault.noticed_by, *chosen}
    failed = failing(pytester, fault.engine, cases)
    assert fault.promise in failed
    assert failed - cases_of(ThreadCases) == {fault.promise, *fault.noticed_by} - cases_of(ThreadCases)


@pytest.mark.parametrize(
    "engine",
    [
        reads.DeletesWhatIsNotThere,
        reads.TakesTheEmptyValueForNone,
        reads.ScansInOrderOfWrites,
        snapshots.SnapshotsSeeLaterCommits,
        commits.LosesUpdates,
        commits.LosesTombstones,
        commits.AppliesTheFirstWriteOfAConflict,
    ],
)
def test_the_state_machine_finds_a_broken_engine(engine: type[NaiveStorage]) -> None:
    """Without a case for it; the examples are always the same, and nothing is shrunk."""
    plan = settings(
        max_examples=200, stateful_step_count=STEPS, deadline=None, derandomize=True, phases=[Phase.generate]
    )
    with pytest.raises(AssertionError, match="is not the predicted"):
        run_state_machine_as_test(machine_of(lambda: InProcessDriver(closing(engine()))), settings=plan)


@pytest.mark.parametrize(
    "engine",
    [
        reads.StartsOverAfterADeletedCursor,
        snapshots.SnapshotsCountLaterCommits,
        changes.TakesEqualBytesForNoChange,
        changes.TakesADeleteOfAnAbsentKeyForAChange,
        changes.ValidatesWhatIsWritten,
        changes.OverlooksPhantoms,
        changes.TakesOverwritingForAChangeOfTheRange,
    ],
)
def test_the_random_walk_finds_a_broken_engine(engine: type[NaiveStorage]) -> None:
    """What takes many commands to show, too."""
    with pytest.raises(AssertionError, match="is not the predicted"):
        random_walk(InProcessDriver(closing(engine())), 17, SessionCases.walk_steps)


# The suite itself.


def test_every_case_says_which_promise_it_holds() -> None:
    """Its docstring begins with the heading of a paragraph in ``kvs.ports.storage``, or with a method."""
    said = {name: getattr(DurableStorageContract, "test_" + name).__doc__ for name in cases_of(DurableStorageContract)}
    assert {name: doc for name, doc in said.items() if not (doc or "").startswith(HEADINGS)} == {}


def test_every_scripted_case_catches_a_fault() -> None:
    """A case that no broken engine fails might hold nothing."""
    caught = {fault.promise for fault in FAULTS} | {name for fault in FAULTS for name in fault.noticed_by}
    assert caught == SCRIPTED | DURABLE


def test_a_failure_shows_the_promise(pytester: pytest.Pytester) -> None:
    """By the name of the case and by its docstring, with what was compared."""
    engine = reads.DeletesWhatIsNotThere
    pytester.makepyfile(test_it=MODULE.format(module=engine.__module__, name=engine.__name__))
    run = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:timeout", "-k", "a_delete_tells")
    run.stdout.fnmatch_lines(
        [
            "*TestIt.test_a_delete_tells_whether_the_key_was_there*",
            "*``delete``: true for a key that was there, false for one that was not*",
            "E*assert True is False",
            "FAILED test_it.py::TestIt::test_a_delete_tells_whether_the_key_was_there*",
        ]
    )
