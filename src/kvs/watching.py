"""What makes a server visible: its figures."""

from kvs.adapters.inbound.net.registry import ChannelRegistry
from kvs.adapters.inbound.net.timeouts import ServerLimits
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.protocol.tracking import Tracking
from kvs.adapters.inbound.resp.replies import invalidation
from kvs.application.changes import ChangeFeed
from kvs.application.figures import Sources
from kvs.application.memory_budget import MemoryBudget
from kvs.config import Settings
from kvs.ports.storage import Storage


def make_tracking(settings: Settings, storage: Storage, changes: ChangeFeed, budget: MemoryBudget) -> Tracking:
    tracking = Tracking(changes, budget, settings.tracking_table_max_keys, invalidation, settings.max_tick_output_bytes)
    if storage.blocking:
        tracking.use_workers()
    return tracking


def figure_sources(
    clients: ChannelRegistry, limits: ServerLimits, observation: Observation, tracking: Tracking
) -> Sources:
    """Return the sources of a server's figures, but for sessions, the engine and the ticks."""

    def others() -> dict[str, object]:
        return {
            "max_clients": limits.max_clients,
            "tracking_clients": len(tracking),
            "tracked_keys": len(tracking.table),
            "slow_commands": observation.slow_log.noted,
        }

    sources = Sources()
    sources.add(clients.figures)
    sources.add(others)
    return sources
