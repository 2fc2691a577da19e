"""One transaction by itself: what it has read of others, what it leaves behind, and whether it contradicts itself."""

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from tests.support.consistency.history import (
    NEVER_NS,
    Kind,
    Operation,
    Outcome,
    Transaction,
    Window,
    element_of,
    elements_of,
)


class Appended(NamedTuple):
    """A list of which only the end is known, that the transaction has appended."""

    end: str


Pending: TypeAlias = "str | Appended | None"


class RangeRead(NamedTuple):
    """What there was in a range of what others have committed.

    Attributes:
        low: It begins here.
        high: It ends before; "" for no end.
        keys: The keys there were.
        own: Keys of which it tells nothing: the transaction itself had written them.
    """

    low: str
    high: str
    keys: frozenset[str]
    own: frozenset[str]

    def tells_of(self, key: str) -> bool:
        """Return whether it tells if a key was there."""
        return within(key, self.low, self.high) and key not in self.own


class CountRead(NamedTuple):
    """How many keys there were in a range of what others have committed, besides those that tell nothing."""

    low: str
    high: str
    amount: int
    own: frozenset[str]


@dataclass(slots=True)
class _Frame:
    pending: dict[str, Pending] = field(default_factory=dict)
    lasts_s: dict[str, float | None] = field(default_factory=dict)
    cleared: bool = False

    def copy(self) -> "_Frame":
        return _Frame(dict(self.pending), dict(self.lasts_s), self.cleared)


class Effects:
    """What a transaction has read of others, and what it leaves behind.

    Attributes:
        transaction: The transaction.
        reads: Values of others that it has read, by key; None for none.
        present: Keys of others that it has seen to be there or not, without a value.
        ranges: Ranges it has listed.
        counts: Ranges it has counted.
        writes: What it leaves behind, by key; None for a delete.
        lasts_s: Deadlines that it leaves behind.
        clears: Whether it deletes every key.
        dropped: Elements that it wrote and does not leave behind, with their keys.
        blind_increments: Counters that it has incremented to an unknown sum.
        faults: Where it contradicts itself.
        window: Between these it took effect: at its COMMIT if it writes, else at its START.
    """

    __slots__ = (
        "_frames",
        "_written",
        "blind_increments",
        "counts",
        "dropped",
        "faults",
        "present",
        "ranges",
        "reads",
        "transaction",
        "window",
    )

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.reads: dict[str, str | None] = {}
        self.present: dict[str, bool] = {}
        self.ranges: list[RangeRead] = []
        self.counts: list[CountRead] = []
        self.blind_increments: list[str] = []
        self.faults: list[str] = []
        self._frames = [_Frame()]
        self._written: list[tuple[str, str]] = []
        for operation in transaction.operations:
            self._follow(operation)
        if transaction.outcome is Outcome.ABORTED:
            self.blind_increments.clear()
        left = {key: element_of(value) for key, value in self.writes.items() if isinstance(value, str)}
        left |= {key: element_of(value.end) for key, value in self.writes.items() if isinstance(value, Appended)}
        self.dropped = [(key, element) for key, element in self._written if left.get(key) != element]
        self.window = self._window()

    @property
    def writes(self) -> dict[str, Pending]:
        return self._frames[0].pending

    @property
    def lasts_s(self) -> dict[str, float | None]:
        return self._frames[0].lasts_s

    @property
    def clears(self) -> bool:
        return self._frames[0].cleared

    def _window(self) -> Window:
        transaction, frame = self.transaction, self._frames[0]
        if transaction.outcome is Outcome.ABORTED:
            window = transaction.begun
        elif frame.pending or frame.lasts_s or frame.cleared or self.blind_increments:
            window = transaction.ended
        else:
            window = transaction.begun
        return (window[0], NEVER_NS) if transaction.outcome is Outcome.UNKNOWN else window

    def _follow(self, operation: Operation) -> None:
        kind, key, value = operation.kind, operation.key, operation.value
        frame = self._frames[-1]
        if kind is Kind.READ:
            self._read(frame, key, value)
        elif kind is Kind.WRITE:
            self._write(frame, key, value)
            if operation.lasts_s is not None:
                frame.lasts_s[key] = operation.lasts_s
        elif kind is Kind.SEEN:
            self._see(frame, key, operation.amount > 0)
        elif kind is Kind.RANGE:
            self._list(frame, operation)
        elif kind is Kind.COUNT:
            self._count(frame, operation)
        elif kind is Kind.APPEND:
            self._append(frame, key, value or "")
        elif kind is Kind.INCREMENT:
            self._increment(frame, key, value)
        elif kind is Kind.EXPIRE:
            frame.lasts_s[key] = operation.lasts_s
        elif kind is Kind.CLEAR:
            self._frames[-1] = _Frame(cleared=True)
        elif kind is Kind.START:
            self._frames.append(frame.copy())
        else:
            self._frames.pop()
            if kind is Kind.COMMIT:
                self._frames[-1] = frame

    # Single keys.

    def _read(self, frame: _Frame, key: str, value: str | None) -> None:
        if key not in frame.pending:
            self._read_others(frame, key, value)
            return
        pending = frame.pending[key]
        if isinstance(pending, Appended):
            if value is not None and value.endswith(pending.end):
                self._read_others(frame, key, value[: -len(pending.end)] or None)
                frame.pending[key] = value
            else:
                self._fault(key, value, f"...{pending.end}")
        elif pending != value:
            self._fault(key, value, pending)

    def _read_others(self, frame: _Frame, key: str, value: str | None) -> None:
        if frame.cleared:
            if value is not None:
                self._fault(key, value, None)
        elif key in self.reads:
            if self.reads[key] != value:
                self._fault(key, value, self.reads[key])
        else:
            self._see_others(key, value is not None)
            self.reads[key] = value

    def _write(self, frame: _Frame, key: str, value: str | None) -> None:
        frame.pending[key] = value
        frame.lasts_s.pop(key, None)
        if value is not None:
            self._written.append((key, element_of(value)))

    def _append(self, frame: _Frame, key: str, element: str) -> None:
        before: Pending
        if key in frame.pending:
            before = frame.pending[key]
        elif frame.cleared:
            before = None
        else:
            before = self.reads.get(key, Appended(""))
        end = f",{element}"
        frame.pending[key] = Appended(before.end + end) if isinstance(before, Appended) else (before or "") + end
        self._written.append((key, element))

    def _increment(self, frame: _Frame, key: str, total: str | None) -> None:
        if total is None:
            self.blind_increments.append(key)
            return
        self._read(frame, key, str(int(total) - 1) if total != "1" else None)
        self._write(frame, key, total)

    def _see(self, frame: _Frame, key: str, present: bool) -> None:
        if key in frame.pending or frame.cleared:
            if present != (frame.pending.get(key) is not None):
                self.faults.append(f"{key} was {_there(present)}, and by its own writes should not be so")
        else:
            self._see_others(key, present)

    def _see_others(self, key: str, present: bool) -> None:
        if key in self.reads:
            before: bool | None = self.reads[key] is not None
        else:
            before = self.present.get(key)
        before = next((key in each.keys for each in self.ranges if each.tells_of(key)), before)
        if before is not None and before != present:
            self.faults.append(f"{key} was {_there(before)} and then {_there(present)}")
        self.present[key] = present

    # Ranges.

    def _list(self, frame: _Frame, operation: Operation) -> None:
        low, high, keys = operation.key, operation.high, set(operation.keys)
        own = {key for key in frame.pending if within(key, low, high)}
        for key in own:
            if (key in keys) != (frame.pending[key] is not None):
                self.faults.append(f"{key} was {_there(key in keys)} in a range, and by its own writes should not be")
        others = frozenset(keys - own)
        if frame.cleared:
            self.faults += [f"{key} was in a range behind a FLUSHALL" for key in sorted(others)]
            return
        for key in others:
            self._see_others(key, present=True)
        for key in (*self.reads, *self.present):
            if within(key, low, high) and key not in own and key not in others:
                self._see_others(key, present=False)
        for each in self.ranges:
            self.faults += [
                f"{key} was there in a range and then was not"
                for key in each.keys
                if within(key, low, high) and key not in own and key not in others
            ]
        self.ranges.append(RangeRead(low, high, others, frozenset(own)))

    def _count(self, frame: _Frame, operation: Operation) -> None:
        low, high = operation.key, operation.high
        own = frozenset(key for key in frame.pending if within(key, low, high))
        others = operation.amount - sum(frame.pending[key] is not None for key in own)
        if others < 0 or (frame.cleared and others):
            self.faults.append(f"{operation.amount} keys from {low!r} are not those it has written itself")
        elif others == 0 and not frame.cleared:
            self._list(
                frame, Operation(Kind.RANGE, low, high=high, keys=tuple(k for k in own if frame.pending[k] is not None))
            )
        elif not frame.cleared:
            for each in self.ranges:
                if (each.low, each.high, each.own) == (low, high, own) and len(each.keys) != others:
                    self.faults.append(f"{others} keys from {low!r}, where {len(each.keys)} had been listed")
            self.counts.append(CountRead(low, high, others, own))

    def _fault(self, key: str, value: str | None, expected: Pending) -> None:
        text = f"{key} was {value!r} and should be {expected!r}"
        if value is not None and any((key, element) in self._written for element in elements_of(value)):
            text += ", as it wrote that itself and then overwrote it or rolled it back"
        self.faults.append(text)


def within(key: str, low: str, high: str) -> bool:
    """Return whether a range has a key."""
    return low <= key and (not high or key < high)


def _there(present: bool) -> str:
    return "there" if present else "absent"
