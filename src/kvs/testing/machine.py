"""Several sessions on a few keys, so that they collide: what comes of every call is predicted by the model.

Two generators of the same calls. The state machine shrinks what it finds; the random walk is fifty times faster and so
goes much further.
"""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from random import Random
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kvs.domain.values import Key
from kvs.testing.calls import NO_LIMIT, Call, Update
from kvs.testing.drivers import Driver
from kvs.testing.model import Model

KEYS: Final = tuple(key.encode() for key in ("a", "ab", "abc", "b", "ba", "é"))
PREFIXES: Final = tuple(prefix.encode() for prefix in ("", "a", "ab", "b", "z", "é"))
VALUES: Final = tuple(value.encode() for value in ("1", "2", "", " two  words ", '"\\', "ü\t"))
UPDATES: Final = (
    Update("append", b"x"),
    Update("add", b"7"),
    Update("add", b"7"),  # which fails where there is no number
    Update("replace", b"2"),
    Update("put_if_absent", b"1"),
    Update("remove"),
)
LIMITS: Final = (1, 2, 3, NO_LIMIT)
OBSERVER: Final = 0
SESSIONS: Final = (1, 2, 3)
STEPS: Final = 40
LOOK_AROUND: Final = (
    Call("keys", (b"", b"", NO_LIMIT)),
    Call("count", (b"",)),
    Call("count", (b"a",)),
    *(Call("get", (key,)) for key in KEYS),
)


class Comparison:
    """A driver and a model on which the same calls are made."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.model = Model()
        self.said: list[str] = []
        self._look_around = [call for call in LOOK_AROUND if driver.can(call)]

    def execute(self, session: int, *calls: Call) -> None:
        """Have both make calls and assert that they agree."""
        self.said += [f"{session}: {call!r}" for call in calls]
        predicted = [call.outcome(self.model.session(session)) for call in calls]
        actual = self.driver.execute_many(session, calls)
        for call, outcome, shown in zip(calls, predicted, actual, strict=True):
            expected = self.driver.shown(call, outcome)
            assert shown == expected, f"{shown} is not the predicted {expected} of {call}, after {self.said[-60:]}"

    def disconnect(self, session: int) -> None:
        """Cut a session's connection in both."""
        self.said.append(f"{session}: (disconnected)")
        self.model.disconnect(session)
        self.driver.disconnect(session)

    def leave(self, session: int) -> None:
        """Have a session leave, in both."""
        self.said.append(f"{session}: (left)")
        self.model.disconnect(session)
        self.driver.leave(session)

    def check_committed(self) -> None:
        """Assert that somebody outside any transaction sees exactly what was committed."""
        self.driver.check(self.model.snapshots)
        self.execute(OBSERVER, *self._look_around)
        del self.said[-len(self._look_around) :]


sessions = st.sampled_from(SESSIONS)
keys = st.sampled_from(KEYS)
prefixes = st.sampled_from(PREFIXES)
values = st.sampled_from(VALUES)


def calls_of(method: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Call]:
    """Return calls of a method."""
    return st.tuples(*arguments).map(partial(Call, method))


some_keys = st.lists(keys, min_size=1, max_size=3).map(tuple)
writes = st.one_of(
    calls_of("put", keys, values),
    calls_of("delete", keys),
    calls_of("update", keys, st.sampled_from(UPDATES)),
    calls_of("put_all", st.lists(st.tuples(keys, values), min_size=1, max_size=3).map(tuple)),
    calls_of("clear"),
)
reads = st.one_of(
    calls_of("get", keys),
    calls_of("count", prefixes),
    calls_of("keys", prefixes, st.just(b""), st.just(NO_LIMIT)),
    calls_of("keys", prefixes, keys, st.sampled_from(LIMITS)),
)
frames = st.one_of(
    calls_of("start", st.sampled_from((False, False, True))),
    st.sampled_from((Call("commit"), Call("commit"), Call("rollback"), Call("reset"))),
)


def several(calls: st.SearchStrategy[Call]) -> st.SearchStrategy[tuple[Call, ...]]:
    """Return calls that are made as one."""
    return st.lists(calls, min_size=1, max_size=4).map(tuple)


units = st.one_of(
    calls_of("view", several(reads)),
    calls_of("transact", several(st.one_of(reads, writes))),
    calls_of("view", several(calls_of("get", keys))),
    calls_of("transact", several(calls_of("delete", keys))),
)
watches = st.one_of(calls_of("watch", some_keys), calls_of("watch", some_keys), st.just(Call("unwatch")))
executions = calls_of("execute", several(st.one_of(reads, writes, units)))


class SessionsMachine(RuleBasedStateMachine):
    """The state machine. What a driver has no way to say is left out: see :meth:`kvs.testing.drivers.Driver.can`.

    Few rules, each with many calls: Hypothesis likes to switch some rules off for a whole run, and nothing much happens
    without START, COMMIT, a read and a write.
    """

    def __init__(self, open_driver: Callable[[], Driver]) -> None:
        super().__init__()
        self.comparison = Comparison(open_driver())

    @initialize(data=st.dictionaries(keys, values, max_size=4))
    def fill(self, data: dict[bytes, bytes]) -> None:
        self.comparison.execute(OBSERVER, *(Call("put", entry) for entry in data.items()))

    @rule(data=st.data(), session=sessions)
    def call(self, data: st.DataObject, session: int) -> None:
        self.comparison.execute(session, data.draw(self._sayable(st.one_of(reads, writes, frames, units))))

    @rule(data=st.data(), session=sessions)
    def begin(self, data: st.DataObject, session: int) -> None:
        """Open a frame, look around, and write: all of it at once."""
        looks = data.draw(st.lists(self._sayable(st.one_of(reads, frames)), min_size=1, max_size=3))
        write = data.draw(self._sayable(writes))
        self.comparison.execute(session, Call("start", (False,)), *looks, write)

    @rule(data=st.data(), session=sessions, other=sessions)
    def finish(self, data: st.DataObject, session: int, other: int) -> None:
        """Write something elsewhere, then commit every frame of a session: the outermost tells whether it conflicts."""
        for write in data.draw(st.lists(self._sayable(writes), max_size=2)):
            self.comparison.execute(other, write)
        while self._depth(session):
            self.comparison.execute(session, Call("commit"))

    @precondition(lambda self: self.comparison.driver.can(Call("watch", (KEYS,))))
    @rule(data=st.data(), session=sessions, other=sessions)
    def watch(self, data: st.DataObject, session: int, other: int) -> None:
        """Watch something, write elsewhere, and perhaps execute what depends on it."""
        self.comparison.execute(session, data.draw(watches))
        for write in data.draw(st.lists(self._sayable(writes), max_size=1)):
            self.comparison.execute(other, write)
        for execution in data.draw(st.lists(self._sayable(executions), max_size=1)):
            self.comparison.execute(session, execution)

    @rule(session=sessions)
    def depth(self, session: int) -> None:
        self.comparison.execute(session, Call("depth"))

    @precondition(lambda self: self.comparison.model.snapshots)
    @rule(session=sessions, politely=st.booleans())
    def leave(self, session: int, politely: bool) -> None:
        if politely:
            self.comparison.leave(session)
        else:
            self.comparison.disconnect(session)

    @invariant()
    def others_see_what_is_committed_and_nothing_else(self) -> None:
        self.comparison.check_committed()

    def teardown(self) -> None:
        self.comparison.driver.close()

    def _sayable(self, calls: st.SearchStrategy[Call]) -> st.SearchStrategy[Call]:
        return calls.filter(self.comparison.driver.can)

    def _depth(self, session: int) -> int:
        return self.comparison.model.session(session).depth()


def machine_of(open_driver: Callable[[], Driver]) -> type[SessionsMachine]:
    """Return the state machine of a driver, as Hypothesis runs it: a class without arguments."""

    class Machine(SessionsMachine):
        def __init__(self) -> None:
            super().__init__(open_driver)

    return Machine


def run_machine(open_driver: Callable[[], Driver], share: float = 1.0) -> None:
    """Run the state machine; ``share`` is how many of the profile's examples. How long each takes is of no matter."""
    examples = max(1, int(settings().max_examples * share))
    run_state_machine_as_test(
        machine_of(open_driver), settings=settings(max_examples=examples, stateful_step_count=STEPS, deadline=None)
    )


WEIGHTS: Final = {
    "put": 6,
    "get": 4,
    "delete": 4,
    "start": 5,
    "commit": 6,
    "rollback": 2,
    "keys": 1,
    "count": 1,
    "update": 4,
    "put_all": 1,
    "view": 0.5,
    "transact": 2,
    "watch": 1,
    "unwatch": 0.1,
    "execute": 1.5,
    "clear": 0.2,
    "reset": 0.1,
    "depth": 0.2,
}
"""How often each call is made in a walk: the more it matters, the more often."""

WITHIN: Final = ("put", "get", "delete", "update", "put_all", "keys", "count", "transact")


class Caller:
    """Random calls, the likelier the more often they matter."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def call(self) -> Call:
        """Return a call."""
        (method,) = self._random.choices(tuple(WEIGHTS), tuple(WEIGHTS.values()))
        return self._call(method)

    def _call(self, method: str) -> Call:
        random = self._random
        if method in ("get", "delete"):
            return Call(method, (self._key(),))
        if method == "put":
            return Call(method, self._entry())
        if method == "update":
            return Call(method, (self._key(), random.choice(UPDATES)))
        if method == "put_all":
            return Call(method, (tuple(self._entry() for _ in range(random.randint(1, 3))),))
        if method == "keys" and random.random() < 0.5:
            return Call(method, (random.choice(PREFIXES), self._key(), random.choice(LIMITS)))
        if method == "keys":
            return Call(method, (random.choice(PREFIXES), b"", NO_LIMIT))
        if method == "count":
            return Call(method, (random.choice(PREFIXES),))
        if method == "start":
            return Call(method, (random.random() < 0.2,))
        if method == "watch":
            return Call(method, (tuple(self._key() for _ in range(random.randint(1, 2))),))
        if method in ("transact", "execute"):
            return Call(method, (self._several(WITHIN if random.random() < 0.7 else ("delete",)),))
        if method == "view":
            return Call(method, (self._several(("get", "keys", "count") if random.random() < 0.5 else ("get",)),))
        return Call(method)

    def _several(self, methods: tuple[str, ...]) -> tuple[Call, ...]:
        return tuple(self._call(self._random.choice(methods)) for _ in range(self._random.randint(1, 3)))

    def _key(self) -> Key:
        return self._random.choice(KEYS)

    def _entry(self) -> tuple[Key, bytes]:
        return self._key(), self._random.choice(VALUES)


def random_walk(driver: Driver, seed: int, steps: int) -> None:
    """Let sessions do random things for a long time on one data set."""
    random = Random(seed)
    caller = Caller(random)
    comparison = Comparison(driver)
    with closing(driver):
        for step in range(steps):
            session = random.choice(SESSIONS)
            chance = random.random()
            if chance < 0.005:
                comparison.disconnect(session)
            elif chance < 0.01:
                comparison.leave(session)
            else:
                call = caller.call()
                while not driver.can(call):
                    call = caller.call()
                comparison.execute(session, call)
            if step % 8 == 0:
                comparison.check_committed()
