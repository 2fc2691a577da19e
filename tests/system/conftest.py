"""Fixtures: a server for each test, once for every way to run it: each transport, and the durable engine."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

import pytest

from tests.support.engine_control import EngineControl
from tests.support.etcd import shared_cluster
from tests.support.harness import ENGINES, Server, slow_engine

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet

FULL_SCALE: Final = bool(os.environ.get("TEST_FULL_SCALE"))
"""Whether to take the time for everything: every test with every transport, and as many clients as are promised."""

Params: TypeAlias = "tuple[str | ParameterSet, ...]"

ASYNCIO: Final = pytest.param("asyncio", marks=pytest.mark.variant)
SQLITE: Final = pytest.param("sqlite", marks=pytest.mark.variant)

DURABLE: Final[Params] = (SQLITE, "etcd") if FULL_SCALE else (SQLITE,)

TRANSPORTS_ALONE: Final[Params] = ("default", ASYNCIO)
"""For modules whose servers run over an engine of the tests; ``default`` is what runs when no flag is given."""

TRANSPORTS: Final[Params] = (*TRANSPORTS_ALONE, *DURABLE) if FULL_SCALE else ("default", *DURABLE)
"""The other tests run once for each."""

TRANSPORTS_OF_SLOW_TESTS: Final[Params] = TRANSPORTS if FULL_SCALE else TRANSPORTS[:1]
"""The same for modules whose tests are many and each need a server of their own."""

TRANSPORTS_AND_ENGINES: Final[Params] = (
    *TRANSPORTS_ALONE,
    *DURABLE,
    pytest.param("blocking", marks=pytest.mark.variant),
)
"""For modules that run over every transport and engine, also over one that blocks."""


def flags_of(transport: str) -> tuple[str, ...]:
    """Return the flags that choose a way to run the server."""
    if transport == "blocking":
        return slow_engine(0.0)[0]
    if transport == "etcd":
        return ("--storage", "etcd", "--storage-option", f"endpoints={shared_cluster().addresses}")
    return {"default": (), "asyncio": ("--transport", "asyncio"), "sqlite": ("--storage", "sqlite")}[transport]


class StartServer(Protocol):
    """Starts a server that ends with the test; see :class:`.harness.Server` for the arguments."""

    def __call__(
        self,
        *flags: str,
        env: Mapping[str, str] | None = None,
        before: tuple[str, ...] = (),
        open_files: tuple[str, ...] = (),
        expect: tuple[str, ...] = (),
        listens: bool = True,
        json_log: bool = True,
    ) -> Server:
        """Start it."""


@pytest.fixture(params=TRANSPORTS, scope="session")
def transport_flags(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the flags that choose the transport under test."""
    return flags_of(request.param)


@pytest.fixture
def start_server(transport_flags: tuple[str, ...]) -> Iterator[StartServer]:
    """Return a function that starts a server."""
    with ExitStack() as stack:

        def start(
            *flags: str,
            env: Mapping[str, str] | None = None,
            before: tuple[str, ...] = (),
            open_files: tuple[str, ...] = (),
            expect: tuple[str, ...] = (),
            listens: bool = True,
            json_log: bool = True,
        ) -> Server:
            return stack.enter_context(
                Server(
                    *transport_flags,
                    *flags,
                    env=env,
                    before=before,
                    open_files=open_files,
                    expect=expect,
                    listens=listens,
                    json_log=json_log,
                )
            )

        yield start


class Reused:
    """A server that serves one test after another, cleared between them; a new one when a test has ended it."""

    def __init__(self, start: Callable[[], Server]) -> None:
        self._start = start
        self._server: Server | None = None

    @contextmanager
    def lent(self) -> Iterator[Server]:
        """Lend the server to a test."""
        if self._server is None:
            self._server = self._start().__enter__()
        server = self._server
        try:
            yield server
            server.show_log()
            if server.exit_code is None:
                server.clear()
            else:
                self.end()
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """End the server."""
        server, self._server = self._server, None
        if server is not None:
            server.__exit__(None)


@pytest.fixture(scope="session")
def reused_servers() -> Iterator[dict[tuple[str, ...], Reused]]:
    """Return what lends servers with default settings, by the flags of their transports."""
    servers: dict[tuple[str, ...], Reused] = {}
    yield servers
    for reused in servers.values():
        reused.end()


@pytest.fixture
def server(transport_flags: tuple[str, ...], reused_servers: dict[tuple[str, ...], Reused]) -> Iterator[Server]:
    """Return a server with default settings. It is empty, but not always new."""
    if transport_flags not in reused_servers:
        reused_servers[transport_flags] = Reused(lambda: Server(*transport_flags))
    with reused_servers[transport_flags].lent() as server:
        yield server


class Watched(NamedTuple):
    """A server over the engine that reports its calls, and the control of that engine."""

    server: Server
    engine: EngineControl


class ReusedWatched(Reused):
    """The same for a server over the engine that reports its calls."""

    def __init__(self, flags: tuple[str, ...], engine_name: str) -> None:
        super().__init__(self._start_watched)
        self._flags = flags
        self._engine_name = engine_name
        self._controls = ExitStack()

    def _start_watched(self) -> Server:
        self._controls.close()
        self.control = self._controls.enter_context(
            EngineControl(ENGINES, os.environ.get("PYTHONPATH"), self._engine_name)
        )
        expected = ("engine_failed", "sync_failed")
        return Server(*self._flags, *self.control.flags, env=self.control.env, expect=expected)

    def end(self) -> None:
        """End the server."""
        super().end()
        self._controls.close()


@pytest.fixture(scope="session")
def engine_name() -> str:
    """Return which of the engines that report their calls is under test."""
    return "watched"


@pytest.fixture(scope="session")
def reused_watched() -> Iterator[dict[tuple[str, ...], ReusedWatched]]:
    """Return what lends servers over an engine that reports its calls, by their flags and its name."""
    servers: dict[tuple[str, ...], ReusedWatched] = {}
    yield servers
    for reused in servers.values():
        reused.end()


@pytest.fixture
def watched(
    transport_flags: tuple[str, ...], engine_name: str, reused_watched: dict[tuple[str, ...], ReusedWatched]
) -> Iterator[Watched]:
    """Return a server over the engine that reports its calls, and its control. It is empty, but not always new."""
    key = (*transport_flags, engine_name)
    reused = reused_watched.setdefault(key, ReusedWatched(transport_flags, engine_name))
    with reused.lent() as server:
        try:
            yield Watched(server, reused.control)
        finally:
            reused.control.reset()


@pytest.fixture
def engine(engine_name: str) -> Iterator[EngineControl]:
    """Return the control of an engine that reports its calls; start the server with its ``flags`` and ``env``."""
    with EngineControl(ENGINES, os.environ.get("PYTHONPATH"), engine_name) as control:
        yield control


@pytest.fixture
def ipv6_loopback() -> str:
    """Return the IPv6 loopback address, if this machine has one."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")
    return "::1"
