"""The durable engine: serves data from memory, and writes every commit to an SQLite database before acknowledging it.

The database has two main tables. Commits are appended to ``journal`` in order of arrival, which dirties a page or two
however far apart their keys are; upserts into a table in key order would dirty a page for each key. In the background,
compaction moves these rows into ``entries``, in key order. The data set is ``entries``, then ``journal``
applied to it; ``docs/engines.md`` explains more.

Files that are damaged, incomplete, of another program or cannot be opened are refused with a ``StorageOpenError``.
"""
