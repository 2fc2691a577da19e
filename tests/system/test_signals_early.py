"""Signals that come before the server listens: while its engine is opened, and to process 1 of a container."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine_control import EngineControl
from tests.support.harness import TIMEOUT_S, Server, polling

from .conftest import StartServer

WAYS = ["waits", "computes", "tries_again", "makes_an_error", "swallows", "leaves_a_thread"]
both_signals = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)


@pytest.fixture(scope="session")
def transport_flags() -> tuple[str, ...]:
    """Return no flags: no transport has a say in this."""
    return ()


@pytest.fixture(scope="session")
def engine_name() -> str:
    """Return the engine that takes its time to be opened."""
    return "loading"


@pytest.fixture
def namespace() -> tuple[str, ...]:
    """Return what to put before a command to make it process 1 of a namespace."""
    command = ("unshare", "--pid", "--fork", "--kill-child")
    try:
        reason = subprocess.run([*command, "true"], capture_output=True, text=True, check=False).stderr.strip()
    except OSError as error:
        reason = str(error)
    if reason and os.environ.get("TEST_STRACE") == "required":
        pytest.fail(reason)
    if reason:
        pytest.skip(f"no namespace can be had here: {reason}")
    return command


def child_of(pid: int) -> int:
    """Return the only child of a process."""
    for _ in polling("there is a child"):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        if children:
            return int(children[0])
    raise AssertionError


def assert_orderly(server: Server, number: signal.Signals) -> None:
    """Wait for the end, and assert that it was orderly, and said so."""
    assert server.wait_exit() == 0
    assert [event["event"] for event in server.events()] == ["stopping", "stopped"]
    assert server.events("stopping")[0]["signal"] == number.name
    assert server.events("stopped")[0]["exit_code"] == 0


def wait_asleep(server: Server) -> None:
    """Wait until the server is in its call: a signal just before it would be seen by Python only behind it."""
    status = Path(f"/proc/{server.pid}/stat")
    for _ in polling("the server waits"):
        if not status.exists() or status.read_text(encoding="ascii").rpartition(")")[2].split()[0] == "S":
            return


@pytest.mark.one_build
@both_signals
@pytest.mark.parametrize("way", WAYS)
def test_a_signal_ends_the_opening_of_any_engine(
    start_server: StartServer, engine: EngineControl, way: str, number: signal.Signals
) -> None:
    """At once, whatever it does, and closes what there is of it."""
    if way != "computes":
        engine.hold("loading")
    server = start_server(*engine.flags, "--storage-option", f"way={way}", env=engine.env, listens=False)
    if way != "computes":
        engine.wait_held()
        wait_asleep(server)
    else:
        engine.wait_for("loading")
    server.send_signal(number)
    assert_orderly(server, number)
    assert engine.names()[-1] == "let_go"
    assert ("close" in engine.names()) == (way == "swallows")


@pytest.mark.one_build
@both_signals
def test_process_1_of_a_container(
    namespace: tuple[str, ...], start_server: StartServer, engine: EngineControl, number: signal.Signals
) -> None:
    """The kernel drops its signals where there is no handler: there has to be one before the engine is opened."""
    engine.hold("loading")
    server = start_server(*engine.flags, env=engine.env, listens=False, before=namespace)
    engine.wait_held()
    os.kill(child_of(server.pid), number)
    assert_orderly(server, number)


@pytest.mark.one_build
def test_a_second_signal_ends_it_at_once(start_server: StartServer, engine: EngineControl) -> None:
    """If the engine does not come to an end."""
    engine.hold("loading")
    engine.hold("let_go")
    server = start_server(*engine.flags, env=engine.env, listens=False)
    engine.wait_held()
    server.send_signal(signal.SIGTERM)
    engine.wait_for("let_go")
    assert server.stop(signal.SIGTERM) == 1
    assert server.events() == []


@pytest.fixture
def loading_server(start_server: StartServer, engine: EngineControl) -> Iterator[Server]:
    """Return a server whose engine is being opened; at the end, let it go, and stop the server."""
    engine.hold("loading")
    server = start_server(*engine.flags, env=engine.env, listens=False)
    engine.wait_held()
    yield server
    engine.let_go()
    server.wait_for("listening")
    assert server.stop() == 0


@pytest.mark.one_build
@both_signals
@pytest.mark.parametrize("flag", ["--config", "--password-file"])
def test_a_signal_ends_the_reading_of_the_settings(tmp_path: Path, number: signal.Signals, flag: str) -> None:
    """They may come through a pipe into which nobody writes, as may a secret."""
    path = tmp_path / "kvs.toml"
    os.mkfifo(path, 0o600)
    command = [sys.executable, "-m", "kvs", flag, str(path), "--port", "0", "--log-level", "error"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            with path.open("wb"):  # waits until it is opened to be read
                process.send_signal(number)
                assert process.wait(TIMEOUT_S) == 0
        finally:
            process.kill()
        assert process.stderr is not None
        assert process.stderr.read() == b""


HARMLESS = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE]


@pytest.mark.one_build
@pytest.mark.parametrize("number", HARMLESS, ids=lambda number: number.name)
def test_other_signals_do_not_end_the_opening(loading_server: Server, number: signal.Signals) -> None:
    """They are taken note of when the server is there."""
    loading_server.send_signal(number)


@pytest.mark.parametrize("number", HARMLESS, ids=lambda number: number.name)
def test_other_signals_do_not_end_a_server(start_server: StartServer, number: signal.Signals) -> None:
    """A line in the log, and it goes on: open transactions, too."""
    server = start_server()
    client = server.connect()
    client.ok("START", "PUT a 1")
    server.send_signal(number)
    if number == signal.SIGHUP:
        server.wait_for("reloaded")
    elif number != signal.SIGPIPE:
        server.wait_for("signal_ignored", signal=number.name)
    client.ok("COMMIT")
    assert client.get("a") == "1"
    assert server.stop() == 0


def test_nohup_is_respected(start_server: StartServer) -> None:
    """What was ignored at the start stays ignored."""
    server = start_server(before=("nohup",))
    server.send_signal(signal.SIGHUP)
    server.send_signal(signal.SIGUSR1)
    server.wait_for("signal_ignored", signal="SIGUSR1")
    assert not server.events("reloaded")


@pytest.mark.parametrize("attempt", range(10))
def test_none_is_lost_between_two_handlers(start_server: StartServer, engine: EngineControl, attempt: int) -> None:
    """A signal that comes about when the engine has been opened is met by the loop, if not before."""
    engine.hold("loading")
    server = start_server(*engine.flags, env=engine.env, listens=False)
    engine.wait_held()
    engine.let_go()
    for _ in range(attempt * 1000):
        pass  # some other moment each time
    server.send_signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert [event["event"] for event in server.events() if event["event"] != "listening"] == ["stopping", "stopped"]


def test_stopped_and_continued(start_server: StartServer) -> None:
    """Nobody is served meanwhile, and everybody after."""
    # By SIGSTOP: of a process that no shell looks after, the kernel drops Ctrl-Z.
    server = start_server()
    client = server.connect()
    client.ok("PUT a 1")
    with server.paused():
        client.send("GET a")
        client.wait_sent()
        assert client.nothing_has_come()
    assert client.reply()["result"] == "1"


@pytest.mark.one_build
@both_signals
def test_a_command_as_process_1(namespace: tuple[str, ...], tmp_path: Path, number: signal.Signals) -> None:
    """It ends by a signal as anywhere else, from the moment on when the first module of kvs runs."""
    command = [*namespace, sys.executable, "-m", "kvs", "load", "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            child = child_of(process.pid)
            for _ in polling("it has a handler"):
                status = Path(f"/proc/{child}/status").read_text(encoding="ascii")
                if int(status.partition("SigCgt:")[2].split()[0], 16) >> (signal.SIGTERM - 1) & 1:
                    break
            os.kill(child, number)
            assert process.wait(TIMEOUT_S) in (128 + number, 1)  # 1: it was interrupted where it can say so
        finally:
            process.kill()
