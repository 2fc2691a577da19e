"""The scripted workload: some hundred transactions of several connections, the same ones every time.

A script is a list of *phases*, and a phase a list of *rounds*. In a round each connection sends its *steps* in one
packet; the next round begins when every reply has come. No two connections write to the same keys in the same round, so
the order in which the server takes them makes no difference to the data. Between two phases the server is given the
time to begin compacting what it has.

There are single writes, transactions of several keys, nested ones, rollbacks, conflicts, transactions that last for
several rounds, keys that go and come back, values of several pages, and many rows in one commit. Every value is unique,
so the data set shows which transactions it comes from.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

WRITERS: Final = 4
LONG: Final = WRITERS
"""The connection whose transactions last for several rounds; it writes to keys of its own."""

CONNECTIONS: Final = WRITERS + 1
PHASES: Final = 3
ROUNDS: Final = 12
"""Of each phase, behind the one in which every key gets its first value."""

KEYS: Final = tuple(b"key/%03d" % number for number in range(240))
ROUND_KEYS: Final = 6
"""How many keys a connection writes to in a round."""

SMALL_BYTES: Final = (16, 300)
LARGE_BYTES: Final = (5_000, 20_000)


@dataclass(frozen=True, slots=True)
class Step:
    """What a connection sends in one go, and the server answers line by line.

    Attributes:
        lines: The requests.
        writes: What the step changes for good, by key; None: the key is deleted. Empty if it is no commit.
        conflicts: Whether the answer to the last line is a conflict; every other one is Ok.
        reads: Whether it is a GET outside a transaction, whose reply proves the commit that wrote the value.
    """

    lines: tuple[bytes, ...]
    writes: Mapping[bytes, bytes | None]
    conflicts: bool = False
    reads: bool = False


Round: TypeAlias = tuple[tuple[Step, ...], ...]
"""The steps of each connection."""

Phase: TypeAlias = tuple[Round, ...]
Script: TypeAlias = tuple[Phase, ...]


def write_script(seed: int = 1) -> Script:
    """Return the script of a seed."""
    author = _Author(random.Random(seed))
    return tuple(author.phase() for _ in range(PHASES))


class _Author:
    def __init__(self, chance: random.Random) -> None:
        self._random = chance
        self._values = 0
        self._long_keys = 0

    def phase(self) -> Phase:
        bulk = [[self._bulk(KEYS[writer::WRITERS])] for writer in range(WRITERS)]
        rounds = [bulk, *(self._round() for _ in range(ROUNDS))]
        long = self._long_steps(rounds)
        return tuple(
            (*(tuple(steps) for steps in writers), (last,)) for writers, last in zip(rounds, long, strict=True)
        )

    def _round(self) -> list[list[Step]]:
        chosen = self._random.sample(KEYS, WRITERS * ROUND_KEYS)
        return [self._steps(chosen[writer::WRITERS]) for writer in range(WRITERS)]

    def _steps(self, keys: list[bytes]) -> list[Step]:
        """Return steps of random kinds that use up the keys."""
        kinds: list[Callable[[list[bytes]], list[Step]]] = [
            self._put,
            self._put,
            self._delete,
            self._come_back,
            self._several,
            self._several,
            self._nested,
        ]
        kinds += [self._undone, self._undone, self._large, self._read, self._read]
        steps: list[Step] = []
        while keys:
            steps += self._random.choice(kinds)(keys)
        return steps

    def _long_steps(self, rounds: list[list[list[Step]]]) -> list[Step]:
        """Return one step for each round: transactions of three rounds each, by turns with and without a conflict."""
        steps = []
        for at in range(0, len(rounds), 3):
            part = rounds[at : at + 3]
            if len(part) < 3:
                steps += [Step((b"COUNT absent/",), {}) for _ in part]
            elif at % 2:
                steps += self._long_conflict(changed=_surely_put(part[1]))
            else:
                steps += self._long_commit()
        return steps

    def _long_commit(self) -> list[Step]:
        one, two, three = self._long_key(), self._long_key(), self._long_key()
        first, second, third = self._value(), self._value(), self._value()
        return [
            Step((b"START", _put(one, first)), {}),
            Step((b"START", _put(two, second), b"COMMIT", b"START", _put(three, third)), {}),
            Step((b"ROLLBACK", b"COMMIT"), {one: first, two: second}),
        ]

    def _long_conflict(self, changed: bytes) -> list[Step]:
        return [
            Step((b"START", b"GET " + changed), {}),
            Step((_put(self._long_key(), self._value()),), {}),
            Step((b"COMMIT",), {}, conflicts=True),
        ]

    # Steps. Each takes from the keys what it needs.

    def _bulk(self, keys: tuple[bytes, ...]) -> Step:
        writes = {key: self._value() for key in keys}
        return Step((b"START", *(_put(key, value) for key, value in writes.items()), b"COMMIT"), writes)

    def _put(self, keys: list[bytes]) -> list[Step]:
        key, value = keys.pop(), self._value()
        return [Step((_put(key, value),), {key: value})]

    def _large(self, keys: list[bytes]) -> list[Step]:
        key, value = keys.pop(), self._value(LARGE_BYTES)
        return [Step((_put(key, value),), {key: value})]

    def _delete(self, keys: list[bytes]) -> list[Step]:
        key = keys.pop()
        return [Step((b"DEL " + key,), {key: None})]

    def _come_back(self, keys: list[bytes]) -> list[Step]:
        key, value = keys.pop(), self._value()
        return [
            Step((b"START", b"DEL " + key, b"COMMIT"), {key: None}),
            Step((b"DEL " + key,), {}),
            Step((_put(key, value),), {key: value}),
        ]

    def _read(self, _: list[bytes]) -> list[Step]:
        return [Step((b"GET " + self._random.choice(KEYS),), {}, reads=True)]

    def _several(self, keys: list[bytes]) -> list[Step]:
        writes: dict[bytes, bytes | None] = {}
        lines = [b"START"]
        for key in _take(keys, 4):
            writes[key] = None if self._random.random() < 0.3 else self._value()
            value = writes[key]
            lines.append(b"DEL " + key if value is None else _put(key, value))
        return [Step((*lines, b"COMMIT"), writes)]

    def _nested(self, keys: list[bytes]) -> list[Step]:
        """Commit two levels and roll one back; the last key keeps what it had."""
        taken = _take(keys, 3)
        one, two, three = taken[0], taken[len(taken) // 2], taken[-1]
        first, second = self._value(), self._value(LARGE_BYTES if self._random.random() < 0.1 else SMALL_BYTES)
        inner = (b"START", b"DEL " + one, _put(two, second), b"COMMIT")
        undone = (b"START", _put(three, self._value()), b"START", b"DEL " + one, b"COMMIT", b"ROLLBACK")
        lines = (b"START", _put(one, first), *inner, *undone, _put(one, first), _put(two, second), b"COMMIT")
        return [Step(lines, {one: first} | {two: second})]

    def _undone(self, keys: list[bytes]) -> list[Step]:
        return [Step((b"START", *(_put(key, self._value()) for key in _take(keys, 2)), b"ROLLBACK"), {})]

    def _value(self, size_bytes: tuple[int, int] = SMALL_BYTES) -> bytes:
        self._values += 1
        text = b"%d." % self._values
        size = self._random.randint(*size_bytes)
        return (text * (size // len(text) + 1))[: max(size, len(text))]

    def _long_key(self) -> bytes:
        self._long_keys += 1
        return b"long/%d" % self._long_keys


def _put(key: bytes, value: bytes) -> bytes:
    return b"PUT %b %b" % (key, value)


def _take(keys: list[bytes], count: int) -> list[bytes]:
    taken = keys[-count:]
    del keys[-count:]
    return taken


def _surely_put(round_: list[list[Step]]) -> bytes:
    """Return a key that some commit of a round puts."""
    return next(key for steps in round_ for step in steps for key, value in step.writes.items() if value is not None)
