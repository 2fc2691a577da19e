"""All promises at once: sessions over the engine, with each outcome compared with that of the reference model."""

from typing import ClassVar

import pytest

from kvs.testing.cases.base import StorageCases
from kvs.testing.drivers import InProcessDriver
from kvs.testing.machine import every_call, random_walk, run_machine, without_records


class SessionCases(StorageCases):
    """Random calls of several sessions, whose outcomes do not depend on the engine.

    Attributes:
        share_of_examples: Share of the Hypothesis profile's examples that the state machine tries.
        walk_steps: Number of calls of a random walk. Lower both for an engine that is slow to open or to write.
    """

    share_of_examples: ClassVar[float] = 0.5
    walk_steps: ClassVar[int] = 10_000

    def test_every_reply_is_the_models(self) -> None:
        """Consistency and Commit: random calls have the outcomes that the model predicts; failures are shrunk."""
        can = every_call if self.records else without_records
        run_machine(lambda: InProcessDriver(self.open_storage()), self.share_of_examples, can)

    @pytest.mark.parametrize("seed", [10, 11])
    def test_a_long_random_walk_agrees_with_the_model(self, seed: int) -> None:
        """Consistency and Commit: thousands of calls on one data set, so that history grows."""
        can = every_call if self.records else without_records
        random_walk(InProcessDriver(self.open_storage()), seed, self.walk_steps, can)

    def test_a_random_walk_while_expiry_lags_agrees_with_the_model(self) -> None:
        """Expiry: what is due is deleted late, key by key or at once, and its deletion is a commit as any other."""
        if not self.records:
            pytest.skip("an engine that stores no records")
        random_walk(InProcessDriver(self.open_storage(), lazy=True), 12, self.walk_steps // 2)
