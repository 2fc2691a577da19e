"""Several sessions on a few keys, so that they collide: every reply is predicted by the model.

Two generators of the same commands. The state machine shrinks what it finds; the random walk is fifty times faster and
so goes much further.
"""

from collections.abc import Callable
from contextlib import closing
from random import Random

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

from kvs.testing.drivers import Driver
from kvs.testing.model import Model, agrees

KEYS = ("a", "ab", "abc", "b", "ba", "é")
PREFIXES = ("", "a", "ab", "b", "z", "é")
VALUES = ("1", "2", "", " two  words ", '"\\', "ü\t")
OBSERVER = 0
SESSIONS = (1, 2, 3)
STEPS = 40


class Comparison:
    """A driver and a model that are asked the same."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.model = Model()
        self.said: list[str] = []

    def execute(self, session: int, line: str) -> None:
        """Have both execute a line and assert that they agree."""
        self.said.append(f"{session}: {line}")
        predicted = self.model.execute(session, line)
        actual = self.driver.execute(session, line)
        assert agrees(actual, predicted), f"{actual} is not the predicted {predicted}, after {self.said[-60:]}"

    def disconnect(self, session: int) -> None:
        """Cut a session's connection in both."""
        self.said.append(f"{session}: (disconnected)")
        self.model.disconnect(session)
        self.driver.disconnect(session)

    def leave(self, session: int) -> None:
        """Have a session leave by EXIT."""
        self.said.append(f"{session}: EXIT")
        assert self.driver.execute(session, "EXIT") == {"status": "Ok"}
        self.model.disconnect(session)
        self.driver.disconnect(session)

    def check_depth(self, session: int) -> None:
        """Assert that INFO tells of as many frames as the model has."""
        assert self.driver.execute(session, "INFO")["result"]["session"]["depth"] == self.model.depth(session)

    def check_committed(self) -> None:
        """Assert that somebody outside any transaction sees exactly what was committed."""
        self.driver.check(len(self.model.transactions))
        self.execute(OBSERVER, "KEYS")
        self.execute(OBSERVER, "COUNT a")
        for key in KEYS:
            self.execute(OBSERVER, f"GET {key}")
        del self.said[-2 - len(KEYS) :]


sessions = st.sampled_from(SESSIONS)
keys = st.sampled_from(KEYS)
prefixes = st.sampled_from(PREFIXES)
values = st.sampled_from(VALUES)
writes = st.one_of(
    st.builds("PUT {} {}".format, keys, values),
    st.builds("DEL {}".format, keys),
)
reads = st.one_of(
    st.builds("GET {}".format, keys),
    st.builds("COUNT {}".format, prefixes),
    st.builds("KEYS {}".format, prefixes),
    st.builds("KEYS {} {}".format, prefixes, keys),
)
frames = st.sampled_from(("START", "START", "START READONLY", "COMMIT", "COMMIT", "ROLLBACK"))


class SessionsMachine(RuleBasedStateMachine):
    """The state machine.

    Few rules, each with many commands: Hypothesis likes to switch some rules off for a whole run, and nothing much
    happens without START, COMMIT, a read and a write.
    """

    def __init__(self, open_driver: Callable[[], Driver]) -> None:
        super().__init__()
        self.comparison = Comparison(open_driver())

    @initialize(data=st.dictionaries(keys, values, max_size=4))
    def fill(self, data: dict[str, str]) -> None:
        for key, value in data.items():
            self.comparison.execute(OBSERVER, f"PUT {key} {value}")

    @rule(session=sessions, line=st.one_of(reads, writes, frames))
    def command(self, session: int, line: str) -> None:
        self.comparison.execute(session, line)

    @rule(session=sessions, lines=st.lists(st.one_of(reads, frames), min_size=1, max_size=3), write=writes)
    def begin(self, session: int, lines: list[str], write: str) -> None:
        """Open a frame, look around, and write."""
        for line in ["START", *lines, write]:
            self.comparison.execute(session, line)

    @rule(session=sessions, other=sessions, lines=st.lists(writes, max_size=2))
    def finish(self, session: int, other: int, lines: list[str]) -> None:
        """Write something elsewhere, then commit every frame of a session: the outermost tells whether it conflicts."""
        for line in lines:
            self.comparison.execute(other, line)
        while self.comparison.model.depth(session):
            self.comparison.execute(session, "COMMIT")

    @rule(session=sessions)
    def info(self, session: int) -> None:
        self.comparison.check_depth(session)

    @precondition(lambda self: self.comparison.model.transactions)
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


def random_line(random: Random) -> str:
    """Return a line, the likelier the more often it matters."""
    verb = random.choices(
        ("PUT", "GET", "DEL", "START", "COMMIT", "ROLLBACK", "KEYS", "COUNT"), (6, 4, 4, 5, 6, 2, 1, 1)
    )[0]
    if verb == "PUT":
        return f"PUT {random.choice(KEYS)} {random.choice(VALUES)}"
    if verb in ("GET", "DEL"):
        return f"{verb} {random.choice(KEYS)}"
    if verb == "KEYS" and random.random() < 0.5:
        return f"KEYS {random.choice(PREFIXES)} {random.choice(KEYS)}"
    if verb == "START" and random.random() < 0.2:
        return "START READONLY"
    return f"{verb} {random.choice(PREFIXES)}" if verb in ("KEYS", "COUNT") else verb


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
                comparison.execute(session, random_line(random))
            if step % 8 == 0:
                comparison.check_committed()
