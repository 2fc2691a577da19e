"""What the service manager is told, over real sockets."""

import asyncio
import io
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvs.adapters.inbound.net.heartbeat import Heartbeat
from kvs.logs import make_logger
from kvs.notify import Notifier, open_notifier
from tests.support.waiting import TIMEOUT_S

pytestmark = [
    pytest.mark.one_build,
    pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here"),
]


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """Return the address of a service manager, and its socket."""
    if request.param == "abstract" and not Path("/proc/net/unix").exists():
        pytest.skip("abstract sockets are Linux's")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT_S)
        address = f"@kvs-test-{os.getpid()}-{id(sock)}" if request.param == "abstract" else str(tmp_path / "notify")
        sock.bind("\0" + address[1:] if request.param == "abstract" else address)
        yield address, sock


def test_messages(manager: tuple[str, socket.socket]) -> None:
    """One datagram each, to either kind of socket."""
    address, sock = manager
    notifier = Notifier(address, 1.0)
    before_us = time.monotonic_ns() // 1000
    notifier.ready()
    notifier.reloading()
    notifier.alive()
    notifier.stopping()
    assert sock.recv(1000) == b"READY=1"
    reloading, monotonic = sock.recv(1000).decode().splitlines()
    assert reloading == "RELOADING=1"
    assert before_us <= int(monotonic.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert [sock.recv(1000), sock.recv(1000)] == [b"WATCHDOG=1", b"STOPPING=1"]
    notifier.close()
    notifier.ready()


def test_a_status_follows_the_log(manager: tuple[str, socket.socket]) -> None:
    """And is one line, whatever is in it; other events are none, and the log is what it was."""
    address, sock = manager
    notifier = Notifier(address)
    stream = io.StringIO()
    log = make_logger("info", "json", stream, notifier.see)
    log.info("loading", keys=1234, journal_rows=5, bytes=99)
    log.info("client_connected", peer="127.0.0.1:1")
    log.warning("lead_lost", reason="gone\nREADY=1")
    assert sock.recv(1000) == b"STATUS=Loading: keys 1234, journal_rows 5"
    assert sock.recv(1000) == b"STATUS=The lead is lost: reason gone READY=1"
    assert stream.getvalue().count("\n") == 3
    assert '"bytes": 99' in stream.getvalue()
    notifier.close()


def test_a_manager_that_does_not_read_or_is_gone(manager: tuple[str, socket.socket]) -> None:
    """Holds nobody up."""
    address, sock = manager
    notifier = Notifier(address)
    for _ in range(10_000):
        notifier.ready()
    sock.close()
    notifier.stopping()
    notifier.close()


def test_without_a_manager_nothing_is_sent() -> None:
    """Nor for an address of a kind that is not known."""
    for address in ("", "vsock:2:1234", "relative"):
        notifier = Notifier(address, 1.0)
        notifier.ready()
        notifier.alive()
        notifier.close()


@pytest.mark.parametrize(
    ("usec", "pid", "watchdog_s"),
    [
        ("30000000", "", 30.0),
        ("30000000", "ours", 30.0),
        ("30000000", "1", 0.0),
        ("", "", 0.0),
        ("x", "", 0.0),
        ("-5", "", 0.0),
    ],
)
def test_what_the_environment_says(usec: str, pid: str, watchdog_s: float) -> None:
    """It is taken out of there: no child is to tell the manager anything."""
    pid = str(os.getpid()) if pid == "ours" else pid
    environment = {"NOTIFY_SOCKET": "", "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid, "OTHER": "1"}
    assert open_notifier(environment).watchdog_s == watchdog_s
    assert environment == {"OTHER": "1"}


def test_signs_of_life_come_from_a_loop_that_turns_and_is_well(tmp_path: Path) -> None:
    """None while it is not well."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        notifier = Notifier(str(tmp_path / "notify"), 0.002)
        answers = [True, False, False, True]

        async def turn() -> None:
            ended = asyncio.Event()

            def is_well() -> bool:
                if answers:
                    return answers.pop(0)
                ended.set()
                return False

            Heartbeat(asyncio.get_running_loop(), notifier, is_well).start()
            await asyncio.wait_for(ended.wait(), TIMEOUT_S)

        asyncio.run(turn())
        assert [sock.recv(100), sock.recv(100)] == [b"WATCHDOG=1"] * 2
        with pytest.raises(BlockingIOError):
            sock.recv(100)
        notifier.close()


def test_no_heartbeat_that_nobody_waits_for() -> None:
    """So the loop has no timer for it."""

    async def start() -> None:
        Heartbeat(asyncio.get_running_loop(), Notifier(), lambda: pytest.fail("asked")).start()

    asyncio.run(start())
