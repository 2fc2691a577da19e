"""The durable engine: serves data from memory, and writes every commit to an SQLite database before acknowledging it.

The database has two tables. Commits are appended to ``journal`` in the order of their arrival, which dirties a page or
two however far apart their keys are; upserts into a table ordered by key would dirty one for each. Off the hot path,
compaction moves these rows into ``entries``, in the order of their keys. The data set is ``entries``, then ``journal``
applied to it; ``docs/engines.md`` explains more.
"""
