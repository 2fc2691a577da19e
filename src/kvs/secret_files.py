"""Reads secrets, which are given by files only: flags and variables can be seen by others."""

import os
import stat
from pathlib import Path
from typing import Final

from kvs.errors import ConfigError

MAX_BYTES: Final = 4096
WRITABLE: Final = stat.S_IWGRP | stat.S_IWOTH


def read_secret(path: str, setting: str) -> bytes:
    """Return the contents of a file, without a newline at the end.

    Args:
        path: The file; it may be a pipe.
        setting: The setting that names it, for messages.

    Raises:
        ConfigError: It cannot be read, is empty or too long, or others may write it. The message has nothing of what is
            in it.
    """
    try:
        with Path(path).open("rb") as file:
            refuse_writable(os.fstat(file.fileno()), path, setting)
            secret = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{setting}: cannot read {path}: {error.strerror or error}") from None
    secret = secret[:-2] if secret.endswith(b"\r\n") else secret.removesuffix(b"\n")
    if not secret:
        raise ConfigError(f"{setting}: {path} is empty")
    if len(secret) > MAX_BYTES:
        raise ConfigError(f"{setting}: {path} has more than {MAX_BYTES} bytes")
    return secret


def refuse_writable(status: os.stat_result, path: str, setting: str) -> None:
    """Refuse a file that others than its owner may write.

    Raises:
        ConfigError: They may.
    """
    if status.st_mode & WRITABLE and not stat.S_ISCHR(status.st_mode):
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError(f"{setting}: others than its owner may write {path} (mode {mode:04o}); try chmod go-w")


def has_passphrase(key: bytes) -> bool:
    """Return whether a private key, in PEM, is encrypted: OpenSSL would ask the terminal, or tell nothing of it."""
    return b"ENCRYPTED" in key
