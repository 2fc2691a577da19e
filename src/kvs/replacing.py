"""Replaces a file at once: a reader, also after a power cut, finds the old one or all of the new one."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO


@contextmanager
def replacing(path: Path, buffer_bytes: int = -1, mode: int | None = None) -> Iterator[BinaryIO]:
    """Open a new file, which takes the name of another when the block has ended.

    Args:
        path: The name; if it is of a symbolic link, that is replaced.
        buffer_bytes: Size of the buffer; -1: the default.
        mode: Permissions of the new file; None: those of the old one, or the usual ones.

    Raises:
        OSError: It could not be written. The old file is as it was, unless the directory could not be synced.
    """
    partial = path.with_name(f".{path.name}.{token_hex(4)}.partial")  # one that a killed process has left is in no way
    if mode is None and path.exists():
        mode = stat.S_IMODE(path.stat().st_mode)  # as secret as the old file, from the first moment on
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
    stream = os.fdopen(descriptor, "wb", buffer_bytes)
    try:
        with stream:
            if mode is not None:
                os.fchmod(stream.fileno(), mode)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # or the name might not survive a power cut
    finally:
        os.close(directory)
