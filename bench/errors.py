"""The one error of the benchmark."""


class BenchError(Exception):
    """The benchmark cannot go on; the text is one line for the person who runs it."""
