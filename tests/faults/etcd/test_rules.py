"""Each rule of the engine has a scenario that shows what it is for: with it nothing happens, and without it, this."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.faults.etcd import left_out
from tests.faults.etcd.group import Group, Seat
from tests.support.etcd import Cluster, need_etcd, running_cluster
from tests.support.etcd import closing as closing_client
from tests.support.harness import OK
from tests.support.line_client import Reply
from tests.support.waiting import polling

SCRIPT: Final = (sys.executable, str(Path(__file__).with_name("script.py")))

LEASE_S: Final = 2
LONG_LEASE_S: Final = 15
"""Longer than a machine that is busy takes for what a successor must not do in the time of a lease."""

ANSWERS_WITHIN_S: Final = 0.5

BEATS: Final = 16
"""Heartbeats in four times the term of a lease."""


class FoundOutError(AssertionError):
    """What must not be was seen."""


@pytest.fixture(scope="module")
def single() -> Iterator[Cluster]:
    """Return a cluster of one member, which every test leaves as it was."""
    need_etcd()
    with running_cluster() as cluster:
        yield cluster


class Scene:
    """Two servers, of which one leads, and the other stands by.

    Attributes:
        former: Who leads at the beginning, with ``key`` = ``old``.
        reader: A client of it.
    """

    def __init__(self, group: Group, cluster: Cluster) -> None:
        self.group = group
        self._cluster = cluster
        self.former: Seat = group.leader()
        self.term = self.former.server.term
        (self.other,) = (seat for seat in group.seats if seat is not self.former)
        self.other.server.stands_by()
        self.reader = self.former.server.connect()
        assert self.reader.ask("PUT key old") == OK
        assert self.reader.ask("GET key")["result"] == "old"

    def write(self, value: str) -> None:
        """Write the key, by who leads next."""
        with closing(self.group.leader_after(self.term).server.connect()) as client:
            assert client.ask(f"PUT key {value}") == OK

    def read_from_the_next(self) -> object:
        """Return what the key has, by who leads next."""
        with closing(self.group.leader_after(self.term).server.connect()) as client:
            return client.ask("GET key")["result"]

    def read_from_the_former(self) -> None:
        """Ask who led at the beginning; it may answer anything but the old value.

        Raises:
            FoundOutError: It does.
        """
        with suppress(OSError):
            self.reader.send("GET key")
        end_s = time.monotonic() + ANSWERS_WITHIN_S  # who should not answer has the time to
        while self.reader.nothing_has_come() and time.monotonic() < end_s:
            time.sleep(0.01)
        self.former.join()
        answer = self.answer()
        if answer is not None and answer.get("result") == "old":
            raise FoundOutError("stale read")

    def revoke(self) -> None:
        """Have etcd end the leader's lease, as one does that has forgotten its renewal."""
        with closing_client(self._cluster.client) as client:
            (leader,) = client.range(self.group.namespace.encode() + b"/leader").kvs
            client.revoke(leader.lease)

    def beats(self) -> int:
        """Return how many heartbeats there have been."""
        with closing_client(self._cluster.client) as client:
            (alive,) = client.range(self.group.namespace.encode() + b"/alive").kvs
            return alive.version

    def answer(self) -> Reply | None:
        """Return the reader's next answer, None if the connection has ended."""
        try:
            return self.reader.reply()
        except (OSError, AssertionError):
            return None


def cut_off(scene: Scene) -> None:
    """A leader that is cut off from etcd is asked for what another has written since."""
    scene.former.cut_off()
    scene.write("new")
    scene.read_from_the_former()


def cut_off_and_back(scene: Scene) -> None:
    """Likewise, when it can be known that another leads, and it is asked for as long as it answers."""
    scene.former.cut_off()
    scene.write("new")
    scene.former.join()
    for _ in polling("it answers no more"):
        if scene.former.server.events("lead_lost"):
            return
        scene.read_from_the_former()


def written_by_two(scene: Scene) -> None:
    """A leader that has been replaced is told to write, and another, which leads, is asked."""
    scene.former.cut_off()
    scene.group.leader_after(scene.term)
    scene.former.join()
    scene.reader.send("PUT key mine")
    acknowledged = scene.answer() == OK
    if acknowledged and scene.read_from_the_next() != "mine":
        raise FoundOutError("lost write")


def lost_on_the_way(scene: Scene) -> None:
    """A leader writes, and what it has sent is lost."""
    scene.former.cut_off()
    scene.reader.send("PUT key mine")
    for proxy in scene.former.to_members:
        proxy.hold()
    found = scene.read_from_the_next()
    for proxy in scene.former.to_members:
        proxy.cut()
    scene.former.join()
    if scene.answer() == OK and found != "mine":
        raise FoundOutError("lost write")


def lease_forgotten(scene: Scene) -> None:
    """A lease ends before its time, and the leader does not know."""
    scene.former.cut_off()
    scene.revoke()
    scene.write("new")
    scene.read_from_the_former()


def stopped_in_order(scene: Scene) -> None:
    """A leader hands over, and is asked once more."""
    scene.former.server.send_signal(signal.SIGTERM)
    scene.write("new")
    scene.read_from_the_former()


def hung(scene: Scene) -> None:
    """The loop of a leader hangs."""
    scene.former.server.send_signal(signal.SIGUSR2)
    before = scene.beats()
    for _ in polling("another leads"):
        if scene.other.server.term:
            break
        if scene.beats() > before + BEATS:
            raise FoundOutError("nobody serves")
    scene.former.server.send_signal(signal.SIGUSR1)


def written_since(scene: Scene) -> None:
    """A leader writes what its standby has not read yet, and stands still."""
    scene.other.server.wait_for("following")
    assert scene.reader.ask("PUT key new") == OK
    scene.former.server.send_signal(signal.SIGSTOP)
    found = scene.read_from_the_next()
    scene.former.server.send_signal(signal.SIGCONT)
    if found != "new":
        raise FoundOutError("lost write")


Scenario = Callable[[Scene], None]

RULES: Final[list[tuple[Callable[[], None], Scenario, str, int]]] = [
    (left_out.the_right_is_checked, cut_off, "stale read", LEASE_S),
    (left_out.an_empty_tick_is_held, cut_off, "stale read", LEASE_S),
    (left_out.who_is_deposed_ends, cut_off_and_back, "stale read", LEASE_S),
    (left_out.writes_are_fenced, written_by_two, "lost write", LEASE_S),
    (left_out.an_unknown_outcome_is_found_out, lost_on_the_way, "lost write", LEASE_S),
    (left_out.a_successor_waits, lease_forgotten, "stale read", LONG_LEASE_S),
    (left_out.a_lead_is_released_last, stopped_in_order, "stale read", LONG_LEASE_S),
    (left_out.a_lead_is_kept_only_while_the_loop_turns, hung, "nobody serves", LEASE_S),
    (left_out.a_successor_reads_the_rest, written_since, "lost write", LEASE_S),
]


def play(cluster: Cluster, namespace: str, scenario: Scenario, lease_s: int, rule: str = "") -> None:
    """Play a scenario, with a rule left out or with all."""
    names = ",".join(filter(None, ["hangs", rule]))
    with Group(cluster, namespace, 2, [*SCRIPT, names], options=[f"lease_s={lease_s}"]) as group:
        scene = Scene(group, cluster)
        with closing(scene.reader):
            scenario(scene)


@pytest.mark.one_build
@pytest.mark.parametrize(
    ("rule", "scenario", "finding", "lease_s"), RULES, ids=lambda each: getattr(each, "__name__", "")
)
def test_a_rule_that_is_left_out(
    single: Cluster, namespace: str, rule: Callable[[], None], scenario: Scenario, finding: str, lease_s: int
) -> None:
    """It is found out."""
    with pytest.raises(FoundOutError, match=finding):
        play(single, namespace, scenario, lease_s, rule.__name__)


@pytest.mark.parametrize("scenario", dict.fromkeys(each[1] for each in RULES), ids=lambda each: each.__name__)
def test_all_rules(single: Cluster, namespace: str, scenario: Scenario) -> None:
    """Nothing is found."""
    play(single, namespace, scenario, LEASE_S)
