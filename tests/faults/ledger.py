"""What the data may be after a crash: everything acknowledged, nothing in part, and what was under way either way.

Acknowledged is what a reply has told of: that a commit succeeded, or a value that a commit had written.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final, TypeAlias

from kvs.domain.values import Key, Value
from tests.faults.workload import CONNECTIONS, Script, Step

Data: TypeAlias = Mapping[Key, Value]


class History:
    """Every state that the data go through when a script is run."""

    def __init__(self, script: Script) -> None:
        rounds = [round_ for phase in script for round_ in phase]
        self.steps: Final = [[step for round_ in rounds for step in round_[at]] for at in range(CONNECTIONS)]
        """All steps of each connection."""
        self._ends: Final = [list(accumulate(len(round_[at]) for round_ in rounds)) for at in range(CONNECTIONS)]
        self._before: Final[list[dict[Key, Value]]] = [{}]
        for round_ in rounds:
            data = dict(self._before[-1])
            for steps in round_:
                for step in steps:
                    _apply(data, step)
            self._before.append(data)
        self.written_by: Final = {
            value: (at, number)
            for at in range(CONNECTIONS)
            for number, step in enumerate(self.steps[at])
            for value in step.writes.values()
            if value is not None
        }
        """The connection and the number of the step that writes a value."""

    def violation(self, data: Data, acknowledged: Sequence[int]) -> str | None:
        """Return how data after a crash violate a promise; None if they do not.

        Args:
            data: The recovered data.
            acknowledged: Number of acknowledged steps of each connection.
        """
        for number in range(len(self._before) - 1):
            if any(done < ends[number] for done, ends in zip(acknowledged, self._ends, strict=True)):
                return self._violation(data, number, acknowledged)
        return difference(data, self._before[-1])

    def is_prefix(self, data: Data, acknowledged: Sequence[int] = (0,) * CONNECTIONS) -> bool:
        """Return whether data are the result of a prefix of the script, with no step applied in part.

        Args:
            data: The recovered data.
            acknowledged: Minimum number of steps of each connection in that prefix.
        """
        rounds = range(len(self._before) - 1)
        return data == self._before[-1] or any(
            self._violation(data, number, acknowledged) is None
            for number in rounds
            if all(done <= ends[number] for done, ends in zip(acknowledged, self._ends, strict=True))
        )

    def _violation(self, data: Data, number: int, acknowledged: Sequence[int]) -> str | None:
        """Compare with the states that there may be in a round."""
        expected = dict(self._before[number])
        for at in range(CONNECTIONS):
            first = self._ends[at][number - 1] if number else 0
            steps = self.steps[at][first : self._ends[at][number]]
            done = max(acknowledged[at] - first, 0)
            keys = {key for step in steps for key in step.writes}
            found = {key: data[key] for key in keys if key in data}
            state = {key: expected.pop(key) for key in keys if key in expected}
            possible = []
            for count, step in enumerate([Step((), {}), *steps]):
                _apply(state, step)
                if count >= done:
                    possible.append(dict(state))
            if found not in possible:
                return (
                    f"round {number}, connection {at}: {done} of {len(steps)} steps were acknowledged; "
                    f"{difference(found, possible[0])}"
                )
            expected |= found
        return difference(data, expected)


class Progress:
    """What the replies have told so far.

    Attributes:
        acknowledged: How many steps of each connection have been acknowledged.
    """

    def __init__(self, history: History) -> None:
        self.acknowledged = [0] * CONNECTIONS
        self._history = history
        self._answered = [0] * CONNECTIONS  # steps whose every line has been answered
        self._lines = [0] * CONNECTIONS  # of the step that has not

    def note(self, connection: int, line: bytes) -> None:
        """Take in a reply.

        Raises:
            AssertionError: It is not what the script expects.
        """
        step = self._history.steps[connection][self._answered[connection]]
        self._lines[connection] += 1
        last = self._lines[connection] == len(step.lines)
        reply = json.loads(line)
        expected = "conflict" if last and step.conflicts else None
        assert reply.get("code") == expected, f"{step.lines[self._lines[connection] - 1]!r} was answered {line!r}"
        if last:
            self._answered[connection] += 1
            self._lines[connection] = 0
            self._acknowledge(connection, self._answered[connection])
        if step.reads and reply["result"] is not None:
            writer, number = self._history.written_by[reply["result"].encode()]
            self._acknowledge(writer, number + 1)

    def _acknowledge(self, connection: int, count: int) -> None:
        self.acknowledged[connection] = max(self.acknowledged[connection], count)


def _apply(data: dict[Key, Value], step: Step) -> None:
    for key, value in step.writes.items():
        if value is None:
            data.pop(key, None)
        else:
            data[key] = value


def difference(data: Data, expected: Data) -> str | None:
    """Return the first key that differs, and how; None if there is none."""
    for key in sorted(data.keys() | expected.keys()):
        if data.get(key) != expected.get(key):
            return f"{key!r} is {_short(data.get(key))} and should be {_short(expected.get(key))}"
    return None


def _short(value: Value | None) -> str:
    return "absent" if value is None else f"{value!r:.40}"
