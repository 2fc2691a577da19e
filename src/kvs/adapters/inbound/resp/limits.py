"""Limits of requests, replies and queues of one client."""

from dataclasses import dataclass, field
from typing import Final, final

SLACK_BYTES: Final = 1024
"""Slack of a bulk string beyond the longest key or value: one that is slightly too long gets an error, and only a much
longer one ends the connection."""

ARGUMENT_OVERHEAD_BYTES: Final = 64
"""Charged for an argument on top of its bytes: the header of a ``bytes`` (33 B), a list item, and rounding."""


@final
@dataclass
class RespLimits:
    """See the settings of the same names. A queue becomes a transaction, so its limit is ``max_transaction_bytes``.

    Attributes:
        max_bulk_bytes: Longest bulk string after which the next request is found.
        max_request_bytes: The setting, or if longer, enough for every permitted SET.
        max_reply_bytes: The setting, or if longer, enough for a page of SCAN with one key.
    """

    max_key_bytes: int
    max_value_bytes: int
    max_arguments: int
    max_request_bytes: int
    max_reply_bytes: int
    max_transaction_bytes: int
    max_tick_requests: int
    max_tick_output_bytes: int
    max_bulk_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.max_bulk_bytes = max(self.max_key_bytes, self.max_value_bytes) + SLACK_BYTES
        longest_set_bytes = self.max_key_bytes + self.max_value_bytes + 2 * SLACK_BYTES
        self.max_request_bytes = max(self.max_request_bytes, longest_set_bytes)
        self.max_reply_bytes = max(self.max_reply_bytes, self.max_key_bytes, self.max_value_bytes)
