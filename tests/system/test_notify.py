"""A server under a service manager, whose part is played by a real socket."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine_control import EngineControl
from tests.support.waiting import TIMEOUT_S

from .conftest import StartServer

READY, STOPPING, ALIVE = "READY=1", "STOPPING=1", "WATCHDOG=1"


class Manager:
    """Takes what a server tells.

    Args:
        path: Where its socket is to be.
    """

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(TIMEOUT_S)
        self.env = {"NOTIFY_SOCKET": str(path)}

    def next(self, *ignored: str) -> str:
        """Wait for the next message that is none of these, and return it."""
        while True:
            message = self._socket.recv(1000).decode()
            if message not in ignored:
                return message

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """Return a service manager."""
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


@pytest.fixture(scope="session")
def transport_flags() -> tuple[str, ...]:
    """Return no flags: no transport has a say in this."""
    return ()


@pytest.fixture(scope="session")
def engine_name() -> str:
    """Return the engine that takes its time to be opened."""
    return "loading"


def test_a_life(start_server: StartServer, manager: Manager) -> None:
    """It begins when clients can connect; a reload is told of; and so is the stop, as soon as it begins."""
    server = start_server(env=manager.env)
    assert manager.next() == READY
    assert manager.next() == f"STATUS=Serving: host 127.0.0.1, port {server.port}"
    server.send_signal(signal.SIGHUP)
    assert manager.next().startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert manager.next() == READY
    server.send_signal(signal.SIGTERM)
    assert sorted([manager.next(), manager.next()]) == ["STATUS=Stopping: clients 0", STOPPING]
    assert server.wait_exit() == 0


def test_signs_of_life(start_server: StartServer, manager: Manager) -> None:
    """They come again and again, for as long as it runs."""
    server = start_server(env=manager.env | {"WATCHDOG_USEC": "20000"})
    others = [manager.next(ALIVE), manager.next(ALIVE)]
    assert others[0] == READY
    assert [manager.next() for _ in range(5)] == [ALIVE] * 5
    server.send_signal(signal.SIGTERM)
    assert sorted([manager.next(ALIVE), manager.next(ALIVE)]) == ["STATUS=Stopping: clients 0", STOPPING]


def test_a_stop_while_it_is_loading(start_server: StartServer, engine: EngineControl, manager: Manager) -> None:
    """It is never ready then."""
    engine.hold("loading")
    server = start_server(*engine.flags, env=engine.env | manager.env, listens=False)
    engine.wait_held()
    server.send_signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert sorted([manager.next(), manager.next()]) == ["STATUS=Stopping: clients 0", STOPPING]
