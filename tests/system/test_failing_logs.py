"""A log that cannot be written changes nothing: replies, effects and exit codes are those of a server whose log works.

Each scenario provokes events, and returns what clients and the one who stops the server could see. It is played with a
log that is read, and then with logs that fail in every way there is. The scenarios together provoke every event that
the source can log: the events are found there, so a new one without a scenario fails a test.
"""

import ast
import os
import pty
import resource
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest

import kvs
from tests.support.engine_control import EngineControl
from tests.support.harness import ENGINES, OK, PONG, Client, Server, polling

from .conftest import FULL_SCALE

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the port of a server is found in /proc")

BIG_BYTES: Final = 8 << 20
SMALL_BUFFER_BYTES: Final = 4096

NOT_PROVOKED: Final = {
    **dict.fromkeys(
        (
            *("standing_by", "standby", "leading", "lead_lost", "clock_differs", "clock_agrees"),
            *(
                "checkpoint_damaged",
                "checkpoint_failed",
                "etcd_unavailable",
                "etcd_files_unusable",
                "etcd_full",
                "etcd_has_room",
                "etcd_defragmented",
            ),
            *("etcd_not_defragmented", "checkpoint_written", "following", "not_following", "replica_discarded"),
            *("client_relayed", "leader_unreachable", "users_file_unused", "users_unreadable"),
        ),
        "takes a cluster of etcd and a leader",
    ),
    "authentication_failed": "takes a user with a secret",
    "reload_failed": "takes a file that is read again",
    "client_failed": "takes a bug of the server",
    **dict.fromkeys(
        ("admin_listening", "admin_login", "admin_login_failed", "transaction_aborted"),
        "takes an admin port, which only the log tells: see test_admin_port.py",
    ),
    "client_not_secured": "takes certificates: see test_tls",
    "client_proxied": "takes a load balancer: see test_proxied",
    "clock_behind": "takes a wall clock that is set back",
    "clock_followed": "takes a wall clock that is set forward",
    "database_upgraded": "takes a directory of version 0.1.0",
    "loading": "takes a start of more than a second",
    "log_events_dropped": "takes a log that fails and works again: see test_a_log_that_works_again",
}


@dataclass
class Stage:
    """Where a scenario is played.

    Attributes:
        directory: For its files.
        engine: Controls the engine, if the scenario has asked for one that is controlled.
    """

    directory: Path
    engine: EngineControl | None = None
    server: Server = field(init=False)

    def wait_for_server(self, client: Client) -> None:
        """Wait until the server has taken in all that has happened to it."""
        assert client.ask("PING") == PONG


Scenario = Callable[[Stage], list[Any]]


@dataclass(frozen=True)
class Played:
    """How a scenario is played: the flags of its server, and where its engine is held up when it is opened."""

    play: Scenario
    flags: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    engine: str = ""
    held: str = ""
    open_files: tuple[str, ...] = ()
    expect: tuple[str, ...] = ()


def everyday(stage: Stage) -> list[Any]:
    """Clients come, are refused, speak other protocols, leave in the middle of a tick; SIGTERM."""
    server = stage.server
    seen: list[Any] = []
    staying, leaving = server.connect(), server.connect()
    seen.append([staying.ask("PING"), leaving.ask("PUT a 1")])
    seen.append(server.connect().rest())  # one too many
    with server.paused():
        staying.send("PUT tick 1", "GET tick")
        leaving.send("PUT b 2", "EXIT")
        leaving.reset()
        staying.wait_sent()
    seen.append(staying.replies(2))
    seen.append(staying.ask("PING"))
    openings = (
        b"PUT /x HTTP/1.1\nGET /x\n",
        b"\x16\x03\x01\nPING\n",
        b"Host: x\nPUT evil 1\n",
        b"*1\r\n$x\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    )
    seen += [answer_when_there_is_room(server, opening) for opening in openings]
    seen.append([staying.ask(f"GET {key}") for key in ("a", "b", "tick", "evil", "/x")])
    staying.send("START", "PUT a 9")
    staying.replies(2)
    for number in (signal.SIGHUP, signal.SIGUSR1):
        server.send_signal(number)
        seen.append(staying.ask("PING"))
    server.send_signal(signal.SIGTERM)
    seen.append(staying.rest())
    staying.close()
    seen.append(server.wait_exit())
    return seen


def answer_when_there_is_room(server: Server, opening: bytes) -> bytes:
    """Return all that a client is sent, which is let in once those that have left are not counted any more."""
    for _ in polling("there is room"):
        with Client(server.host, server.port) as client:
            client.send_raw(opening)
            answer = client.raw_rest()
            if b'"limit"' not in answer:
                return answer
    raise AssertionError


def crowd(stage: Stage) -> list[Any]:
    """Many clients come and go, which is more log than a pipe holds; SIGINT."""
    server = stage.server
    seen: list[Any] = []
    for number in range(300):
        with Client(server.host, server.port) as client:
            seen.append(client.ask(f"PUT k{number} v"))
    seen.append(server.connect().ask("COUNT"))
    seen.append(server.stop(signal.SIGINT))
    return seen


def stalled(stage: Stage) -> Client:
    """Return a client that has been sent more than it takes."""
    server = stage.server
    other = server.connect()
    other.ok("PUT big " + "x" * BIG_BYTES)
    client = server.connect(receive_buffer_bytes=SMALL_BUFFER_BYTES)
    client.send("GET big", "GET big")
    for _ in polling("the server holds replies for it"):
        if other.info("server")["clients_bytes"] > 1 << 20:
            break
    other.close()
    return client


def dropping(stage: Stage) -> list[Any]:
    """A client that does not read is dropped, and others are served on."""
    server = stage.server
    stalled(stage)
    other = server.connect()
    for _ in polling("the client is dropped"):
        if other.info("server")["clients_bytes"] < 1 << 20:
            break
    return [other.ask("PING"), server.stop()]


def draining(stage: Stage) -> list[Any]:
    """A drain that is cut short by its timeout."""
    stalled(stage)
    return [stage.server.stop()]


def stopping_twice(stage: Stage) -> list[Any]:
    """A drain that is cut short by a second signal."""
    server = stage.server
    idle = server.connect()
    stage.wait_for_server(idle)
    stalled(stage)
    server.send_signal(signal.SIGTERM)
    seen: list[Any] = [idle.rest()]  # so the first has been taken in
    seen.append(server.stop(signal.SIGTERM))
    return seen


def compaction(stage: Stage) -> list[Any]:
    """A table vanishes in the middle of a compaction: the server gives up."""
    server = stage.server
    client = server.connect()
    path = stage.directory / "kvs.db"
    seen: list[Any] = [client.ask(f"PUT k{number} " + "v" * 4000) for number in range(300)]
    for _ in polling("the journal is compacted"):
        with closing(sqlite3.connect(path)) as connection:
            if connection.execute("SELECT count(*) FROM entries").fetchone()[0]:
                break
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA busy_timeout = 10000")
        connection.execute("DROP TABLE entries")
    with suppress(OSError, AssertionError):  # it may give up at any of these
        for number in range(3000):
            client.ask(f"PUT k{number} " + "v" * 4000)
    seen.append(server.wait_exit())
    return seen


def failing_engine(stage: Stage) -> list[Any]:
    """An engine breaks its contract, call by call, and then fails for good."""
    server, engine = stage.server, stage.engine
    assert engine is not None
    client = server.connect()
    seen: list[Any] = []
    for call, line in (("get", "GET a"), ("put", "PUT a 1"), ("scan", "KEYS"), ("commit", "COMMIT")):
        if line == "COMMIT":
            client.ok("START", "PUT a 2")
        engine.answer(call, "raise_bug")
        seen.append(client.ask(line))
        engine.answer(call, "go")
        seen.append(client.ask("GET a"))
    engine.answer("snapshot.close", "raise_bug")
    client.send("START", "ROLLBACK", "GET a")
    seen.append(client.replies(3))
    engine.answer("get", "raise_later")
    seen.append(client.ask("GET a"))
    engine.answer("get", "go")
    seen.append(client.ask("GET a"))
    engine.answer("sync", "raise_bug")
    client.send("PUT lost 1")
    client.wait_ended()
    seen.append(server.wait_exit())
    return seen


def hanging_engine(stage: Stage) -> list[Any]:
    """An engine does not come back from a call."""
    server, engine = stage.server, stage.engine
    assert engine is not None
    engine.hold("put")
    server.connect().send("PUT a 1")
    engine.wait_held()
    return [server.stop()]


def out_of_descriptors(stage: Stage) -> list[Any]:
    """There is none left for another client, and then there is."""
    server = stage.server
    first = server.connect()
    stage.wait_for_server(first)
    _, hard = limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (0, hard))
    waiting = server.connect()
    waiting.send("PING")
    leaving = [first.ask("PING") for _ in range(20)]
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    return [leaving, waiting.reply(), server.stop()]


def stopped_while_opening(stage: Stage) -> list[Any]:
    """A signal comes before it listens."""
    assert stage.engine is not None
    stage.engine.wait_held()
    return [stage.server.stop()]


def beyond_loopback(stage: Stage) -> list[Any]:
    """It listens on all addresses."""
    return [stage.server.connect().ask("PING"), stage.server.stop()]


def auditing(stage: Stage) -> list[Any]:
    """The audit log cannot be written, and then it can."""
    server = stage.server
    client = server.connect()
    seen: list[Any] = [client.ask("PUT a 1")]
    for _ in polling("the audit log has failed"):
        if client.info("server")["audit_log_failing"]:
            break
    path = stage.directory / "logs" / "audit"
    path.parent.mkdir()
    server.send_signal(signal.SIGUSR1)
    for _ in polling("the audit log is written"):
        if path.exists() and "connected" in path.read_text(encoding="ascii"):
            break
    seen += [client.ask("GET a"), server.stop()]
    return seen


SCENARIOS: Final = {
    "everyday": Played(
        everyday,
        flags=("--max-clients", "2", "--storage", "memory", "--data-dir", "unused"),
        env=(("KVS_NO_SUCH_SETTING", "1"), ("KVS_PORT", "tcp://10.0.0.1:4000")),
    ),
    "crowd": Played(crowd),
    "dropping": Played(dropping, flags=("--output-timeout-s", "0.3")),
    "draining": Played(draining, flags=("--drain-timeout-s", "0.2")),
    "stopping twice": Played(stopping_twice, flags=("--drain-timeout-s", "1000", "--output-timeout-s", "0")),
    "compaction": Played(
        compaction,
        flags=("--storage", "sqlite", "--data-dir", ".", "--storage-option", "max_journal_bytes=1MiB"),
        expect=("compaction_failed", "sync_failed"),
    ),
    "failing engine": Played(failing_engine, engine="watched", expect=("engine_failed", "sync_failed", "unexpected")),
    "hanging engine": Played(
        hanging_engine, flags=("--drain-timeout-s", "0.1"), engine="blocking", expect=("engine_hung",)
    ),
    "out of descriptors": Played(out_of_descriptors, open_files=("-n", "100"), expect=("accept_failed",)),
    "stopped while opening": Played(stopped_while_opening, engine="loading", held="loading"),
    "auditing": Played(auditing, flags=("--audit-log", "./logs/audit")),
    "beyond loopback": Played(beyond_loopback, flags=("--host", "0.0.0.0", "--protected-mode", "false")),
}


# Logs that fail.


@contextmanager
def broken_pipe() -> Iterator[int]:
    """A pipe whose reader is gone: EPIPE."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@contextmanager
def full_disk() -> Iterator[int]:
    """ENOSPC."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


@contextmanager
def dead_terminal() -> Iterator[int]:
    """A terminal that was closed: EIO."""
    leader, follower = pty.openpty()
    os.close(leader)
    yield follower
    os.close(follower)


@contextmanager
def unread_pipe() -> Iterator[int]:
    """A pipe that is full and that nobody reads: a write never returns."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    yield writing
    os.close(writing)
    os.close(reading)


@contextmanager
def closed() -> Iterator[int]:
    """Standard error is not open at all."""
    yield -1


FAILURES: Final = {
    "broken pipe": broken_pipe,
    "unread pipe": unread_pipe,
    "full disk": full_disk,
    "dead terminal": dead_terminal,
    "closed": closed,
}


def play(
    name: str, directory: Path, flags: tuple[str, ...] = (), stderr: int | None = None
) -> tuple[list[Any], Server]:
    """Play a scenario; return what was seen, and the server, which has ended."""
    played = SCENARIOS[name]
    stage = Stage(directory)
    env = dict(played.env)
    arguments = [
        str(directory / flag) if flag == "." or flag.startswith("./") else flag for flag in (*played.flags, *flags)
    ]
    with ExitStack() as stack:
        if played.engine:
            stage.engine = stack.enter_context(EngineControl(ENGINES, os.environ.get("PYTHONPATH"), played.engine))
            stage.engine.hold(played.held)
            arguments += stage.engine.flags
            env |= stage.engine.env
        server = stage.server = Server(
            *arguments,
            env=env,
            open_files=played.open_files,
            expect=played.expect,
            listens=not played.held,
            stderr=stderr,
        )
        stack.enter_context(server)
        return played.play(stage), server


def chosen() -> list[tuple[str, str, str]]:
    """Return which scenario to play with which failure and transport: all, or those that differ."""
    every = product(SCENARIOS, FAILURES, ("auto", "asyncio"))
    if FULL_SCALE:
        return list(every)
    return [
        (name, failure, transport)
        for name, failure, transport in every
        if name == "everyday" or (failure in ("broken pipe", "unread pipe") and transport == "auto")
    ]


@pytest.fixture(scope="module")
def seen_with_a_log(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[list[Any], set[str]]]:
    """Return what is seen in a scenario whose log is read, and which events are in that; each is played once."""
    known: dict[tuple[str, str], tuple[list[Any], set[str]]] = {}

    def seen(name: str, transport: str) -> tuple[list[Any], set[str]]:
        if (name, transport) not in known:
            outcome, server = play(name, tmp_path_factory.mktemp("logged"), ("--transport", transport))
            known[name, transport] = outcome, {event["event"] for event in server.events()}
        return known[name, transport]

    return seen


@pytest.mark.one_build  # a log that fails is never compiled
@pytest.mark.parametrize(("name", "failure", "transport"), chosen())
def test_nothing_changes(
    tmp_path: Path,
    seen_with_a_log: Callable[[str, str], tuple[list[Any], set[str]]],
    name: str,
    failure: str,
    transport: str,
) -> None:
    """Whatever is wrong with the log, clients see what they would see otherwise, and the exit code is the same."""
    expected, _ = seen_with_a_log(name, transport)
    with FAILURES[failure]() as stderr:
        seen, _ = play(name, tmp_path, ("--transport", transport), stderr)
    assert seen == expected


def events_in_the_source() -> set[str]:
    """Return the names of all events, found where they are logged."""
    found = set()
    for path in Path(kvs.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("debug", "info", "warning", "error", "critical")
                and ast.unparse(node.func.value).rstrip("()").endswith(("log", "report"))
                and node.args
            ):
                name = node.args[0]
                found.add(str(name.value) if isinstance(name, ast.Constant) else ast.unparse(name))
    return found


def test_every_event_is_provoked(seen_with_a_log: Callable[[str, str], tuple[list[Any], set[str]]]) -> None:
    """By one scenario at least."""
    provoked = {event for name in SCENARIOS for event in seen_with_a_log(name, "auto")[1]}
    variable = {"event": {"loading", "loaded"}, "DROPPED_EVENT": {"log_events_dropped"}}
    events = {each for name in events_in_the_source() for each in variable.get(name, {name})}
    assert len(events) > 20
    assert events - provoked - NOT_PROVOKED.keys() == set()
    assert provoked - events == set()


@pytest.mark.one_build
def test_a_log_that_works_again(tmp_path: Path) -> None:
    """What was dropped while a pipe was full is counted, told in INFO, and reported as soon as somebody reads."""
    with unread_pipe() as writing, Server("--max-log-buffer-bytes", "4096", stderr=writing) as server:
        reading = os.open(f"/proc/self/fd/{writing}", os.O_RDONLY)
        client = server.connect()
        for _ in polling("events are dropped"):
            with Client(server.host, server.port) as other:
                assert other.ask("PUT a 1") == OK
            dropped = client.info("server")["log_events_dropped"]
            if dropped > 10:
                break
        received = b""
        while b"log_events_dropped" not in received or not received.endswith(b"\n"):
            received += os.read(reading, 1 << 20)
        report = next(line for line in received.splitlines() if b"log_events_dropped" in line)
        assert b"the buffer of 4096 bytes was full" in report
        assert client.ask("PING") == PONG
        os.set_blocking(reading, False)
        assert server.stop() == 0
        with suppress(BlockingIOError):
            while data := os.read(reading, 1 << 20):
                received += data
        os.close(reading)
        assert b'"stopped"' in received


@pytest.mark.one_build
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_second_signal_while_the_log_is_waited_for(number: signal.Signals) -> None:
    """The server has stopped, and its exit code is known; with a log that works it would be gone."""
    with unread_pipe() as writing, Server(stderr=writing) as server:
        server.send_signal(number)
        for _ in polling("its handlers are gone, or it is"):
            status = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")
            caught = status.partition("SigCgt:")[2].split()
            if not caught or not int(caught[0], 16) >> (number - 1) & 1:
                break
        assert server.stop(number) == 0
