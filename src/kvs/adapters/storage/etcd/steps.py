"""How a thread of the leader that works beside the load calls etcd: fenced, patiently, and with pauses."""

import time
from collections.abc import Callable, Sequence
from threading import Event
from typing import Final, TypeVar, final

from kvs.adapters.storage.etcd.backlog import Backlog
from kvs.adapters.storage.etcd.client.answers import TxnResult
from kvs.adapters.storage.etcd.client.errors import EtcdError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import Operation, get
from kvs.adapters.storage.etcd.layout import Keys
from kvs.adapters.storage.etcd.lead import Lead
from kvs.log_type import FilteringBoundLogger

T = TypeVar("T")

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0

SLICE_S: Final = 0.001
"""Processor time after which there is a pause."""

REST: Final = 16
"""How many times as long the pause is: so the loop keeps nine tenths of its rate beside what the members take."""

DISK_REST: Final = 2
"""Likewise after a write, in which the commits of others wait for the disk of etcd."""

LONGEST_REST_S: Final = 0.05
"""On a machine that is busy with other things, everything takes longer; a checkpoint need not take an hour."""


class StoppedError(Exception):
    """Raised when the work is given up: the server ends, or has lost the lead."""


@final
class Steps:
    """The steps of such a work; one thread calls them.

    Args:
        client: Calls etcd.
        keys: The names of keys.
        lead: The fence.
        backlog: Tells whether there is time for pauses.
        log: For failures, each of which is tried again.
        fatal: Errors that are not.

    Attributes:
        stopping: Set to have the work end.
    """

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        lead: Lead,
        backlog: Backlog,
        log: FilteringBoundLogger,
        fatal: tuple[type[EtcdError], ...] = (),
    ) -> None:
        self.client: Final = client
        self.keys: Final = keys
        self.lead: Final = lead
        self.stopping: Final = Event()
        self._backlog = backlog
        self._log = log
        self._fatal = fatal
        self._warned = False
        self._used_s = 0.0

    def fenced(self, then: Sequence[Operation], follows: bytes = b"", pointer: bytes = b"") -> TxnResult:
        """Run a fenced transaction until it is known to have been applied.

        Args:
            then: What is done.
            follows: A compare besides the fence.
            pointer: What ``checkpoint`` has if it was applied; empty: it may be applied again.
        """
        keys, lead = self.keys, self.lead
        compares = [*lead.fence, follows] if follows else lead.fence
        look = [get(keys.leader), get(keys.checkpoint)]
        result = self.until_answered(lambda: self.client.txn(compares, then, look))
        lead.judge(result, pointer)
        self.check()
        return result

    def until_answered(self, call: Callable[[], T]) -> T:
        """Call etcd until it answers."""
        pause_s = FIRST_PAUSE_S
        while True:
            self.check()
            try:
                return call()
            except self._fatal:
                raise
            except EtcdError as error:
                self.warn(error)
            self.stopping.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def check(self) -> None:
        """Raise if the work is to end.

        Raises:
            StoppedError: It is.
        """
        if self.stopping.is_set() or self.lead.lost:
            raise StoppedError

    def begin(self) -> None:
        """Note that this thread does the work now: the time it has used so far does not count."""
        self._used_s = time.thread_time()

    def succeed(self) -> None:
        """Note that the work has been done: the next failure is logged."""
        self._warned = False

    def warn(self, error: Exception) -> None:
        """Log a failure, if it is the first since the work was done, and the work is not to end."""
        if not (self._warned or self.stopping.is_set() or self.lead.lost):
            self._warned = True
            self._log.warning("checkpoint_failed", reason=f"{type(error).__name__}: {error}")

    def pace(self) -> None:
        """Make a pause if this thread has used much of the processor since the last one."""
        used_s = time.thread_time() - self._used_s
        if used_s >= SLICE_S:
            rest_s = used_s if self._backlog.is_pressing else min(used_s * REST, LONGEST_REST_S)
            self.stopping.wait(rest_s)
            self.check()
            self._used_s = time.thread_time()

    def yield_disk(self, took_s: float) -> None:
        """Make a pause after a write that took so long: commits have their turn at the disk of etcd."""
        if not self._backlog.is_pressing:
            self.stopping.wait(min(took_s * DISK_REST, LONGEST_REST_S))
            self.check()
