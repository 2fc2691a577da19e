"""Care of data: dumps and loads, of a running server or of the data directory of a stopped one.

A source is dumped (:mod:`kvs.care.dump`), a sink is loaded (:mod:`kvs.care.load`). Both are there for a server, over
RESP (:mod:`kvs.care.remote`), and for a storage engine (:mod:`kvs.care.local`). ``docs/care.md`` is the manual.
"""
