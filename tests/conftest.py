"""What all tests share: the examples that are tried, how many tests run at a time, and what is said before they run."""

import gc
import os
import signal
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Final
from zlib import crc32

import pytest
from hypothesis import HealthCheck, settings

from kvs.build import BUILD
from tests.faults.scale import FULL_SCALE
from tests.support import etcd, needs
from tests.support.seeds import SEED

MOST_WORKERS = 16

ROOT: Final = Path(__file__).parent
SERVERS: Final = {"faults", "interop", "system"}
"""Folders of tests of whole servers."""

SHARED: Final = os.environ.get("TEST_BUILDS") == "shared"
"""Whether there is a run on each of the two builds, and they share the tests between them: as in CI."""

LONGEST_S: Final = {
    test: float(seconds)
    for seconds, _, test in (
        line.partition(" ") for line in Path(__file__).with_name("longest.txt").read_text(encoding="utf-8").splitlines()
    )
}
"""The tests that take longest, and for how many seconds: ``pytest --durations`` tells."""

# The same examples in every run: what fails in CI fails for everybody, and the other way round. Pure Python, which is
# slower, tries half as many, for each run is followed by one on the compiled build.
settings.register_profile(
    "ci",
    max_examples=200 if BUILD == "compiled" else 100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
# What no run has met yet: ``make fuzz``.
settings.register_profile(
    "random",
    max_examples=int(os.environ.get("TEST_EXAMPLES", "1000")),
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# A shell ignores Ctrl-C for what it starts in the background, as nohup ignores the end of a terminal, and whoever is
# started by that would ignore it, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session", autouse=True)
def _shared_cluster_ends() -> Iterator[None]:
    """End the cluster of etcd that servers share, if any test has started it."""
    with etcd.shared:
        yield


@pytest.hookimpl(optionalhook=True)  # with ``-p no:xdist`` nobody asks
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Return how many workers ``-n auto`` means: none for what is looked at one by one, as --pdb is in any case.

    Tests mostly wait, so three times as many as there are processors.
    """
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    option = config.option
    again = getattr(option, "lf", False) or getattr(option, "failedfirst", False)  # there is none without a cache
    one_by_one = option.collectonly or option.capture == "no" or option.trace or again
    if one_by_one or option.keyword or any(".py" in argument for argument in config.args):
        return 0
    return min(3 * needs.processors(), MOST_WORKERS)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say how long it will take, and what cannot be tried here."""
    said = [f"kvs: the {BUILD} build, seed {SEED}"]
    everything = config.args_source == pytest.Config.ArgsSource.TESTPATHS
    if everything and not (config.option.keyword or config.option.markexpr or config.option.collectonly):
        workers = getattr(config.option, "numprocesses", None) or 1
        said.append(f"kvs: all tests, {workers} at a time, take {needs.minutes(workers)}")
        said.append(f"kvs: {needs.mounts()}")
    return said + [f"kvs: left out: {line}" for line in needs.left_out()]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Do not look for garbage among ten thousand tests, all of which stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what draws and what runs servers, leave out what is for the other build, and begin with what takes long."""
    for item in items:
        if SERVERS.intersection(item.path.relative_to(ROOT).parts):
            item.add_marker("servers")
        # Hypothesis comes to set its own marker later, and never for a state machine that a test runs by itself.
        drawn = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        if drawn or item.name.startswith("test_every_reply_"):
            item.add_marker("draws")
    dropped = [item for item in items if BUILD not in builds_of(item)]
    if dropped:
        items[:] = [item for item in items if BUILD in builds_of(item)]
        config.hook.pytest_deselected(items=dropped)
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    if workers > 1:
        items[:] = longest_first(items, workers)


def builds_of(item: pytest.Item) -> set[str]:
    """Return on which builds a test runs.

    Where runs share the tests, servers are tried on the build that users run, and random examples there, too, as there
    are more of them. The others are dealt by turns, so that each build gets half of the cases of a test that has many.
    """

    def is_marked(*names: str) -> bool:
        return any(item.get_closest_marker(name) for name in names)

    if is_marked("one_build") and not FULL_SCALE:
        return {"pure"}
    if not SHARED:
        return {"pure", "compiled"}
    if is_marked("servers", "variant", "draws"):
        return {"compiled"}
    return {"pure" if crc32(item.nodeid.encode()) % 2 else "compiled"}


def longest_first(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Return tests in an order in which nobody ends with a long one while the others have nothing left.

    Each worker gets as many tests as the others, in one piece, and those who have done theirs take over from the end of
    the longest piece (xdist's ``worksteal``). So each piece begins with some of the longest.
    """
    longest = sorted(filter(seconds, items), key=seconds, reverse=True)
    others = iter([item for item in items if not seconds(item)])
    order: list[pytest.Item] = []
    for worker in range(workers):
        order += longest[worker::workers]
        end = (worker + 1) * len(items) // workers
        order += islice(others, max(0, end - len(order)))
    return order + list(others)


def seconds(item: pytest.Item) -> float:
    """Return how long a test takes, if that is in the list of those that take long."""
    return LONGEST_S.get(item.nodeid) or LONGEST_S.get(item.nodeid.partition("[")[0], 0.0)
