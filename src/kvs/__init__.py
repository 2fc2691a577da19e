"""kvs: a transactional, multi-client, in-memory key-value server."""

__version__ = "0.2.0.dev0"  # and nothing imported: until __main__ runs, Ctrl-C shows a traceback
