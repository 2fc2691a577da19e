"""The benchmark of kvs: the same work on kvs, Redis, memcached and a bare echo server, side by side.

It imports nothing of kvs: it meets the server as any client does, as a process and a port.
"""
