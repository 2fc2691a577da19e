"""Several sessions on a few keys, so that they collide: what comes of every call is predicted by the model.

Two generators of the same calls. The state machine shrinks what it finds; the random walk is fifty times faster and so
goes much further.
"""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import combinations, product
from random import Random
from typing import Final, TypeAlias

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

from kvs.testing.calls import NO_LIMIT, Call, Update
from kvs.testing.drivers import Driver
from kvs.testing.model import Model

KEYS: Final = tuple(key.encode() for key in ("a", "ab", "abc", "b", "ba", "é"))
PREFIXES: Final = tuple(prefix.encode() for prefix in ("", "a", "ab", "b", "z", "é"))
VALUES: Final = tuple(value.encode() for value in ("1", "2", "", " two  words ", '"\\', "ü\t"))
LIMITS: Final = (1, 2, 3, NO_LIMIT)
UPDATES: Final = (
    Update("append", b"x"),
    Update("add", b"7"),
    Update("add", b"1"),  # which fails, too, where there is no number
    Update("replace", b"2"),
    Update("put_if_absent", b"1"),
    Update("remove"),
)

CALLS: Final[dict[str, tuple[Call, ...]]] = {
    "get": tuple(Call("get", (key,)) for key in KEYS),
    "put": tuple(Call("put", entry) for entry in product(KEYS, VALUES)),
    "delete": tuple(Call("delete", (key,)) for key in KEYS),
    "update": tuple(Call("update", about) for about in product(KEYS, UPDATES)),
    "put_all": tuple(
        Call("put_all", (tuple(zip(keys, (value, b"2"), strict=True)),))
        for keys, value in product(combinations(KEYS, 2), VALUES)
    ),
    "list": tuple(Call("keys", (prefix, b"", NO_LIMIT)) for prefix in PREFIXES),
    "page": tuple(Call("keys", about) for about in product(PREFIXES, KEYS, LIMITS)),
    "count": tuple(Call("count", (prefix,)) for prefix in PREFIXES),
    "clear": (Call("clear"),),
    "watch": tuple(Call("watch", (keys,)) for size in (1, 2) for keys in combinations(KEYS, size)),
    "unwatch": (Call("unwatch"),),
    "start": (*[Call("start", (False,))] * 3, Call("start", (True,))),
    "commit": (Call("commit"),),
    "rollback": (Call("rollback"),),
    "reset": (Call("reset"),),
    "depth": (Call("depth"),),
}
"""The single calls that are made, by their kind."""

READS: Final = ("get", "list", "page", "count")
WRITES: Final = ("put", "delete", "update", "put_all", "clear")
FRAMES: Final = ("start", "start", "commit", "commit", "rollback", "reset")

OBSERVER: Final = 0
SESSIONS: Final = (1, 2, 3)
STEPS: Final = 40
LOOK_AROUND: Final = (
    Call("keys", (b"", b"", NO_LIMIT)),
    Call("count", (b"",)),
    Call("count", (b"a",)),
    *CALLS["get"],
)

Can: TypeAlias = Callable[[Call], bool]
"""Tells whether there is a way to say a call; see :meth:`kvs.testing.drivers.Driver.can`."""


def anything(_: Call) -> bool:
    """Say yes to every call."""
    return True


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


def sampled(can: Can, *kinds: str) -> st.SearchStrategy[Call]:
    """Return calls of these kinds that can be said. To draw each argument by itself takes three times as long."""
    said = ([call for call in CALLS[kind] if can(call)] for kind in kinds)
    return st.one_of(*(st.sampled_from(calls) for calls in said if calls))


def several(calls: st.SearchStrategy[Call]) -> st.SearchStrategy[tuple[Call, ...]]:
    """Return calls that are made as one."""
    return st.lists(calls, min_size=1, max_size=4).map(tuple)


def units(can: Can) -> list[st.SearchStrategy[Call]]:
    """Return calls that make several others as one."""
    found = []
    for method, kinds in (("view", ("get",)), ("view", READS), ("transact", ("delete",)), ("transact", READS + WRITES)):
        if can(Call(method, (tuple(CALLS[kind][-1] for kind in kinds),))):
            found.append(st.tuples(several(sampled(anything, *kinds))).map(partial(Call, method)))
    return found


sessions = st.sampled_from(SESSIONS)


def machine_of(open_driver: Callable[[], Driver], can: Can = anything) -> type[RuleBasedStateMachine]:
    """Return the state machine of a driver, of what can be said to it, as Hypothesis runs it: without arguments.

    Few rules, each with many calls: Hypothesis likes to switch some rules off for a whole run, and nothing much happens
    without START, COMMIT, a read and a write.
    """
    reads, writes, frames = sampled(can, *READS), sampled(can, *WRITES), sampled(can, *FRAMES)

    class SessionsMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.comparison = Comparison(open_driver())

        @initialize(puts=st.lists(sampled(can, "put"), max_size=4))
        def fill(self, puts: list[Call]) -> None:
            self.comparison.execute(OBSERVER, *puts)

        @rule(session=sessions, call=st.one_of(reads, writes, frames, *units(can)))
        def call(self, session: int, call: Call) -> None:
            self.comparison.execute(session, call)

        @rule(session=sessions, looks=st.lists(st.one_of(reads, frames), min_size=1, max_size=3), write=writes)
        def begin(self, session: int, looks: list[Call], write: Call) -> None:
            """Open a frame, look around, and write: all of it at once."""
            self.comparison.execute(session, Call("start", (False,)), *looks, write)

        @rule(session=sessions, other=sessions, elsewhere=st.lists(writes, max_size=2))
        def finish(self, session: int, other: int, elsewhere: list[Call]) -> None:
            """Write elsewhere, then commit every frame of a session: the outermost tells whether it conflicts."""
            for write in elsewhere:
                self.comparison.execute(other, write)
            while self.comparison.model.session(session).depth():
                self.comparison.execute(session, Call("commit"))

        @rule(session=sessions, calls=sampled(can, "depth"))
        def depth(self, session: int, calls: Call) -> None:
            self.comparison.execute(session, calls)

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

    if not can(CALLS["watch"][0]):
        return SessionsMachine

    class WatchingMachine(SessionsMachine):
        @rule(
            session=sessions,
            watch=sampled(can, "watch", "watch", "unwatch"),
            other=sessions,
            elsewhere=st.lists(writes, max_size=1),
            calls=st.none() | several(st.one_of(reads, writes, *units(can))),
        )
        def watch(
            self, session: int, watch: Call, other: int, elsewhere: list[Call], calls: tuple[Call, ...] | None
        ) -> None:
            """Watch something, write elsewhere, and perhaps execute what depends on it."""
            self.comparison.execute(session, watch)
            for write in elsewhere:
                self.comparison.execute(other, write)
            if calls is not None:
                self.comparison.execute(session, Call("execute", (calls,)))

    return WatchingMachine


def run_machine(open_driver: Callable[[], Driver], share: float = 1.0, can: Can = anything) -> None:
    """Run the state machine; ``share`` is how many of the profile's examples. How long each takes is of no matter."""
    examples = max(1, int(settings().max_examples * share))
    run_state_machine_as_test(
        machine_of(open_driver, can), settings=settings(max_examples=examples, stateful_step_count=STEPS, deadline=None)
    )


WEIGHTS: Final = {
    "put": 6,
    "get": 4,
    "delete": 4,
    "start": 5,
    "commit": 6,
    "rollback": 2,
    "list": 3,
    "page": 1,
    "count": 2.5,
    "update": 3,
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
"""How often each kind of call is made in a walk: the more it matters, the more often."""


def random_call(random: Random) -> Call:
    """Return a call, the likelier the more often it matters."""
    (kind,) = random.choices(tuple(WEIGHTS), tuple(WEIGHTS.values()))
    if kind in CALLS:
        return random.choice(CALLS[kind])
    within: tuple[str, ...] = READS if kind == "view" else (*READS, *WRITES[:-1])
    if random.random() < 0.5 and kind != "execute":
        within = ("get",) if kind == "view" else ("delete",)  # which RESP can say, too
    calls = tuple(random.choice(CALLS[random.choice(within)]) for _ in range(random.randint(1, 3)))
    return Call(kind, (calls,))


def random_walk(driver: Driver, seed: int, steps: int) -> None:
    """Let sessions do random things for a long time on one data set."""
    random = Random(seed)
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
                call = random_call(random)
                while not driver.can(call):
                    call = random_call(random)
                comparison.execute(session, call)
            if step % 8 == 0:
                comparison.check_committed()
