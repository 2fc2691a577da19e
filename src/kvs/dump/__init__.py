"""Dumps and loads: all entries as JSON lines, from a source and into a sink.

:mod:`kvs.dump.writer` dumps a source, :mod:`kvs.dump.loader` loads a sink. Both exist for a running server, over RESP
(:mod:`kvs.dump.server_endpoint`), and for a storage engine (:mod:`kvs.dump.engine_endpoint`). This package opens
neither: :mod:`kvs.cli.endpoints` or a test passes them in.
"""
