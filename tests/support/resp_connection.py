"""What tests of connections in RESP share: connections over one engine, in this process."""

import io
from collections.abc import Callable
from time import perf_counter

from kvs.adapters.inbound.net.registry import ChannelRegistry
from kvs.adapters.inbound.protocol.audit import Audit
from kvs.adapters.inbound.protocol.gate import Gate
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.protocol.security import Security
from kvs.adapters.inbound.resp.connection import RespConnection
from kvs.adapters.inbound.resp.context import ServerContext
from kvs.adapters.inbound.resp.limits import RespLimits
from kvs.application.disposal import Disposal
from kvs.logs import make_logger
from kvs.ports.storage import Storage
from tests.support.resp_wire import Reply, read_reply, request
from tests.support.sessions import UNLIMITED, Bench, output_of
from tests.support.users import open_to_all


class RespServer:
    """Connections in RESP over one engine.

    Args:
        max_reply_bytes: See the setting.
        max_key_bytes: See the setting.
        max_tick_requests: See the setting.
        storage: The engine.
        timer: Measures commands.
        security: Decides who may do what; None: everybody may do everything.
        audit: The audit log.
    """

    def __init__(
        self,
        max_reply_bytes: int = UNLIMITED,
        max_key_bytes: int = 100,
        max_tick_requests: int = 100,
        storage: Storage | None = None,
        timer: Callable[[], float] = perf_counter,
        security: Security | None = None,
        audit: Audit | None = None,
    ) -> None:
        self.bench = Bench(storage)
        self._connections: list[RespConnection] = []
        self.clients = ChannelRegistry()
        self.shared = ServerContext(
            self.clients,
            {},
            self.bench.clock,
            self.bench.clock,
            Disposal(),
            Observation(timer, audit=audit),
            self.bench.tracking,
            security or open_to_all(),
        )
        self.limits = RespLimits(
            max_key_bytes, 0, 100, UNLIMITED, max_reply_bytes, UNLIMITED, max_tick_requests, UNLIMITED
        )

    def connect(self) -> RespConnection:
        """Return a new connection."""
        log = make_logger("info", "json", self.bench.log)
        limits, shared = self.limits, self.shared
        audit = shared.observation.audit
        gate = Gate(limits.max_key_bytes, limits.max_value_bytes, self.bench.budget, shared.security, audit)
        connection = RespConnection(self.bench.open(), None, self.limits, self.shared, gate, self.bench.budget, log)
        self._connections.append(connection)
        return connection

    def pass_time(self, seconds: float) -> None:
        """Let time pass until the next tick begins, which deletes what is due."""
        self.bench.expiry.end_tick()
        self.bench.clock.now_s += seconds
        self.bench.expiry.begin_tick()

    def tell(self) -> None:
        """Do what the end of a tick does for clients that track keys."""
        tracking, changes = self.bench.tracking, self.bench.changes
        if changes.waiting:
            tracking.became_durable(changes.take())
        if tracking.has_work:
            tracking.step()

    def assert_nothing_is_left(self) -> None:
        """Assert that no snapshot is open, and that who leaves is charged for nothing any more."""
        assert self.bench.storage.open_snapshots == 0
        for connection in self._connections:
            connection.close()
        while self.bench.tracking.has_work:
            self.tell()
        self.bench.assert_nothing_is_held()


def ask(connection: RespConnection, *words: bytes | int) -> Reply:
    """Return the reply to a request, however many ticks it takes."""
    connection.receive(request(*words))
    return answer(connection)


def answer(connection: RespConnection) -> Reply:
    """Return the reply to what has been asked, however many ticks it takes."""
    while connection.backlog:
        connection.resume()
    return read_reply(io.BytesIO(output_of(connection)))
