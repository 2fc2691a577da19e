"""A session over an engine that fails where a test says so, and how that has to end."""

import json
from collections.abc import Callable

import pytest

from kvs.application.session import EngineSession
from kvs.domain.commit import Committed
from kvs.domain.errors import KvsError
from tests.support.scripted_storage import ScriptedStorage
from tests.support.sessions import Bench

Use = Callable[[EngineSession], object]


class Setting:
    """A session over an engine that has a key, and can be told to misbehave."""

    def __init__(self) -> None:
        self.engine = ScriptedStorage()
        self.bench = Bench(self.engine)
        self.engine.put(b"k", b"old")
        self.session = self.bench.open()

    def fails(self, expected: type[KvsError], use: Use) -> None:
        """Assert the error that a command raises, that its message is safe to send, and the event in the log."""
        with pytest.raises(expected) as caught:
            use(self.session)
        assert type(caught.value) is expected
        assert "secret value" not in str(caught.value)
        assert caught.value.__cause__ is None
        (event,) = (json.loads(line) for line in self.bench.log.getvalue().splitlines())
        assert event["event"] == "engine_failed"
        assert event["level"] == "error"
        assert event["session"] == self.session.id

    def is_usable(self) -> None:
        """Assert that the session is outside any transaction, owes nothing, and works once the engine does."""
        self.engine.on.clear()
        assert self.session.depth == 0
        assert not self.session.expired
        assert [snapshot.closed for snapshot in self.engine.snapshots] == [1] * len(self.engine.snapshots)
        assert self.bench.budget.used_bytes == 0
        self.session.start()
        self.session.put(b"k", b"new")
        assert isinstance(self.session.commit(), Committed)
        assert self.session.get(b"k") == b"new"
        self.session.close()
        self.bench.assert_nothing_is_held()
