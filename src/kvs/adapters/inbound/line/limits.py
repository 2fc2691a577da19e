"""Limits of the requests of one client."""

from dataclasses import dataclass, field
from typing import Final, final

LINE_OVERHEAD_BYTES: Final = 1024
"""Bytes of a line beyond the longest key and value: verb, blanks, and some slack, so that a value that is slightly too
long gets its own error, and only a much longer line ends the connection."""


@final
@dataclass
class LineLimits:
    """See the settings of the same names.

    Attributes:
        max_line_bytes: Longest line after which the next one is found.
    """

    max_key_bytes: int
    max_value_bytes: int
    max_tick_requests: int
    max_tick_output_bytes: int
    max_line_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.max_line_bytes = self.max_key_bytes + self.max_value_bytes + LINE_OVERHEAD_BYTES
