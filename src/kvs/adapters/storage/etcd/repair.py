"""What a leader has to replace a damaged checkpoint: who found the damage, and all data, in memory.

Memory is the loop's alone, so it is read there, page by page, while commits go on: each key as of when its page was
read. An entry of the journal has values, not differences. So to apply the journal, from any entry before the first page
to one behind the last, leads to exactly the data. All that was read is durable by then, so the journal has got so far.
"""

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Final, final

from kvs.adapters.storage.etcd.layout import Place
from kvs.adapters.storage.etcd.steps import Steps
from kvs.adapters.storage.journal_writer import Row
from kvs.adapters.storage.journaled import JournaledStorage
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.addresses import format_address
from kvs.domain.values import Key
from kvs.ports.topology import Topology

KEYS_PER_PAGE: Final = 500
"""Keys that the loop reads at once: some 0.3 ms."""

LOOK_S: Final = 0.1


@final
class Repair:
    """The means; the thread of checkpoints calls them.

    Args:
        storage: Has the data.
        topology: The servers, and what they say of the checkpoint.
        steps: Tells when the work is to end.
    """

    def __init__(self, storage: JournaledStorage, topology: Topology, steps: Steps) -> None:
        self._storage = storage
        self._topology = topology
        self._steps = steps

    def complaint(self, index: Place) -> str:
        """Return who cannot read the checkpoint that has this index; empty: nobody says so."""
        name = index.name
        for server in self._topology.others:
            if server.unreadable == name:
                return f"{format_address((server.host, server.port))} cannot read it"
        return "this server could not read it" if self._topology.unreadable == name else ""

    def pages(self) -> Iterator[list[Row]]:
        """Yield all data, in the order of keys; at the end, what was yielded is durable.

        Raises:
            StoppedError: The server ends, or has lost the lead.
        """
        rows, mark = self._page(b"")
        while rows:
            yield rows
            rows, mark = self._page(rows[-1][0])
        while self._storage.durable_mark < mark:
            self._steps.stopping.wait(LOOK_S)
            self._steps.check()

    def _page(self, after: Key) -> tuple[list[Row], int]:
        """Return the rows behind a key, and the mark with which all that memory has is durable."""
        answer: Future[tuple[list[Row], int]] = Future()

        def read(memory: MemoryStorage, mark: int) -> None:
            keys = memory.scan(b"", after, KEYS_PER_PAGE)
            answer.set_result(([(key, memory.get(key)) for key in keys], mark))

        self._storage.ask(read)
        while True:
            try:
                return answer.result(LOOK_S)
            except TimeoutError:
                self._steps.check()
