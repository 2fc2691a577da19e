"""The users that all servers of a namespace share: the key ``users``, a document like a users file.

A change compares the revision of what it changes, so no other change is lost. Each server reads it before it relays
a client or leads, and from then on within a second (:mod:`kvs.adapters.storage.etcd.registration`).
"""

from threading import Lock
from typing import Final, final

from kvs.adapters.storage.etcd.client.errors import EtcdError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import absent, get, mod_revision_is, put
from kvs.adapters.storage.etcd.layout import MAX_VALUE_BYTES, Keys, LayoutError
from kvs.adapters.users.document import DocumentError, parse, render
from kvs.domain.accounts import Accounts
from kvs.ports.users import UsersNotSavedError

LOOK_TIMEOUT_S: Final = 1.0
SAVE_TIMEOUT_S: Final = 5.0


@final
class EtcdUsers:
    """See :class:`kvs.ports.users.SharedUsers`.

    Concurrency: any thread.

    Args:
        client: Calls etcd.
        keys: The names of keys.
    """

    def __init__(self, client: EtcdClient, keys: Keys) -> None:
        self._client = client
        self._key: Final = keys.users
        self._lock = Lock()
        self._newest: tuple[Accounts, int] | None = None
        self._offer: Accounts = {}

    @property
    def newest(self) -> tuple[Accounts, int] | None:
        return self._newest

    def offer(self, accounts: Accounts) -> None:
        self._offer = accounts

    def look(self) -> None:
        """Read the users, if they have changed; put those there that have been offered, if there are none.

        Raises:
            LayoutError: There is something else.
            EtcdError: etcd does not answer.
        """
        key, known = self._key, 0 if self._newest is None else self._newest[1]
        result = self._client.txn([mod_revision_is(key, known)], [], [get(key)], timeout_s=LOOK_TIMEOUT_S)
        if not result.succeeded:
            (found,) = result.ranges
            if found is not None and found.kvs:
                self._note(_parsed(key, found.kvs[0].value), found.kvs[0].mod_revision)
        elif not known and self._offer:
            value = render(self._offer).encode()
            put_there = self._client.txn([absent(key)], [put(key, value)], timeout_s=LOOK_TIMEOUT_S)
            if put_there.succeeded:
                self._note(self._offer, put_there.header.revision)
            else:
                self.look()

    def save(self, accounts: Accounts, base: int) -> int:
        value = render(accounts).encode()
        if len(value) > MAX_VALUE_BYTES:
            raise UsersNotSavedError(f"The users would take more than {MAX_VALUE_BYTES >> 20} MiB in etcd.")
        try:
            result = self._client.txn(
                [mod_revision_is(self._key, base)], [put(self._key, value)], timeout_s=SAVE_TIMEOUT_S
            )
        except EtcdError as error:
            raise UsersNotSavedError(
                f"etcd has not confirmed the change of users, which may come about all the same: {error}."
            ) from None
        if not result.succeeded:
            raise UsersNotSavedError("Another server has changed users at the same time. Look, and try again.")
        self._note(accounts, result.header.revision)
        return result.header.revision

    def _note(self, accounts: Accounts, revision: int) -> None:
        with self._lock:
            if self._newest is None or revision > self._newest[1]:
                self._newest = accounts, revision


def _parsed(key: bytes, value: bytes) -> Accounts:
    try:
        return parse(value.decode(), None)
    except (UnicodeDecodeError, DocumentError) as error:
        raise LayoutError(f"{key.decode()}: {error}") from None
