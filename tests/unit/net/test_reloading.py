"""SIGHUP: everything is read again, in turn, and what cannot be used is reported and changes nothing."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import structlog
from structlog.testing import capture_logs

from kvs.adapters.inbound.net.reloading import Reloader, Reloading
from kvs.errors import CommandError
from kvs.notify import Notifier

TIMEOUT_S: Final = 60


def gives(*names: str) -> Reloader:
    """Return a reloader that changes something."""

    async def reload() -> list[str]:
        return list(names)

    return reload


def fails(error: Exception) -> Reloader:
    """Return a reloader that raises."""

    async def reload() -> list[str]:
        raise error

    return reload


def played(script: Callable[[], Awaitable[None]]) -> list[Any]:
    """Run a script, and return what was logged."""
    with capture_logs() as logged:
        asyncio.run(asyncio.wait_for(script(), TIMEOUT_S))
    return logged


async def reloaded(reloading: Reloading) -> None:
    """Wait until nothing is reloaded any more."""
    while reloading.active:  # noqa: ASYNC110  # its task is its own
        await asyncio.sleep(0)


def test_all_that_has_changed_is_told() -> None:
    """In one event."""

    async def script() -> None:
        reloading = Reloading({"a": gives("x"), "b": gives(), "c": gives("y", "z")}, structlog.get_logger())
        reloading.begin()
        await reloaded(reloading)

    assert played(script) == [{"event": "reloaded", "log_level": "info", "changed": ["x", "y", "z"]}]


def test_one_that_fails_does_not_stop_the_others() -> None:
    """An error that was to be expected is a sentence, any other has a traceback."""
    bug = ZeroDivisionError("a bug")

    async def script() -> None:
        reloaders = {"a": fails(CommandError("no such file")), "b": fails(bug), "c": gives("y")}
        reloading = Reloading(reloaders, structlog.get_logger())
        reloading.begin()
        await reloaded(reloading)

    assert played(script) == [
        {"event": "reload_failed", "log_level": "error", "what": "a", "reason": "no such file", "exc_info": None},
        {"event": "reload_failed", "log_level": "error", "what": "b", "reason": "a bug", "exc_info": bug},
        {"event": "reloaded", "log_level": "info", "changed": ["y"]},
    ]


def test_a_signal_during_a_reload_begins_another() -> None:
    """The first may have read the file before it was changed. Many signals begin no more than one."""
    began: list[int] = []

    async def script() -> None:
        go = asyncio.Event()

        async def reload() -> list[str]:
            began.append(len(began))
            await go.wait()
            return []

        reloading = Reloading({"a": reload}, structlog.get_logger())
        for _ in range(5):
            reloading.begin()
            await asyncio.sleep(0)
        assert began == [0]
        go.set()
        await reloaded(reloading)

    assert len(played(script)) == len(began) == 2


def test_it_ends_with_the_server(tmp_path: Path) -> None:
    """Also where a file does not answer; the manager is not told that the server is ready, for it stops."""
    told: list[str] = []

    async def script() -> None:
        async def reload() -> list[str]:
            await asyncio.Event().wait()
            raise AssertionError

        manager = tmp_path / "manager"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(str(manager))
            listening.setblocking(False)
            with closing(Notifier(str(manager))) as notifier:
                reloading = Reloading({"a": reload}, structlog.get_logger(), notifier)
                reloading.begin()
                reloading.begin()
                await asyncio.sleep(0)
                assert reloading.close()
                await asyncio.sleep(0)
                assert not reloading.active
                assert not reloading.close()
            with suppress(BlockingIOError):
                while True:
                    told.append(listening.recv(1000).decode().partition("=")[0])

    assert played(script) == []
    assert told == ["RELOADING"]
