"""Histories of transactions that were run one after the other, on a dict, at random times that may overlap."""

from copy import copy
from random import Random
from typing import Final, NamedTuple, TypeAlias

from tests.support.consistency.checker import Slack
from tests.support.consistency.effects import Effects, within
from tests.support.consistency.history import (
    CLEAR,
    COMMIT,
    NEVER_NS,
    ROLLBACK,
    START,
    Operation,
    Outcome,
    Transaction,
    append,
    counted,
    end_of,
    expire,
    increment,
    listed,
    read,
    seen,
    write,
)

MS: Final = 1_000_000
SLACK: Final = Slack(0.02, 0.02)
LONGEST_MS: Final = 40
"""Until a request is run, and from then until its answer has come."""

LASTS_MS: Final = (1, 30, 300, 3000)
REGISTERS: Final = ("r1", "r2", "s1", "s2", "s3")
LISTS: Final = ("l1", "l2")
COUNTERS: Final = ("n1",)
PREFIXES: Final = ("", "r", "s", "l")


class Record(NamedTuple):
    """A value, and when it expires."""

    value: str
    deadline_ns: int = NEVER_NS


Data: TypeAlias = dict[str, Record]


class Execution:
    """Runs transactions.

    Attributes:
        data: The committed data.
        history: The transactions so far.
        now_ns: When the last one was run.
    """

    def __init__(self, random: Random, *, clears: bool) -> None:
        self.data: Data = {}
        self.history: list[Transaction] = []
        self.now_ns = 10_000 * MS
        self._random = random
        self._clears = clears
        self._elements = 0

    def run(self, count: int) -> None:
        """Run random transactions."""
        for _ in range(count):
            self.run_one(self._random.choice([Outcome.COMMITTED] * 6 + [Outcome.ABORTED, Outcome.UNKNOWN]))

    def run_one(self, outcome: Outcome) -> None:
        """Run a random transaction."""
        self.pass_time(self._random.choice((0, 1, 5, 5, 30)))
        data = dict(self.data)
        unanswered = outcome is Outcome.UNKNOWN and self._random.random() < 0.5
        operations = self._unanswered(data) if unanswered else self._operations(data)
        if outcome is Outcome.COMMITTED or (outcome is Outcome.UNKNOWN and self._random.random() < 0.5):
            self.data = data
        self.note(operations, outcome)

    def pass_time(self, passed_ms: float) -> None:
        """Let time pass, and delete what has expired."""
        self.now_ns += round(passed_ms * MS)
        self.data = {key: record for key, record in self.data.items() if record.deadline_ns > self.now_ns}

    def note(
        self, operations: list[Operation], outcome: Outcome = Outcome.COMMITTED, longest_ms: int = LONGEST_MS
    ) -> None:
        """Note a transaction that was run just now, and that took up to so long."""

        def some() -> int:
            return self._random.choice((0, self._random.randint(0, longest_ms * MS)))

        number = len(self.history)
        transaction = Transaction(number, number % 8, operations, outcome, (0, 0), (1, 1))
        sent_ns, answered_ns = self.now_ns - some(), self.now_ns + some()
        effects = Effects(copy(transaction))
        assert not effects.faults
        if outcome is Outcome.ABORTED or effects.window == (0, 0):
            transaction.begun = sent_ns, answered_ns
            ended_ns = answered_ns + some()
            transaction.ended = ended_ns, ended_ns + some()
        else:
            begun_ns = sent_ns - some()
            transaction.begun = begun_ns - some(), begun_ns
            transaction.ended = sent_ns, answered_ns
        self.history.append(transaction)

    def new_element(self) -> str:
        """Return what has never been written."""
        self._elements += 1
        return f"v{self._elements}"

    def _operations(self, data: Data) -> list[Operation]:
        """Return operations, and do them."""
        frames: list[Data] = []
        operations: list[Operation] = []
        for _ in range(self._random.choice((1, 1, 2, 4, 8))):
            move = self._random.random()
            if move < 0.1:
                frames.append(dict(data))
                operations.append(START)
            elif move < 0.2 and frames:
                before = frames.pop()
                if move < 0.15:
                    data.clear()
                    data.update(before)
                operations.append(ROLLBACK if move < 0.15 else COMMIT)
            else:
                operations += self._operation(data)
        return operations + [COMMIT] * len(frames)

    def _operation(self, data: Data) -> list[Operation]:
        kind = self._random.randrange(9 if self._clears else 8)
        if kind == 8:
            if self._random.random() < 0.7:
                return self._look(data)
            data.clear()
            return [CLEAR]
        if kind <= 1:
            return self._look(data)
        if kind == 2:
            return self._append(data, self._random.choice(LISTS))
        if kind == 3 and not self._clears:
            key = self._random.choice(COUNTERS)
            total = int(data[key].value) + 1 if key in data else 1
            data[key] = Record(str(total))
            return [increment(key, total)]
        if kind == 4:
            return self._expire(data, self._random.choice(REGISTERS))
        return self._write(data, self._random.choice(REGISTERS))

    def _look(self, data: Data) -> list[Operation]:
        if self._random.random() < 0.5:
            key = self._random.choice(REGISTERS + LISTS)
            record = data.get(key)
            known = self._random.random() < 0.7
            return [read(key, record.value if record else None) if known else seen(key, record is not None)]
        prefix = self._random.choice(PREFIXES)
        low, high = prefix, end_of(prefix)
        keys = sorted(key for key in data if within(key, low, high))
        if self._random.random() < 0.4:
            return [counted(low, high, len(keys))]
        limit = self._random.randint(1, 8)
        if len(keys) > limit:  # a page
            keys = keys[:limit]
            high = keys[-1] + "\0"
        return [listed(low, high, keys)]

    def _append(self, data: Data, key: str) -> list[Operation]:
        before = data.get(key)
        element = self.new_element()
        value = (before.value if before else "") + "," + element
        data[key] = Record(value)
        if self._random.random() < 0.5:
            return [append(key, element)]
        return [read(key, before.value if before else None), write(key, value)]

    def _expire(self, data: Data, key: str) -> list[Operation]:
        if key not in data:
            return [seen(key, False)]
        lasts_ms = self._random.choice((*LASTS_MS, None))
        data[key] = Record(data[key].value, NEVER_NS if lasts_ms is None else self._deadline_ns(lasts_ms))
        return [seen(key, True), expire(key, None if lasts_ms is None else lasts_ms / 1000)]

    def _write(self, data: Data, key: str) -> list[Operation]:
        before = data.pop(key, None)
        tells = self._random.randrange(3)
        told = [[], [seen(key, before is not None)], [read(key, before.value if before else None)]][tells]
        if self._random.random() < 0.3:
            return [*told, write(key, None)] if before or not tells else told
        value = self.new_element()
        lasts_ms = self._random.choice((None, None, *LASTS_MS))
        data[key] = Record(value, NEVER_NS if lasts_ms is None else self._deadline_ns(lasts_ms))
        return [*told, write(key, value, None if lasts_ms is None else lasts_ms / 1000)]

    def _deadline_ns(self, lasts_ms: int) -> int:
        slack_ms = SLACK.early_s * 1000
        return self.now_ns + round((lasts_ms + self._random.uniform(-slack_ms, slack_ms)) * MS)

    def _unanswered(self, data: Data) -> list[Operation]:
        """Return a command of which nothing is known but that it was sent, and do it."""
        key = self._random.choice(REGISTERS + LISTS + (() if self._clears else COUNTERS))
        if key in COUNTERS:
            data[key] = Record(str(int(data[key].value) + 1) if key in data else "1")
            return [increment(key, None)]
        if key in LISTS:
            element = self.new_element()
            data[key] = Record((data[key].value if key in data else "") + "," + element)
            return [append(key, element)]
        if self._random.random() < 0.5:
            data.pop(key, None)
            return [write(key, None)]
        value = self.new_element()
        data[key] = Record(value)
        return [write(key, value)]
