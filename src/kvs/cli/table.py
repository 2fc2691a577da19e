"""Tables on standard output."""

from collections.abc import Sequence

import click


def echo_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns, each as wide as its longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
