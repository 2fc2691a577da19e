"""What a leader has to replace a damaged checkpoint."""

from collections.abc import Iterator
from contextlib import closing
from threading import Event, Thread
from typing import TYPE_CHECKING, Final, cast

import pytest
import structlog

from kvs.adapters.storage.etcd.backlog import Backlog
from kvs.adapters.storage.etcd.layout import EMPTY, Keys, Place
from kvs.adapters.storage.etcd.lead import Lead
from kvs.adapters.storage.etcd.repair import KEYS_PER_PAGE, Repair
from kvs.adapters.storage.etcd.steps import Steps, StoppedError
from kvs.adapters.storage.journaled import JournaledStorage
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.ports.topology import ServerInfo, Topology
from tests.support.sessions import UNLIMITED
from tests.support.waiting import polling
from tests.unit.storage.test_journaled import Notes

if TYPE_CHECKING:
    from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
    from kvs.adapters.storage.journal_writer import Row

OURS: Final = ServerInfo("a", "10.0.0.1", 1, "1.0")
INDEX: Final = Place(7, 3, 12, 1, "digest")
KEYS: Final = 2 * KEYS_PER_PAGE + 1


class Bench:
    """A leader's storage, whose loop is the test."""

    def __init__(self) -> None:
        self.notes = Notes()
        self.storage = JournaledStorage(MemoryStorage(0, UNLIMITED), self.notes)
        self.topology = Topology("data", OURS, 2000)
        lead = Lead(Keys(b"x/"), "a", 1, 1, 30)
        nobody = cast("EtcdClient", None)
        self.steps = Steps(nobody, Keys(b"x/"), lead, Backlog(EMPTY, 0, 0), structlog.get_logger())
        self.repair = Repair(self.storage, self.topology, self.steps)
        self.rows: list[Row] = []
        self.stopped = False
        self.all_read = Event()
        self._reader = Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        try:
            for page in self.repair.pages():
                self.rows += page
                if len(page) < KEYS_PER_PAGE:
                    self.all_read.set()
        except StoppedError:
            self.stopped = True

    def read(self) -> None:
        """Begin to read all data."""
        self._reader.start()

    @property
    def reads(self) -> bool:
        """Whether it is not at the end yet."""
        return self._reader.is_alive()

    def join(self) -> None:
        """Wait for the end of the reading."""
        self._reader.join()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Return a storage with data."""
    bench = Bench()
    with closing(bench.storage):
        for number in range(KEYS):
            bench.storage.put(b"%06d" % number, b"1")
        bench.storage.sync()
        yield bench
        bench.notes.open.set()


def test_what_is_read_is_durable_in_the_end(bench: Bench) -> None:
    """Also what no batch has yet."""
    bench.notes.open.clear()
    bench.storage.put(b"a", b"sealed")
    bench.storage.seal()
    bench.storage.put(b"b", b"not sealed")
    bench.read()
    for _ in polling("all is read"):
        bench.storage.check()
        if bench.all_read.is_set():
            break
    assert len(bench.rows) == KEYS + 2
    bench.notes.open.set()
    for _ in polling("the first batch is durable"):
        if bench.storage.durable_mark == 2:
            break
    assert bench.reads
    bench.storage.sync()
    bench.join()
    assert dict(bench.rows) == bench.notes.data
    assert [key for key, _ in bench.rows] == sorted(bench.notes.data)


@pytest.mark.parametrize("when", ["reading", "waiting"])
def test_reading_ends_with_the_work(bench: Bench, when: str) -> None:
    """Whether the loop or a batch is waited for."""
    if when == "waiting":
        bench.storage.put(b"a", b"not sealed")
    bench.read()
    for _ in polling("all is read"):
        if when == "reading":
            break
        bench.storage.check()
        if bench.all_read.is_set():
            break
    bench.steps.stopping.set()
    bench.join()
    assert bench.stopped


def test_complaints_are_about_the_newest_checkpoint(bench: Bench) -> None:
    """Those about former ones count for nothing."""
    other = ServerInfo("b", "10.0.0.2", 2, "1.0")
    bench.topology.others = (other, other._replace(unreadable="7/3/11"))
    assert not bench.repair.complaint(INDEX)
    bench.topology.others = (other, other._replace(unreadable="7/3/12"))
    assert bench.repair.complaint(INDEX) == "10.0.0.2:2 cannot read it"
    bench.topology.others = ()
    bench.topology.unreadable = "7/3/12"
    assert bench.repair.complaint(INDEX) == "this server could not read it"
