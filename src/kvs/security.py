"""Puts together who may do what: users, their secrets, and what a server without any refuses."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, final

from kvs.adapters.inbound.line.commands import COMMANDS
from kvs.adapters.inbound.net.reloading import Reloader
from kvs.adapters.inbound.resp.commands.catalogue import ABOUT
from kvs.addresses import is_loopback
from kvs.application.background import Background
from kvs.application.secret_hashes import ProcessKey
from kvs.application.users import DEFAULT_NAME, Change, Users
from kvs.config import ConfigError, Settings
from kvs.domain.accounts import OPEN, Account, Accounts, check_account
from kvs.domain.errors import UsageError
from kvs.domain.grants import EVERYTHING
from kvs.log_type import FilteringBoundLogger
from kvs.ports.users import SharedUsers
from kvs.secret_files import read_secret

if TYPE_CHECKING:
    from kvs.adapters.users.file import UsersFile

PASSWORD: Final = "password_file"  # noqa: S105  # the name of a setting


def command_names() -> frozenset[bytes]:
    """Return the names by which grants know the commands of both protocols."""
    return frozenset([command.grant_name for command in COMMANDS.values()] + [name.encode() for name in ABOUT])


def background(threads: int, *, polite: bool) -> Iterator[Background]:
    """Provide threads for what would hold up the loop; end them on every exit."""
    with closing(Background(threads, asyncio.get_running_loop, polite=polite)) as opened:
        yield opened


@final
class UserSource:
    """The users that settings give: those of the users file, and the password of the default one.

    Concurrency: any thread, one call at a time.

    Attributes:
        file: The users file; None: there is none.
        seed: All users at the start, if there are any in the file.
        shared: The users that several servers share, which count in place of those of the file; None: there are none.
        password: The password of the default user, as it was read last; empty: there is none.
    """

    def __init__(self, settings: Settings) -> None:
        self.file = _users_file(settings.users_file) if settings.users_file else None
        self.shared: SharedUsers | None = None
        self.seed: Accounts = {}
        self.password = b""
        self._password_file = settings.password_file
        self._exposed = beyond_loopback(settings.host) if settings.protected_mode else ""

    def load(self) -> dict[str, Account]:
        """Read everything, and return the users.

        Raises:
            ConfigError: A file cannot be used, or nothing protects what others can reach.
        """
        accounts = {} if self.file is None else self.file.load()
        has_users = bool(accounts)
        password = self.read_password()
        default = accounts.get(DEFAULT_NAME)
        if default is None:
            default = OPEN
            if password:
                default = Account(enabled=True, grants=EVERYTHING)
            elif accounts:
                default = Account()
        if password and default.nopass:
            raise ConfigError(f"{PASSWORD}: the users file says of the default user that it needs no password")
        accounts[DEFAULT_NAME] = default
        if self._exposed and any(account.enabled and account.nopass for account in accounts.values()):
            raise ConfigError(
                f"host: others can reach {self._exposed}, and a client needs no password; "
                f"set {PASSWORD}, or protected_mode = false"
            )
        self.password = password
        self.seed = dict(accounts) if has_users else {}
        return accounts

    def read_password(self) -> bytes:
        """Return what is in the password file; nothing if there is none.

        Raises:
            ConfigError: It cannot be used.
        """
        return read_secret(self._password_file, PASSWORD) if self._password_file else b""

    def demands_secret(self, name: str) -> bool:
        """Return whether a user needs a secret at this server, though another one may have saved it without."""
        return bool(self._exposed) or (name == DEFAULT_NAME and bool(self.password))

    def check(self, name: str, account: Account) -> None:
        """Check a change of a user, which has to be one with which this server can start again.

        Raises:
            KvsError: It is not.
        """
        check_account(name, account)
        if account.nopass and name == DEFAULT_NAME and self.password:
            raise UsageError(f"The default user has the password of the setting {PASSWORD}.")
        if account.nopass and account.enabled and self._exposed:
            raise UsageError("Other machines can reach this server: see the setting protected_mode.")


def _users_file(path: str) -> "UsersFile":
    from kvs.adapters.users.file import UsersFile  # noqa: PLC0415  # 5 ms that only a file needs

    return UsersFile(path, command_names())


def beyond_loopback(hosts: tuple[str, ...]) -> str:
    """Return the first of the hosts that others than this machine can reach; empty if there is none."""
    return next((host for host in hosts if not all(map(is_loopback, _addresses(host)))), "")


def _addresses(host: str) -> list[str]:
    try:
        ip_address(host)
    except ValueError:
        try:
            return [str(found[4][0]) for found in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError):
            return []  # the listener says what is wrong with it
    return [host]


def users(source: UserSource, saving: Background, key: ProcessKey) -> Users:
    """Return the users at the start.

    Raises:
        ConfigError: See :meth:`UserSource.load`.
    """
    directory = Users(source.load(), source.file, saving, source.check, source.demands_secret)
    _give_password(directory, source, key)
    return directory


def needs_no_secret(directory: Users) -> Callable[[], bool]:
    """Return what tells whether anyone can be some user without a secret."""
    return lambda: directory.needs_no_secret


def users_reloader(source: UserSource, directory: Users, key: ProcessKey) -> Reloader:
    """Return what reads the users again."""

    async def reload() -> list[str]:
        if source.shared is not None:
            source.password = await asyncio.to_thread(source.read_password)
            return _give_password(directory, source, key)
        done: asyncio.Future[Change] = asyncio.get_running_loop().create_future()

        def finish(change: Change) -> None:
            if not done.cancelled():  # as it is when the reload has been cut short
                done.set_result(change)

        change = directory.replace(source.load, finish)
        try:
            if not change.finished:
                await done
        finally:
            change.forget()  # the server may be stopping
        if change.error is not None:
            raise change.error
        return _give_password(directory, source, key) + [f"user {name}" for name in change.changed]

    return reload


def share_users(source: UserSource, directory: Users, shared: SharedUsers | None) -> None:
    """Have the users of a server be those that it shares with others.

    If the others have none yet, they get those of this server's users file.
    """
    if shared is not None:
        shared.offer(source.seed)
        source.shared = shared
        directory.save_to(shared)


def adopter(source: UserSource, directory: Users, log: FilteringBoundLogger) -> Callable[[], None]:
    """Return what takes over the newest users that are shared, if there are any. On the loop."""

    def adopt() -> None:
        newest = None if source.shared is None else source.shared.newest
        if newest is not None and newest[1] != directory.revision:
            first = directory.revision == 0
            directory.adopt({DEFAULT_NAME: Account()} | dict(newest[0]), newest[1])
            if first and source.seed and source.seed != newest[0]:
                log.warning("users_file_unused", reason="the servers share users that are in etcd already")

    return adopt


def _give_password(directory: Users, source: UserSource, key: ProcessKey) -> list[str]:
    """Give the default user the password of the settings; return the name of the setting if that is another one."""
    default, before = directory.default, directory.default.given
    default.given = key.hash(default.name, source.password) if source.password else b""
    directory.demand_secrets()
    return [PASSWORD] if default.given != before else []
