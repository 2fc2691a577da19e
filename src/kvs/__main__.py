"""``python -m kvs``."""

from kvs.cli import main

main(prog_name="kvs")
