"""The users of a server, and how they change.

A :class:`User` is shared by all connections of that user, so a change holds for them at once. What is saved of a user
is an immutable :class:`Account`. A change is a function from one account to the next; it is saved first, and takes
effect only then. Changes run one after the other.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias, final

from kvs.application.background import Background, Loop
from kvs.domain.accounts import NEW, OPEN, Account, Accounts, check_account
from kvs.domain.errors import InternalError, KvsError, LimitError, UsageError
from kvs.domain.grants import NOTHING
from kvs.ports.users import UsersNotSavedError, UserStore

DEFAULT_NAME: Final = "default"
"""Name of the user that a client is without authentication, if that user needs no secret."""

MAX_USERS: Final = 10_000
MAX_CHANGES: Final = 1024
"""Maximum number of changes that wait to be saved."""


class UsersNotReadError(KvsError):
    """Raised when users could not be read again. Nothing has changed."""

    code = "unavailable"


Alter: TypeAlias = Callable[[Account], Account]
"""Returns the next account; raises a ``KvsError`` to leave everything as it was."""

Load: TypeAlias = Callable[[], Accounts]
Done: TypeAlias = Callable[["Change"], None]


def _of_nobody(_: str) -> bool:
    return False


@final
class User:
    """A user, shared by all connections that have authenticated as it.

    Concurrency: changed on the loop only; the attributes may be read by workers.

    Attributes:
        name: Its name.
        account: All that is saved of it.
        enabled: False also for a user that has been removed: its connections are to be closed.
        grants: What it may run.
        generation: Counts its changes, so that what was checked before can be checked again.
        remembered: By hash of a password, the keyed hash of the secret that was found right.
        given: The keyed hash of one more secret, which is given by a setting and not saved; empty: there is none.
        needs_secret: This server demands one, whatever is saved.
    """

    __slots__ = ("account", "enabled", "generation", "given", "grants", "name", "needs_secret", "remembered")

    def __init__(self, name: str, account: Account) -> None:
        self.name: Final = name
        self.account = account
        self.enabled = account.enabled
        self.grants = account.grants
        self.generation = 0
        self.remembered: dict[str, bytes] = {}
        self.given = b""
        self.needs_secret = False

    @property
    def nopass(self) -> bool:
        """Whether any secret is right."""
        return self.account.nopass and not self.needs_secret

    def become(self, account: Account, *, removed: bool = False) -> None:
        """Change; on the loop."""
        self.account = account
        self.enabled = account.enabled and not removed
        self.grants = NOTHING if removed else account.grants
        self.generation += 1
        self.remembered = {}


@final
class Change:
    """A change of users that is under way, or has ended.

    Attributes:
        finished: It has ended.
        error: Why nothing has changed; None: it has taken effect.
        changed: Names of the users that have changed.
        deferred: The one who began it has gone on, and is to be called at the end.
        load: Returns all users, in place of those that are there; None: see ``next``.
    """

    __slots__ = ("_alter", "_done", "_names", "changed", "deferred", "error", "finished", "load")

    def __init__(self, names: list[str], alter: Alter | None, load: Load | None, done: Done) -> None:
        self.finished = False
        self.error: KvsError | None = None
        self.changed: list[str] = []
        self.deferred = False
        self.load: Final = load
        self._names = names
        self._alter = alter
        self._done: Done | None = done

    def take(self, changed: list[str]) -> None:
        """Note who has changed, unless that is known."""
        self.changed = self.changed or changed

    def forget(self) -> None:
        """Have nothing called at the end: the client has left. The change goes on."""
        self._done = None

    def next(self, accounts: dict[str, Account], check: Callable[[str, Account], None]) -> Accounts:
        """Return all accounts as they are to be, given those that are there, and a check of a new one.

        Raises:
            KvsError: They stay as they are.
        """
        if self._alter is None:
            if DEFAULT_NAME in self._names:
                raise UsageError("The default user cannot be removed.")
            self.changed = [name for name in self._names if name in accounts]
            return {name: account for name, account in accounts.items() if name not in self._names}
        (name,) = self._names
        account = self._alter(accounts.get(name, NEW))
        if name not in accounts and len(accounts) >= MAX_USERS:
            raise LimitError(f"There are {MAX_USERS} users already.")
        check(name, account)
        accounts[name] = account
        return accounts

    def finish(self, error: KvsError | None) -> None:
        """End, and call back."""
        self.finished = True
        self.error = error
        done, self._done = self._done, None
        if self.deferred and done is not None:
            done(self)


@final
class Users:
    """The directory of users.

    Concurrency: on the loop only; the store is called by a thread, once at a time.

    Args:
        accounts: The users at the start; without a default one, that is :data:`OPEN`.
        store: Where changes are saved; None: nowhere, so they hold until the end of the process.
        background: One thread, which saves.
        check: Checks each account that is to be, with its name; raises a ``KvsError``.
        demands_secret: Returns whether this server demands a secret of a user, by name, whatever is saved.

    Attributes:
        default: The user that clients are at first, if it is enabled and needs no secret.
        gone: Called for each user that has been removed or switched off, whose connections are to be closed.
        altered: Called for each other user that has changed, by who must not tell its connections what they had asked
            for before.
        version: Counts the changes of all users.
        revision: That of the store, of what is here.
    """

    def __init__(
        self,
        accounts: Accounts,
        store: UserStore | None,
        background: Background,
        check: Callable[[str, Account], None] = check_account,
        demands_secret: Callable[[str], bool] = _of_nobody,
    ) -> None:
        accounts = {DEFAULT_NAME: OPEN} | dict(accounts)
        self._users = {name: User(name, account) for name, account in accounts.items()}
        self.default: Final = self._users[DEFAULT_NAME]
        self.gone: Callable[[User], None] = _nobody
        self.altered: Callable[[User], None] = _nobody
        self.version = 0
        self.revision = 0
        self._store = store
        self._background = background
        self._check = check
        self._demands_secret = demands_secret
        self._waiting: deque[Change] = deque()
        self._current: Change | None = None
        self._loop: Loop | None = None  # on which the current change is to end
        self.demand_secrets()

    def get(self, name: str) -> User | None:
        """Return the user of a name; None if there is none."""
        return self._users.get(name)

    def names(self) -> list[str]:
        """Return all names, in order."""
        return sorted(self._users)

    def all(self) -> list[User]:
        """Return all users."""
        return list(self._users.values())

    @property
    def needs_no_secret(self) -> bool:
        """Whether anyone can be some user without a secret."""
        return any(user.enabled and user.nopass for user in self._users.values())

    @property
    def is_saved(self) -> bool:
        """Whether changes outlive the process."""
        return self._store is not None

    # Changes. ``done`` is called, on the loop, only for a change that has not finished when the method returns.

    def apply(self, name: str, alter: Alter, done: Done) -> Change:
        """Change a user, or make one: all of the change or nothing.

        Args:
            name: The user's name.
            alter: Returns the next account, given the present one, or :data:`NEW`. It is called when earlier changes
                have ended. A ``KvsError`` that it raises becomes the change's.
            done: Called at the end.
        """
        return self._begin(Change([name], alter, None, done))

    def remove(self, names: list[str], done: Done) -> Change:
        """Remove users; ``changed`` has those that there were."""
        return self._begin(Change(names, None, None, done))

    def replace(self, load: Load, done: Done) -> Change:
        """Replace all users by what a function returns, which a thread calls; it may raise anything."""
        return self._begin(Change([], None, load, done))

    def adopt(self, accounts: Accounts, revision: int) -> None:
        """Take over what another server has saved. Who got in without a secret that is needed now is to leave."""
        open_before = [user for user in self._users.values() if user.enabled and user.nopass]
        self._take_effect(accounts)
        self.revision = revision
        for user in open_before:
            if user.enabled and not user.nopass:
                self.gone(user)

    def demand_secrets(self) -> None:
        """Look anew of whom this server demands a secret."""
        for name, user in self._users.items():
            user.needs_secret = self._demands_secret(name)

    def save_to(self, store: UserStore | None) -> None:
        """Save what changes from now on elsewhere."""
        self._store = store

    def _begin(self, change: Change) -> Change:
        if self._current is not None and self._background.loop() is not self._loop:
            self._current = None  # it was to end on a loop that has ended, as have the clients that waited
            self._waiting.clear()
        if len(self._waiting) >= MAX_CHANGES:
            change.finish(LimitError(f"{MAX_CHANGES} changes of users wait to be saved."))
            return change
        self._waiting.append(change)
        self._run_waiting()
        change.deferred = not change.finished
        return change

    def _run_waiting(self) -> None:
        """Run changes until one has to wait for a disk or a network."""
        while self._current is None and self._waiting:
            change = self._waiting.popleft()
            accounts: Accounts = {}
            try:
                if change.load is None:
                    accounts = change.next({name: user.account for name, user in self._users.items()}, self._check)
                if change.load is None and self._store is None:
                    change.take(self._take_effect(accounts))
                else:
                    self._current = change
                    self._loop = self._background.loop()
                    work = _Work(self, change, self._store, accounts, self.revision)
                    self._background.run(work.run, work.finish)
                    return
            except Exception as error:  # noqa: BLE001  # whatever it is, the change has to end
                self._end(change, _error_of(error))
            else:
                self._end(change, None)

    def worked(self, work: "_Work") -> None:
        """Take what has been saved or loaded. By the work, on the loop."""
        if work.change is not self._current:
            return
        if work.error is None and work.revision >= self.revision:  # or something newer has been adopted meanwhile
            work.change.take(self._take_effect(work.accounts))
            self.revision = work.revision
        self._end(work.change, work.error)
        self._run_waiting()

    def _end(self, change: Change, error: KvsError | None) -> None:
        self._current = None
        change.finish(error)

    def _take_effect(self, accounts: Accounts) -> list[str]:
        """Change the users to what is saved, and tell of those that have gone; return who has changed."""
        accounts = {DEFAULT_NAME: OPEN} | dict(accounts)
        changed: list[str] = []
        gone: list[User] = []
        altered: list[User] = []
        self.version += 1
        for name, user in list(self._users.items()):
            account = accounts.get(name)
            if account is None:
                del self._users[name]
            elif account is user.account or account == user.account:
                continue
            was_enabled = user.enabled
            user.become(user.account if account is None else account, removed=account is None)
            changed.append(name)
            if was_enabled and not user.enabled:
                gone.append(user)
            else:
                altered.append(user)
        for name, account in accounts.items():
            if name not in self._users:
                self._users[name] = User(name, account)
                changed.append(name)
        self.demand_secrets()
        for user in gone:
            self.gone(user)
        for user in altered:
            self.altered(user)
        return changed


@final
class _Work:
    """A change that is being saved, or users that are being loaded, by a thread.

    Attributes:
        accounts: What is to be saved, and then what has been saved or loaded.
        revision: The revision of which they are a change, and then theirs.
        error: Why that has failed.
    """

    __slots__ = ("_store", "_users", "accounts", "change", "error", "revision")

    def __init__(
        self, users: Users, change: Change, store: UserStore | None, accounts: Accounts, revision: int
    ) -> None:
        self._users = users
        self._store = store
        self.change: Final = change
        self.accounts = accounts
        self.revision = revision
        self.error: KvsError | None = None

    def run(self) -> None:
        """Save or load. On the thread."""
        load = self.change.load
        try:
            if load is not None:
                self.accounts = load()
            elif self._store is not None:
                self.revision = self._store.save(self.accounts, self.revision)
        except Exception as error:  # noqa: BLE001  # whatever a store raises, the change has to end
            if isinstance(error, KvsError):
                self.error = error
            else:
                self.error = UsersNotSavedError(str(error)) if load is None else UsersNotReadError(str(error))

    def finish(self) -> None:
        """Tell. On the loop."""
        self._users.worked(self)


def _error_of(error: Exception) -> KvsError:
    """Return the error of a change, given what was raised; a compiled ``except`` knows one type for a name."""
    if isinstance(error, KvsError):
        return error
    if isinstance(error, RuntimeError):  # there is no thread
        return UsersNotSavedError(f"The users cannot be saved: {error}.")
    return InternalError(f"The change failed: {type(error).__name__}.")


def _nobody(_: User) -> None:
    """Tell nobody."""
