"""``python -m kvs``."""

from kvs.cli import main

main()
