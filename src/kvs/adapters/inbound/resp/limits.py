"""Limits of requests, replies and queues of one client."""

from typing import Final, final

SLACK_BYTES: Final = 1024
"""Slack of a bulk string beyond the longest key or value: one that is slightly too long gets an error, and only a much
longer one ends the connection."""

ARGUMENT_OVERHEAD_BYTES: Final = 64
"""Charged for an argument on top of its bytes: the header of a ``bytes`` (33 B), a list item, and rounding."""


@final
class RespLimits:
    """See the settings of the same names. ``max_queue_bytes`` is ``max_transaction_bytes``: a queue becomes one."""

    __slots__ = (
        "max_arguments",
        "max_bulk_bytes",
        "max_key_bytes",
        "max_queue_bytes",
        "max_reply_bytes",
        "max_request_bytes",
        "max_tick_output_bytes",
        "max_tick_requests",
        "max_value_bytes",
    )

    def __init__(
        self,
        max_key_bytes: int,
        max_value_bytes: int,
        max_arguments: int,
        max_request_bytes: int,
        max_reply_bytes: int,
        max_transaction_bytes: int,
        max_tick_requests: int,
        max_tick_output_bytes: int,
    ) -> None:
        self.max_key_bytes = max_key_bytes
        self.max_value_bytes = max_value_bytes
        self.max_arguments = max_arguments
        self.max_bulk_bytes = max(max_key_bytes, max_value_bytes) + SLACK_BYTES
        # The shortest limit that lets every permitted SET through.
        self.max_request_bytes = max(max_request_bytes, max_key_bytes + max_value_bytes + 2 * SLACK_BYTES)
        self.max_reply_bytes = max(max_reply_bytes, max_key_bytes, max_value_bytes)  # a page of SCAN has a key
        self.max_queue_bytes = max_transaction_bytes
        self.max_tick_requests = max_tick_requests
        self.max_tick_output_bytes = max_tick_output_bytes
