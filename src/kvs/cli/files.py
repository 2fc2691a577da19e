"""The files of dumps. A dump appears under its name only when it is complete."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from kvs.cli.options import STANDARD_STREAM
from kvs.dump.errors import DumpError, quoted
from kvs.replacing import replacing
from kvs.standard_streams import Stdin, Stdout, reason_of

BUFFER_BYTES: Final = 1 << 18


@contextmanager
def reading(name: str) -> Iterator[BinaryIO]:
    """Open a file, or standard input, for reading."""
    standard = name == STANDARD_STREAM
    try:
        raw = Stdin(sys.stdin.fileno(), "r", closefd=False) if standard else io.FileIO(name, "r")
        stream = io.BufferedReader(raw, BUFFER_BYTES)
    except OSError as error:
        raise DumpError(f"{quoted(name)}: cannot be read: {reason_of(error)}") from None
    with stream:
        yield stream


@contextmanager
def writing(name: str) -> Iterator[BinaryIO]:
    """Open a file, or standard output, for writing. A file appears under its name when all of it is on the disk."""
    try:
        if name == STANDARD_STREAM:
            with io.BufferedWriter(Stdout(sys.stdout.fileno(), "w", closefd=False), BUFFER_BYTES) as stream:
                yield stream
            return
        path = Path(name).resolve()  # so that a symbolic link stays one
        if path.exists() and not path.is_file():  # a device or a pipe cannot be replaced
            with path.open("wb", BUFFER_BYTES) as stream:
                yield stream
            return
        with replacing(path, BUFFER_BYTES) as stream:
            yield stream
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DumpError(f"{quoted(name)}: cannot be written: {reason_of(error)}") from None
