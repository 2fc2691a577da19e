"""Random calls of several sessions on a few keys, so that they conflict; the model predicts the outcome of each.

There are two generators of calls. The state machine shrinks what it finds; the random walk is fifty times faster, and
so goes much further.
"""

from collections.abc import Callable, Mapping
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

from kvs.testing.calls import NO_LIMIT, Call, Update, needs_records
from kvs.testing.drivers import Driver
from kvs.testing.model import Model

KEYS: Final = tuple(key.encode() for key in ("a", "ab", "abc", "b", "ba", "é"))
PREFIXES: Final = tuple(prefix.encode() for prefix in ("", "a", "ab", "b", "z", "é"))
VALUES: Final = tuple(value.encode() for value in ("1", "2", "", " two  words ", '"\\', "ü\t"))
LIMITS: Final = (1, 2, 3, NO_LIMIT)
UPDATES: Final = (
    Update("append", b"x"),
    Update("add", b"7"),
    Update("add", b"1"),  # fails if the value is not a number
    Update("replace", b"2"),
    Update("put_if_absent", b"1"),
    Update("remove"),
    Update("expire", b"0"),  # deletes
    Update("expire", b"125"),
    Update("expire", b"500"),
    Update("persist"),
)
LIFETIMES_MS: Final = (0, 125, 250, 1000)
"""Fractions of a second that floating-point numbers have."""

PASSED_MS: Final = (125, 250, 1000)

CALLS: Final[dict[str, tuple[Call, ...]]] = {
    "get": tuple(Call("get", (key,)) for key in KEYS),
    "put": tuple(Call("put", entry) for entry in product(KEYS, VALUES)),
    "put_for": tuple(Call("put_for", about) for about in product(KEYS, (b"1",), LIFETIMES_MS)),
    "deadline": tuple(Call("deadline", (key,)) for key in KEYS),
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
"""Single calls, by kind."""

READS: Final = ("get", "list", "page", "count", "deadline")
WRITES: Final = ("put", "put_for", "delete", "update", "put_all", "clear")
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
"""Returns whether a call can be made; see :meth:`kvs.testing.drivers.Driver.can`."""


def every_call(_: Call) -> bool:
    """Return true."""
    return True


def without_records(call: Call) -> bool:
    """Return whether an engine that stores bytes only can make a call."""
    return not needs_records(call)


class Comparison:
    """Makes the same calls on a driver and on the model."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.model = Model(lazy=driver.lazy)
        self.calls: list[str] = []
        self._look_around = [call for call in LOOK_AROUND if driver.can(call)]

    def execute(self, session: int, *calls: Call) -> None:
        """Make calls on both, and assert that their outcomes agree."""
        self.calls += [f"{session}: {call!r}" for call in calls]
        predicted = [call.outcome(self.model.session(session)) for call in calls]
        actual = self.driver.execute_many(session, calls)
        for call, outcome, found in zip(calls, predicted, actual, strict=True):
            expected = self.driver.expected(call, outcome)
            assert found == expected, f"{found} is not the predicted {expected} of {call}, after {self.calls[-60:]}"

    def pass_time(self, passed_ms: int) -> None:
        """Let time pass for both."""
        if passed_ms:
            self.calls.append(f"({passed_ms} ms pass)")
            self.model.pass_time(passed_ms)
            self.driver.pass_time(passed_ms)

    def disconnect(self, session: int) -> None:
        """Cut the connection of a session, on both."""
        self.calls.append(f"{session}: (disconnected)")
        self.model.disconnect(session)
        self.driver.disconnect(session)

    def leave(self, session: int) -> None:
        """End a session in an orderly way, on both."""
        self.calls.append(f"{session}: (left)")
        self.model.disconnect(session)
        self.driver.leave(session)

    def check_committed(self) -> None:
        """Assert that a session outside any transaction sees exactly the committed data."""
        self.driver.check(self.model.snapshots)
        self.execute(OBSERVER, *self._look_around)
        del self.calls[-len(self._look_around) :]


class Numbered:
    """The calls of a kind by number. Unlike those of ``sampled_from``, they are not printed whole."""

    def __init__(self, kind: str, calls: list[Call]) -> None:
        self.calls = calls
        self._kind = kind

    def __call__(self, number: int) -> Call:
        return self.calls[number]

    def __repr__(self) -> str:
        return self._kind


def sampled(can: Can, *kinds: str) -> st.SearchStrategy[Call]:
    """Return possible calls of these kinds. Drawing each argument by itself takes three times as long."""
    possible = (Numbered(kind, [call for call in CALLS[kind] if can(call)]) for kind in kinds)
    return st.one_of(*(st.integers(0, len(each.calls) - 1).map(each) for each in possible if each.calls))


def several(calls: st.SearchStrategy[Call]) -> st.SearchStrategy[tuple[Call, ...]]:
    """Return the calls of one operation."""
    return st.lists(calls, min_size=1, max_size=4).map(tuple)


def operations(can: Can) -> list[st.SearchStrategy[Call]]:
    """Return possible operations: several calls run as one."""
    found = []
    for method, kinds in (("view", ("get",)), ("view", READS), ("transact", ("delete",)), ("transact", READS + WRITES)):
        if can(Call(method, (tuple(CALLS[kind][-1] for kind in kinds),))):
            found.append(st.tuples(several(sampled(every_call, *kinds))).map(partial(Call, method)))
    return found


sessions = st.sampled_from(SESSIONS)


def machine_of(open_driver: Callable[[], Driver], can: Can = every_call) -> type[RuleBasedStateMachine]:
    """Return the state machine for a driver and the calls it can make, as a class, which Hypothesis makes itself.

    It has few rules, each with many calls: Hypothesis often switches some rules off for a whole run, and little happens
    without START, COMMIT, a read and a write.
    """
    expires = can(CALLS["put_for"][0])
    moments = st.sampled_from((0, 0, *PASSED_MS) if expires else (0,))
    reads, writes, frames = sampled(can, *READS), sampled(can, *WRITES), sampled(can, *FRAMES)

    class SessionsMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.comparison = Comparison(open_driver())

        @initialize(puts=st.lists(sampled(can, "put"), max_size=4))
        def fill(self, puts: list[Call]) -> None:
            self.comparison.execute(OBSERVER, *puts)

        @rule(session=sessions, call=st.one_of(reads, writes, frames, *operations(can)))
        def call(self, session: int, call: Call) -> None:
            self.comparison.execute(session, call)

        @rule(session=sessions, looks=st.lists(st.one_of(reads, frames), min_size=1, max_size=3), write=writes)
        def begin(self, session: int, looks: list[Call], write: Call) -> None:
            """Open a frame, read, and write, in one round trip."""
            self.comparison.execute(session, Call("start", (False,)), *looks, write)

        @rule(session=sessions, other=sessions, elsewhere=st.lists(writes, max_size=2), moment=moments)
        def finish(self, session: int, other: int, elsewhere: list[Call], moment: int) -> None:
            """Write elsewhere, wait, then commit every frame of a session: the outermost may conflict."""
            for write in elsewhere:
                self.comparison.execute(other, write)
            self.comparison.pass_time(moment)
            while self.comparison.model.session(session).depth():
                self.comparison.execute(session, Call("commit"))

        @rule(session=sessions, calls=sampled(can, "depth"))
        def depth(self, session: int, calls: Call) -> None:
            self.comparison.execute(session, calls)

        @precondition(lambda _: expires)
        @rule(moment=moments)
        def wait(self, moment: int) -> None:
            self.comparison.pass_time(moment)

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
            moment=moments,
            calls=st.none() | several(st.one_of(reads, writes, *operations(can))),
        )
        def watch(
            self,
            session: int,
            watch: Call,
            other: int,
            elsewhere: list[Call],
            moment: int,
            calls: tuple[Call, ...] | None,
        ) -> None:
            """Watch something, write elsewhere, wait, and perhaps execute what depends on it."""
            self.comparison.execute(session, watch)
            for write in elsewhere:
                self.comparison.execute(other, write)
            self.comparison.pass_time(moment)
            if calls is not None:
                self.comparison.execute(session, Call("execute", (calls,)))

    return WatchingMachine


def run_machine(open_driver: Callable[[], Driver], share: float = 1.0, can: Can = every_call) -> None:
    """Run the state machine on a share of the profile's examples, without a deadline for each."""
    examples = max(1, int(settings().max_examples * share))
    run_state_machine_as_test(
        machine_of(open_driver, can), settings=settings(max_examples=examples, stateful_step_count=STEPS, deadline=None)
    )


WEIGHTS: Final = {
    "put": 6,
    "get": 4,
    "put_for": 3,
    "deadline": 0.5,
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
"""How often each kind of call is made in a walk, relative to the others."""


LAZY_WEIGHTS: Final = {
    **WEIGHTS,
    "put_for": 12,
    "list": 0.2,
    "page": 0.1,
    "count": 0.3,
    "view": 0.3,
    "transact": 2,
    "execute": 3,
}
"""The same while expiry lags: few calls about ranges, which end that."""


def random_call(random: Random, weights: Mapping[str, float] = WEIGHTS) -> Call:
    """Return a call; kinds with a larger weight are likelier."""
    (kind,) = random.choices(tuple(weights), tuple(weights.values()))
    if kind in CALLS:
        return random.choice(CALLS[kind])
    within: tuple[str, ...] = READS if kind == "view" else (*READS, *WRITES[:-1])
    if weights is LAZY_WEIGHTS and random.random() < 0.6:
        within = ("get", "deadline") if kind == "view" else ("get", "get", "put", "put_for", "delete", "update")
    elif random.random() < 0.5 and kind != "execute":
        within = ("get",) if kind == "view" else ("delete",)  # RESP has these operations, too
    calls = tuple(random.choice(CALLS[random.choice(within)]) for _ in range(random.randint(1, 3)))
    return Call(kind, (calls,))


def random_walk(driver: Driver, seed: int, steps: int, can: Can = every_call) -> None:
    """Make random calls of several sessions on one data set, of those that can be made."""
    random = Random(seed)
    expires = driver.can(CALLS["put_for"][0]) and can(CALLS["put_for"][0])
    weights, pause = (LAZY_WEIGHTS, 50) if driver.lazy else (WEIGHTS, 8)
    comparison = Comparison(driver)
    with closing(driver):
        for step in range(steps):
            session = random.choice(SESSIONS)
            chance = random.random()
            if chance < 0.005:
                comparison.disconnect(session)
            elif chance < 0.01:
                comparison.leave(session)
            elif chance < 0.08 and expires:
                comparison.pass_time(random.choice(PASSED_MS))
            else:
                call = random_call(random, weights)
                while not (driver.can(call) and can(call)):
                    call = random_call(random, weights)
                comparison.execute(session, call)
            if step % pause == 0:
                comparison.check_committed()
