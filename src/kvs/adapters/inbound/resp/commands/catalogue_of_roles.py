"""The part of the table of commands that is about the roles of servers."""

from typing import Final

TABLE: Final = """
role | 1 | 2.8.12 | server | noscript loading stale fast | admin dangerous |
    Tells that this server leads, and who stands by.
wait | 3 | 3.0.0 | generic | noscript | connection |
    Returns how many other servers could take over. | request_policy:all_shards response_policy:agg_min
replicaof | 3 | 5.0.0 | server | admin noscript stale no_async_loading |  |
    Accepts NO ONE, and nothing else.
slaveof | 3 | 1.0.0 | server | admin noscript stale no_async_loading |  |
    The same as REPLICAOF.
"""
