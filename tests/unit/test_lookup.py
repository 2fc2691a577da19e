"""Names are looked up beside everything else, however long the system takes."""

import asyncio
import socket
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, Final

import pytest

from kvs import lookup
from kvs.adapters.inbound.net import upstream
from kvs.lookup import Found, Lookups
from tests.support.waiting import TIMEOUT_S

pytestmark = pytest.mark.one_build

NAME: Final = "kvs.example"
FOUND: Final[list[Found]] = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 7))]


class Names:
    """A system that looks up names when the test says so.

    Attributes:
        asked: Gets each name that is looked up.
        answering: Set to have it answer.
        failure: What it raises instead.
    """

    def __init__(self) -> None:
        self.asked = SimpleQueue[str]()
        self.answering = Event()
        self.failure: Exception | None = None
        self._real = socket.getaddrinfo

    def look_up(self, host: str, port: int, **options: Any) -> Any:
        if options.get("flags"):
            return self._real(host, port, **options)
        self.asked.put(host)
        self.answering.wait()
        if self.failure is not None:
            raise self.failure
        return FOUND


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """Return a system that is asked in place of this one."""
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.look_up)
    yield names
    names.answering.set()


def test_an_address_needs_no_lookup(names: Names) -> None:
    """It is known at once."""
    found = Lookups().begin("127.0.0.1", 7)
    assert found.done()
    assert found.result()[0][4] == ("127.0.0.1", 7)
    assert names.asked.empty()


def test_a_name_that_takes_long_is_not_looked_up_again(names: Names) -> None:
    """Who asks again meanwhile waits for the same answer; who has got it forgets it."""
    lookups = Lookups()
    first = lookups.begin(NAME, 7)
    assert lookups.begin(NAME, 7) is first
    assert lookups.begin("other.example", 7) is not first
    names.answering.set()
    assert first.result(TIMEOUT_S) == FOUND
    assert lookups.begin(NAME, 7) is first
    lookups.forget(NAME, 7)
    again = lookups.begin(NAME, 7)
    assert again is not first
    assert again.result(TIMEOUT_S) == FOUND


def test_an_answer_that_came_too_late_counts_for_a_while(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a name that takes longer than anyone waits would never be known."""
    lookups = Lookups()
    first = lookups.begin(NAME, 7)
    names.answering.set()
    first.result(TIMEOUT_S)
    assert lookups.begin(NAME, 7) is first
    monkeypatch.setattr(lookup, "FRESH_S", 0.0)
    assert lookups.begin(NAME, 7) is not first


@pytest.mark.parametrize("failure", [socket.gaierror("unknown"), UnicodeError("label too long")])
def test_a_name_that_is_not_known_is_looked_up_again(names: Names, failure: Exception) -> None:
    """It may be known by then."""
    names.failure = failure
    names.answering.set()
    lookups = Lookups()
    first = lookups.begin(NAME, 7)
    assert isinstance(first.exception(TIMEOUT_S), OSError)
    assert lookups.begin(NAME, 7) is not first


def test_a_loop_is_not_held_up(names: Names) -> None:
    """Neither its pool of threads, nor its end; and who gives up leaves the lookup to others."""

    async def dial_for_a_moment() -> str:
        loop, lookups = asyncio.get_running_loop(), Lookups()
        dials = [loop.create_task(upstream.dial(NAME, 7, lookups)) for _ in range(100)]
        await asyncio.wait(dials[:1], timeout=0.01)
        for dial in dials[1:]:
            dial.cancel()
        await asyncio.wait(dials[1:])
        assert names.asked.get() == NAME
        assert names.asked.empty()
        assert not dials[0].done()
        dials[0].cancel()
        return await loop.run_in_executor(None, lambda: "served")

    served = SimpleQueue[str]()
    running = Thread(target=lambda: served.put(asyncio.run(dial_for_a_moment())), daemon=True)
    running.start()
    running.join(TIMEOUT_S)
    assert not running.is_alive()
    assert served.get_nowait() == "served"
