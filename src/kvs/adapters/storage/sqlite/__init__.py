"""The durable engine: the data set is served from memory, and every commit is in an SQLite database before it is told.

The database has two tables. Commits are appended to ``journal`` in the order of their arrival, which dirties a page or
two however far apart their keys are; upserts into a table ordered by key would dirty one for each. Off the hot path,
what has gathered there is moved into ``entries``, in the order of its keys: the compaction. Read first the one, then
the other, and there is the data set; ``docs/engines.md`` explains more.
"""
