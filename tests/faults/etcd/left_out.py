"""Rules of the engine, each left out: what ``script.py`` is told to do without."""

import signal
from collections.abc import Callable, Mapping
from types import FrameType, SimpleNamespace
from typing import Any, Final, cast

from kvs.adapters.storage.etcd import follower
from kvs.adapters.storage.etcd.client.answers import Header, TxnResult
from kvs.adapters.storage.etcd.client.errors import EtcdError
from kvs.adapters.storage.etcd.election import Election
from kvs.adapters.storage.etcd.journal import EtcdJournal
from kvs.adapters.storage.etcd.lead import Keeper, Lead
from kvs.adapters.storage.etcd.replica import Replica
from kvs.adapters.storage.etcd.rows import EtcdBatch
from kvs.adapters.storage.journal_writer import Batch
from kvs.signals import Signals

FOR_EVER_S: Final = 3600.0


def the_right_is_checked() -> None:
    """Reads are answered from memory, whoever leads."""
    EtcdJournal.needs_confirmation = lambda _: False  # type: ignore[assignment,method-assign]


def an_empty_tick_is_held() -> None:
    """A tick that has only read is answered without asking etcd."""
    real = EtcdJournal.append

    def append(self: EtcdJournal, batch: Batch) -> None:
        assert isinstance(batch, EtcdBatch)
        if batch.written or batch.clears:
            real(self, batch)

    EtcdJournal.append = append  # type: ignore[method-assign]


def who_is_deposed_ends() -> None:
    """A leader that has found out that it is none goes on."""
    Lead.lose = lambda *_: None  # type: ignore[method-assign]
    Lead.may_read = property(lambda _: True)  # type: ignore[assignment,method-assign]


def writes_are_fenced() -> None:
    """Whoever has been leader writes."""
    Lead.fence = property(lambda _: [])  # type: ignore[assignment,method-assign]


def an_unknown_outcome_is_found_out() -> None:
    """What was sent is taken for applied."""
    real = EtcdJournal.__init__

    def init(self: EtcdJournal, *args: Any) -> None:
        real(self, *args)
        txn, lead = self._client.txn, self._lead

        def believe(*call: Any, urgent: bool) -> TxnResult:
            try:
                compares, then, otherwise, *_ = call
                return txn(compares, then, otherwise, timeout_s=0.2, urgent=urgent)
            except EtcdError:
                return TxnResult(Header(revision=lead.sending().revision), succeeded=True, ranges=())

        self._client = cast("Any", SimpleNamespace(txn=believe))

    EtcdJournal.__init__ = init  # type: ignore[assignment,method-assign]


def a_successor_waits() -> None:
    """It serves as soon as it has the lead."""
    Election.wait_for_former_leader = lambda _: None  # type: ignore[assignment,method-assign]


def a_lead_is_released_last() -> None:
    """It is released at once when the server is told to stop, which goes on answering."""
    keepers: list[Keeper] = []
    run, install = Keeper._run, Signals.install

    def remember(self: Keeper) -> None:
        keepers.append(self)
        run(self)

    def release(_number: int, _frame: FrameType | None) -> None:
        keepers[0].begin_release()

    def install_all(self: Signals) -> None:
        install(self)
        signal.signal(signal.SIGTERM, release)

    Keeper._run = remember  # type: ignore[method-assign]
    Lead.lose = lambda *_: None  # type: ignore[method-assign]
    Signals.install = install_all  # type: ignore[method-assign]


def a_lead_is_kept_only_while_the_loop_turns() -> None:
    """It is kept as long as the process is there."""
    Keeper.watch_loop = lambda *_: None  # type: ignore[method-assign]


def a_successor_reads_the_rest() -> None:
    """It serves what it has followed; and it follows no more when it has everything once."""
    follower.LOOK_S = FOR_EVER_S  # type: ignore[misc]
    Replica.catch_up = lambda *_: None  # type: ignore[method-assign]


LEFT_OUT: Final[Mapping[str, Callable[[], None]]] = {
    rule.__name__: rule
    for rule in (
        the_right_is_checked,
        an_empty_tick_is_held,
        who_is_deposed_ends,
        writes_are_fenced,
        an_unknown_outcome_is_found_out,
        a_successor_waits,
        a_lead_is_released_last,
        a_lead_is_kept_only_while_the_loop_turns,
        a_successor_reads_the_rest,
    )
}
