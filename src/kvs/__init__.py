"""kvs: a transactional, multi-client, in-memory key-value server."""

from typing import Final

__version__: Final = "0.2.0.dev0"
