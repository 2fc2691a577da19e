"""The periodic check of the engine and of every channel's timeouts."""

import asyncio
from collections.abc import Callable
from typing import Final, final

from kvs.adapters.inbound.net.channel import Channel
from kvs.adapters.inbound.net.reasons import HANDSHAKE_TIMEOUT, TIMEOUT
from kvs.adapters.inbound.net.registry import ChannelRegistry
from kvs.adapters.inbound.net.timeouts import ServerLimits
from kvs.adapters.inbound.protocol.connection import TOO_SLOW
from kvs.domain.errors import TimedOutError
from kvs.log_type import FilteringBoundLogger

CHANNELS_PER_TURN: Final = 500
"""Channels checked per iteration of the loop: about 0.5 ms."""


@final
class Sweep:
    """Ends channels that have exceeded a timeout.

    Args:
        loop: The running loop.
        registry: The channels.
        limits: The timeouts.
        check_engine: Called first; detects failures of the engine's background work.
        log: Bound logger.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        registry: ChannelRegistry,
        limits: ServerLimits,
        check_engine: Callable[[], None],
        log: FilteringBoundLogger,
    ) -> None:
        self._loop = loop
        self._registry = registry
        self._limits = limits
        self._check_engine = check_engine
        self._log = log

    def start(self) -> None:
        """Check everything, and again after a while, until the loop ends."""
        self._check_engine()
        self._check_some(list(self._registry.channels), 0)

    def _check_some(self, session_ids: list[int], at: int) -> None:
        now_s = self._loop.time()
        for session_id in session_ids[at : at + CHANNELS_PER_TURN]:
            channel = self._registry.channels.get(session_id)
            if channel is not None:
                self._check(channel, now_s)
        at += CHANNELS_PER_TURN
        if at < len(session_ids):
            self._loop.call_soon(self._check_some, session_ids, at)
        else:
            self._loop.call_later(self._limits.sweep_interval_s(), self.start)

    def _check(self, channel: Channel, now_s: float) -> None:
        limits = self._limits
        stalled_s = channel.output_stalled_s(now_s)
        if channel.beginning:
            self._check_beginning(channel, now_s)
            return
        if limits.output_timeout_s and stalled_s >= limits.output_timeout_s:
            channel.end(TOO_SLOW)
            self._log.warning("client_dropped", peer=channel.remote_address, unread_output_s=round(stalled_s, 3))
            return
        connection = channel.connection
        if connection.closing or connection.busy or not connection.has_timeouts:
            return  # it may be committing, and the client cannot continue before that ends
        now_s -= channel.waited_s(now_s)
        reason = limits.timeout_reason(connection, channel.idle_s(now_s), now_s, channel.connected_s)
        if reason and channel.unread_bytes():  # it has sent input, and this process was stopped or too busy to read it
            reason = limits.timeout_reason(connection, 0.0, now_s, channel.connected_s)
        if reason:
            channel.fail(TimedOutError(reason), TIMEOUT)

    def _check_beginning(self, channel: Channel, now_s: float) -> None:
        """End a channel whose client takes too long for what has to come first."""
        limits = self._limits
        allowed_s = limits.linger_timeout_s if channel.refused else limits.auth_timeout_s
        if 0 < allowed_s <= now_s - channel.connected_s and not channel.unread_bytes():
            channel.end(HANDSHAKE_TIMEOUT)
