"""The loop of the README that retries a transaction: it loses no update, and never commits half a transaction."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Final

import pytest
import redis

from tests.documents.markdown import document
from tests.support.harness import Server

pytestmark = pytest.mark.one_build

Transact = Callable[[Callable[[Any], object]], object]
DEFINITION: Final = "def transact(operation):"


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a server."""
    with Server() as server:
        yield server


@pytest.fixture
def other(server: Server) -> Iterator[Any]:
    """Return another client."""
    with closing(redis.Redis(port=server.port)) as client:
        yield client


def transact_of_readme(port: int) -> Transact:
    """Return the function as the README defines it, for a server on another port."""
    (code,) = (block.text for block in document("README.md").blocks if DEFINITION in block.text)
    names: dict[str, Any] = {}
    exec(code.rpartition("\n\n\n")[0].replace("4000", str(port)), names)  # noqa: S102  # without the call
    transact: Transact = names["transact"]
    return transact


class TestRetryLoop:
    """With another client that interferes."""

    def test_a_conflict_is_retried(self, server: Server, other: Any) -> None:
        seen = []

        def add_ten(tx: Any) -> None:
            seen.append(int(tx.get("n") or 0))
            if len(seen) < 3:
                other.incr("n")
            tx.set("n", seen[-1] + 10)

        transact_of_readme(server.port)(add_ten)
        assert seen == [0, 1, 2]
        assert other.get("n") == b"12"

    def test_a_lost_connection_leaves_nothing(self, server: Server, other: Any) -> None:
        def lose_connection(tx: Any) -> None:
            tx.set("before", "1")
            other.client_kill_filter(_id=str(tx.client_id()))
            tx.set("after", "1")

        with pytest.raises(redis.ConnectionError):
            transact_of_readme(server.port)(lose_connection)
        assert other.keys() == []

    def test_another_error_is_raised(self, server: Server, other: Any) -> None:
        def fail(tx: Any) -> None:
            tx.set("k", "1")
            tx.incr("k", "x")

        with pytest.raises(redis.ResponseError, match="not an integer"):
            transact_of_readme(server.port)(fail)
        assert other.keys() == []
