"""Many clients on real servers, each with random transactions of every form there is, until there have been so many.

Each client draws from a seed of its own; how they meet is up to the machine. Keys change in the course of time, so that
neither lists nor histories of keys grow long. Kinds of keys:

* ``l/``: lists, which are only ever appended to;
* ``r/``: registers, some of whose writes are blind;
* ``s/``: keys that come and go, and that ranges are read of;
* ``e/``: likewise, with deadlines;
* ``c/``: counters, where nothing is flushed.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random
from typing import Final, TypeAlias

from tests.support.consistency import actions
from tests.support.consistency.actions import Action
from tests.support.consistency.connections import Address, Connection, LineConnection, LostError, RespConnection
from tests.support.consistency.recorder import Recorder, Records
from tests.support.waiting import TIMEOUT_S, polling

LASTS_S: Final = (0.005, 0.02, 0.1, 3600.0)
GENERATION: Final = 1000
"""Transactions until other keys are used."""

KEYS: Final = {"l": 4, "r": 4, "s": 6, "e": 4, "c": 2}
PAGE: Final = 3
READS_AT_ONCE: Final = 200

Nemesis: TypeAlias = Callable[[int], None]
"""Does something to the servers. It is told how many transactions there have been."""


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        seed: Of everything that is drawn.
        clients: How many there are, in both protocols by turns.
        transactions: How many there are to be, of all clients together.
        flushes: Whether everything is deleted every now and then; then there are no counters.
        deadlines: Whether keys expire.
        strikes: How often the nemesis strikes, at random numbers of transactions.
        allows: Codes of errors that may come.
        patience_s: How long every second client of a protocol waits for an answer; the others wait longer.
    """

    seed: int
    clients: int = 12
    transactions: int = 3000
    flushes: bool = False
    deadlines: bool = True
    strikes: int = 0
    allows: frozenset[str] = frozenset({"conflict"})
    patience_s: float = TIMEOUT_S


@dataclass
class _Progress:
    """How many transactions there have been, and when the nemesis is to strike next."""

    transactions: int
    points: list[int]
    nemesis: Nemesis
    done: int = 0
    striking: int = 0
    elements: "count[int]" = field(default_factory=count)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: bool = False

    @property
    def goes_on(self) -> bool:
        """Whether there are transactions to come: also as long as a strike is under way, which may wait for some."""
        return not self.stopped and (self.done < self.transactions or self.striking > 0)

    def stop(self) -> None:
        self.stopped = True

    def one_more(self) -> None:
        with self.lock:
            self.done += 1
            strikes = bool(self.points) and self.done >= self.points[0]
            if strikes:
                self.points.pop(0)
                self.striking += 1
        if strikes:
            self.nemesis(self.done)
            with self.lock:
                self.striking -= 1


def run(plan: Plan, addresses: Callable[[], Sequence[Address]], nemesis: Nemesis = lambda _: None) -> Records:
    """Run clients on servers that hold nothing, and return what they have written down.

    Args:
        plan: What is to be run.
        addresses: Returns where servers listen, or are going to listen again.
        nemesis: Does something to them.
    """
    chance = Random(plan.seed)
    points = sorted(chance.randint(1, max(1, plan.transactions - 1)) for _ in range(plan.strikes))
    progress = _Progress(plan.transactions, points, nemesis)
    records = Records()
    numbers = count()
    clients = [
        _Client(
            number,
            plan,
            addresses,
            progress,
            Recorder(number, partial(_connect, number, addresses, plan.patience_s), numbers, records, plan.allows),
        )
        for number in range(plan.clients)
    ]
    try:
        _all_together([client.run for client in clients], progress.stop)
        clients[0].wait_until_expired()
        _all_together([client.read_everything for client in clients], progress.stop)
    finally:
        for client in clients:
            client.leave()
    records.transactions.sort(key=lambda each: each.begun)
    return records


def _all_together(jobs: Sequence[Callable[[], None]], stop: Callable[[], None]) -> None:
    """Run jobs at the same time; if one of them raises, stop the others and raise it."""
    errors: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001  # it is raised by who waits
            errors.append(error)
            stop()

    threads = [threading.Thread(target=guarded, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _connect(client: int, addresses: Callable[[], Sequence[Address]], patience_s: float) -> Connection:
    """Return a connection to a server that listens: the client's own first, then the next."""
    protocol = RespConnection if client % 2 else LineConnection
    tried = client // 2
    patience_s = patience_s if tried % 2 else TIMEOUT_S
    for _ in polling("a server listens"):
        servers = addresses()
        if servers:
            try:
                return protocol(servers[tried % len(servers)], patience_s)
            except OSError:
                tried += 1
    raise AssertionError


class _Client:
    """One client: draws transactions."""

    def __init__(
        self,
        number: int,
        plan: Plan,
        addresses: Callable[[], Sequence[Address]],
        progress: _Progress,
        recorder: Recorder,
    ) -> None:
        self._plan = plan
        self._addresses = addresses
        self._progress = progress
        self._recorder = recorder
        self._random = Random(f"{plan.seed} {number}")
        self._speaks_resp = number % 2 == 1
        self._kinds = "lrss" + ("e" if plan.deadlines else "") + ("" if plan.flushes else "c")

    def run(self) -> None:
        """Run transactions until there have been enough."""
        while self._progress.goes_on:
            for _ in polling("a transaction is neither refused nor cut short"):
                refusals = self._recorder.refusals
                self._transaction()
                served = self._recorder.is_connected and self._recorder.refusals == refusals
                if served or self._progress.stopped:
                    break
                self._recorder.leave()
            self._progress.one_more()
            if self._random.random() < 0.002:
                self._recorder.leave()

    def leave(self) -> None:
        """Close the connection."""
        self._recorder.leave()

    # The end.

    def wait_until_expired(self) -> None:
        """Wait until what has a near deadline is gone; a key that never goes is a failure."""
        for _ in polling("everything has expired that is due"):
            answers = self._ask([["KEYS", "e/"]])
            keys = answers[0] if answers else None
            if isinstance(keys, list):
                lasts = self._ask([["TTL", key] for key in keys])
                if all(each is None or (isinstance(each, float | int) and each > max(LASTS_S[:-1])) for each in lasts):
                    return

    def _ask(self, requests: list[list[str]]) -> list[actions.Answer]:
        try:
            return self._recorder.connection.ask_words(requests)
        except LostError as lost:
            self._recorder.leave()
            return lost.answers

    def read_everything(self) -> None:
        """Read every key that there may be."""
        keys = [
            self._key(kind, at, number) for at in self._generations() for kind in KEYS for number in range(KEYS[kind])
        ]
        for at in range(0, len(keys), READS_AT_ONCE):
            for _ in polling("a read of everything ends"):
                if self._recorder.begin(actions.BEGIN_READING):
                    some = keys[at : at + READS_AT_ONCE]
                    if self._recorder.step(*map(actions.get, some), actions.list_keys("s/0/")) is not None:
                        self._recorder.end("COMMIT")
                        break
                self._recorder.leave()

    def _generations(self) -> range:
        return range(self._progress.done // GENERATION + 1)

    # Transactions.

    def _transaction(self) -> None:
        form = self._random.random()
        if form < 0.3:
            self._recorder.single(self._action())
        elif form < 0.45:
            self._recorder.at_once([self._action(alone=False) for _ in range(self._random.randint(1, 5))])
        elif form < 0.55:
            self._book()
        elif form < 0.75 or not self._speaks_resp:
            self._step_by_step()
        elif form < 0.88:
            self._recorder.queue([self._action(alone=False) for _ in range(self._random.randint(1, 5))])
        else:
            self._watch()

    def _step_by_step(self) -> None:
        """Run a transaction of several packets, with frames."""
        recorder = self._recorder
        reading = self._random.random() < 0.1
        if not recorder.begin(actions.BEGIN_READING if reading else actions.BEGIN):
            return
        depth = 1
        for _ in range(self._random.randint(1, 6)):
            move = self._random.random()
            done: object
            if reading:
                done = recorder.step(self._look())
            elif move < 0.15:
                depth += 1
                done = recorder.step(actions.BEGIN)
            elif move < 0.3 and depth > 1:
                depth -= 1
                done = recorder.step(actions.MERGE if move < 0.22 else actions.UNDO)
            elif move < 0.6:
                done = self._replace()
            else:
                done = recorder.step(*(self._action(alone=False) for _ in range(self._random.randint(1, 3))))
            if done is None:
                return
        for _ in range(depth - 1):
            if recorder.step(actions.MERGE if self._random.random() < 0.7 else actions.UNDO) is None:
                return
        recorder.end("COMMIT" if self._random.random() < 0.93 else "ROLLBACK")

    def _replace(self) -> object:
        """Read something and write what depends on it; return None if that has ended the transaction."""
        kind = self._random.choice("llrss")
        key = self._some_key(kind)
        answers = self._recorder.step(actions.get(key))
        if answers is None:
            return None
        (before,) = answers
        if kind == "l":
            return self._recorder.step(actions.put(key, (before or "") + "," + self._element()))
        if before is not None and kind == "s":
            return self._recorder.step(actions.delete(key))
        return self._recorder.step(actions.put(key, self._element()))

    def _book(self) -> None:
        """Look which keys there are, and depending on that write another, or delete one."""
        recorder = self._recorder
        if not recorder.begin():
            return
        generation = self._generation()
        answers = recorder.step(actions.list_keys(f"s/{generation}/"))
        if answers is None:
            return
        there = set(answers[0])
        keys = [self._key("s", generation, number) for number in range(KEYS["s"])]
        free = [key for key in keys if key not in there]
        if free and (len(there) < 2 or self._random.random() < 0.5):
            done = recorder.step(actions.put(self._random.choice(free), self._element()))
        else:
            done = recorder.step(actions.delete(self._random.choice(sorted(there))))
        if done is not None:
            recorder.end("COMMIT")

    def _watch(self) -> None:
        key = self._some_key(self._random.choice("lr"))
        action = actions.add_element if key.startswith("l") else actions.put
        others = [self._action(alone=False) for _ in range(self._random.randint(0, 2))]
        self._recorder.queue([action(key, self._element()), *others], watched=key)

    # Commands.

    def _action(self, *, alone: bool = True) -> Action:
        """Draw a command that the protocol has.

        Args:
            alone: It is answered, or it is a transaction by itself.
        """
        for _ in range(1000):
            action = self._any_action(alone=alone)
            if action is not None and self._recorder.connection.has(action):
                return action
        raise AssertionError

    def _any_action(self, *, alone: bool) -> Action | None:
        if self._random.random() < 0.4:
            return self._look()
        if self._plan.flushes and self._random.random() < 0.01:
            return actions.CLEAR_ALL
        kind = self._random.choice(self._kinds)
        key, element = self._some_key(kind), self._element()
        if kind == "l":
            return actions.add_element(key, element)
        if kind == "c":
            return actions.add_one(key)
        if kind == "e":
            return self._with_deadline(key, element)
        drawn = self._random.randrange(6)
        if drawn == 0:
            return actions.put(key, element) if kind == "r" else None
        if drawn == 1:
            return actions.put_if_absent(key, element) if alone else actions.exchange(key, element)
        if drawn == 2:
            return actions.exchange(key, element)
        if drawn == 3:
            return actions.take(key)
        if drawn == 4:
            return actions.put_several({self._some_key("r"): element, self._some_key("r"): self._element()})
        return actions.delete(key)

    def _with_deadline(self, key: str, element: str) -> Action:
        lasts_s = self._random.choice(LASTS_S)
        drawn = self._random.randrange(5)
        if drawn == 0:
            return actions.put(key, element)
        if drawn == 1:
            return actions.set_deadline(key, lasts_s)
        if drawn == 2:
            return actions.keep(key)
        return actions.put_for(key, element, lasts_s)

    def _look(self) -> Action:
        drawn = self._random.random()
        if drawn < 0.6:
            return actions.get(self._some_key(self._random.choice(self._kinds)))
        if drawn < 0.65:
            return actions.exists(self._some_key(self._random.choice("se"))) if self._speaks_resp else self._look()
        prefix = f"s/{self._generation()}/" + self._random.choice(("", "", "1", "2"))
        if drawn < 0.8 or (self._speaks_resp and drawn < 0.85):
            return actions.list_keys(prefix)
        return actions.list_page(prefix, PAGE) if self._speaks_resp else actions.count_keys(prefix)

    def _some_key(self, kind: str) -> str:
        return self._key(kind, self._generation(), self._random.randrange(KEYS[kind]))

    def _generation(self) -> int:
        return self._progress.done // GENERATION

    @staticmethod
    def _key(kind: str, generation: int, number: int) -> str:
        return f"{kind}/{generation}/{number}"

    def _element(self) -> str:
        return f"v{next(self._progress.elements)}"
