"""Dumps and loads, of a running server or of the data directory of a stopped one.

A source is dumped (:mod:`kvs.dump.writer`), a sink is loaded (:mod:`kvs.dump.loader`). Both exist for a server, over
RESP (:mod:`kvs.dump.server_endpoint`), and for a storage engine (:mod:`kvs.dump.engine_endpoint`). The manual
is ``docs/backup.md``.
"""
