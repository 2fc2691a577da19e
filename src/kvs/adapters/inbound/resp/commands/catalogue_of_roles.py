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
sentinel | -2 | 2.8.4 | sentinel | admin |  |
    Tells who leads, in the words of Redis's Sentinel.
sentinel|ckquorum | 3 | 2.8.4 | sentinel | admin |  |
    Tells whether another server could take over.
sentinel|get-master-addr-by-name | 3 | 2.8.4 | sentinel | admin |  |
    Returns where the leader is.
sentinel|help | 2 | 6.2.0 | sentinel | loading stale |  |
    Lists the subcommands.
sentinel|master | 3 | 2.8.4 | sentinel | admin |  |
    Describes the leader.
sentinel|masters | 2 | 2.8.4 | sentinel | admin |  |
    Describes the leader, in a list.
sentinel|myid | 2 | 6.2.0 | sentinel | admin |  |
    Returns the ID of the leader.
sentinel|replicas | 3 | 5.0.0 | sentinel | admin |  |
    Describes the other servers, which stand by.
sentinel|sentinels | 3 | 2.8.4 | sentinel | admin |  |
    Describes the other servers, which may be asked as well.
sentinel|slaves | 3 | 2.8.0 | sentinel | admin |  |
    The same as REPLICAS.
subscribe | -2 | 2.0.0 | pubsub | pubsub noscript loading stale |  |
    Accepts channels of Sentinel, where nothing is ever sent.
unsubscribe | -1 | 2.0.0 | pubsub | pubsub noscript loading stale |  |
    Ends subscriptions.
psubscribe | -2 | 2.0.0 | pubsub | pubsub noscript loading stale |  |
    Accepts patterns of such channels.
punsubscribe | -1 | 2.0.0 | pubsub | pubsub noscript loading stale |  |
    Ends subscriptions of patterns.
"""
