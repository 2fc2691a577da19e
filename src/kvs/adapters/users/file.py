"""The users file: read at the start and when told to, replaced when users change."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final, TypeAlias, final

from kvs.adapters.users.document import MAX_BYTES, DocumentError, parse, render
from kvs.domain.accounts import Account, Accounts
from kvs.errors import ConfigError
from kvs.ports.users import UsersNotSavedError
from kvs.replacing import replacing
from kvs.secret_files import refuse_writable

SETTING: Final = "users_file"
MODE: Final = 0o600

_Stamp: TypeAlias = tuple[int, int, int]


@final
class UsersFile:
    """Users in a file.

    Concurrency: any thread, one call at a time.

    Args:
        path: The file. It must exist; it may be empty.
        commands: Names of all commands, in lower case.
    """

    def __init__(self, path: str, commands: Collection[bytes]) -> None:
        self._path = path
        self._commands = commands
        self._stamp: _Stamp | None = None

    def load(self) -> dict[str, Account]:
        """Return the users of the file.

        Raises:
            ConfigError: It cannot be read, others may write it, or something in it is wrong.
        """
        path = self._path
        try:
            with Path(path).open("rb") as file:
                status = os.fstat(file.fileno())
                refuse_writable(status, path, SETTING)
                contents = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise ConfigError(f"{SETTING}: {path} does not exist; an empty file is one without users") from None
        except OSError as error:
            raise ConfigError(f"{SETTING}: cannot read {path}: {error.strerror or error}") from None
        if len(contents) > MAX_BYTES:
            raise ConfigError(f"{SETTING}: {path} has more than {MAX_BYTES >> 20} MiB")
        try:
            accounts = parse(contents.decode("utf-8-sig"), self._commands)
        except UnicodeDecodeError:
            raise ConfigError(f"{SETTING}: {path} is not UTF-8") from None
        except DocumentError as error:
            raise ConfigError(f"{SETTING}: {path}: {error}") from None
        self._stamp = _stamp(status)
        return accounts

    def save(self, accounts: Accounts, _: int) -> int:
        """Replace the file; see :meth:`kvs.ports.users.UserStore.save`."""
        try:
            path = Path(self._path).resolve()  # so that a symbolic link stays one
            if _stamp(path.stat()) != self._stamp:
                raise UsersNotSavedError(
                    "The users file has been changed since it was read. SIGHUP has the server read it again."
                )
            contents = render(accounts).encode()
            if len(contents) > MAX_BYTES:
                raise UsersNotSavedError(f"The users file would have more than {MAX_BYTES >> 20} MiB.")
            with replacing(path, mode=MODE) as stream:
                stream.write(contents)
            self._stamp = _stamp(path.stat())
        except OSError as error:
            raise UsersNotSavedError(f"The users file cannot be replaced: {error.strerror or error}.") from None
        return 0


def _stamp(status: os.stat_result) -> _Stamp:
    """Return what changes when a file is written or replaced."""
    return (status.st_ino, status.st_mtime_ns, status.st_size)
