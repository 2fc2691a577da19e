"""A detector of protocols over the sessions of a bench, for tests of what comes first."""

from typing import Final

from kvs.adapters.inbound.line.commands import COMMANDS
from kvs.adapters.inbound.line.connection import line_protocol
from kvs.adapters.inbound.line.limits import LineLimits
from kvs.adapters.inbound.net.registry import ChannelRegistry
from kvs.adapters.inbound.protocol.detection import ProtocolDetector
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.protocol.security import Security
from kvs.adapters.inbound.resp.connection import resp_protocol
from kvs.adapters.inbound.resp.context import ServerContext
from kvs.adapters.inbound.resp.limits import RespLimits
from kvs.adapters.inbound.resp.verbs import VERBS
from kvs.application.disposal import Disposal
from kvs.logs import make_logger
from tests.support.sessions import UNLIMITED, Bench
from tests.support.users import open_to_all

MAX_KEY_BYTES: Final = 100
MAX_VALUE_BYTES: Final = 1 << 17


def new_detector(bench: Bench, max_tick_requests: int = 1000, security: Security | None = None) -> ProtocolDetector:
    """Return what opens connections in either protocol."""
    log = make_logger("info", "json", bench.log)
    security = security or open_to_all()
    line_limits = LineLimits(MAX_KEY_BYTES, MAX_VALUE_BYTES, max_tick_requests, UNLIMITED)
    resp_limits = RespLimits(MAX_KEY_BYTES, MAX_VALUE_BYTES, 100, 1 << 20, 4096, 4096, max_tick_requests, UNLIMITED)
    shared = ServerContext(
        ChannelRegistry(), {}, bench.clock, bench.clock, Disposal(), Observation(), bench.tracking, security
    )
    line = line_protocol(line_limits, bench.budget, Observation(), security, log)
    resp = resp_protocol(resp_limits, shared, bench.budget, log)
    return ProtocolDetector(lambda: (bench.open(), None), line, COMMANDS, resp, VERBS)
