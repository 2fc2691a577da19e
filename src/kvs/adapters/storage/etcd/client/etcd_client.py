"""A client of etcd: what an engine asks of it, as calls that wait and as calls that do not.

Every call has a deadline, and is sent at most once: only the caller knows whether it is safe to send it again.
There is one exception: a call that was refused for its token, so that nothing was done, is sent again with another.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, Generic, TypeAlias, TypeVar, final

from kvs.adapters.storage.etcd.client import requests
from kvs.adapters.storage.etcd.client.answers import (
    Alarm,
    Header,
    Lease,
    Member,
    RangeResult,
    Status,
    TxnResult,
    alarms_result,
    header_of,
    lease_result,
    members_result,
    range_result,
    status_result,
    txn_result,
)
from kvs.adapters.storage.etcd.client.auth import AUTHENTICATE_TIMEOUT_S, Authenticator, no_password
from kvs.adapters.storage.etcd.client.call import Outcome, UnaryCall
from kvs.adapters.storage.etcd.client.dialling import Secure
from kvs.adapters.storage.etcd.client.endpoints import Endpoint
from kvs.adapters.storage.etcd.client.errors import (
    ClusterChangedError,
    DeadlineExceededError,
    EtcdError,
    LeaseNotFoundError,
    NotSentError,
    ProtocolBrokenError,
    TokenRefusedError,
)
from kvs.adapters.storage.etcd.client.link import Link
from kvs.adapters.storage.etcd.client.watch import Watch

T = TypeVar("T")
Completion: TypeAlias = Callable[[T | EtcdError], None]

DEFAULT_TIMEOUT_S: Final = 5.0
MAX_TOKENS_A_CALL: Final = 3
"""How often a call is sent with another token before it fails as refused."""

WATCH_TIMEOUT_S: Final = 5.0

GRACE_S: Final = 0.5
"""Time after the deadline of a call in which its thread tells what became of it."""


@final
class EtcdClient:
    """Calls etcd. Its connections are made when they are first used.

    Args:
        endpoints: Where the members are; at least one.
        tls: Returns how a new connection is secured; None: none is.
        user: Who calls; empty if nobody needs to tell.
        password: Returns that user's, for a new token.
        cluster_id: The cluster that must answer; 0 for the one that answers first.

    Concurrency: any thread. Those that submit never wait; all others do, and may not be called by a completion.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        tls: Secure | None = None,
        user: str = "",
        password: Callable[[], str] = no_password,
        cluster_id: int = 0,
    ) -> None:
        self.endpoints: Final = tuple(endpoints)
        self.cluster_id = cluster_id
        self._tls = tls
        self._auth = Authenticator(user, password)
        self._lock = threading.Lock()
        self._closed = False
        # What is urgent has a connection of its own, and ranges have: no large answer is in the way of others.
        self._urgent = Link(self.endpoints, tls, "etcd-urgent")
        self._calls = Link(self.endpoints, tls, "etcd-call")
        self._ranges = Link(self.endpoints, tls, "etcd-range")
        self._of_members: dict[Endpoint, Link] = {}

    @property
    def endpoint(self) -> Endpoint | None:
        """The member that urgent calls go to, if there is a connection."""
        return self._urgent.endpoint

    def close(self) -> None:
        """Close all connections but those of watches; calls under way fail."""
        with self._lock:
            self._closed = True
            links = [self._urgent, self._calls, self._ranges, *self._of_members.values()]
        for link in links:
            link.close()

    def again(self) -> "EtcdClient":
        """Return another client with the same settings, which takes whatever cluster answers."""
        return EtcdClient(self.endpoints, tls=self._tls, user=self._auth.user, password=self._auth.password)

    # Keys.

    def submit_txn(
        self,
        compares: Sequence[bytes],
        then: Sequence[requests.Operation],
        otherwise: Sequence[requests.Operation],
        done: Completion[TxnResult],
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """Run an urgent transaction; ``done`` is called once, on a thread of the client, with the result or an error.

        That compares did not hold is a result. etcd does not keep the order of transactions that are under way at the
        same time.

        Concurrency: Never waits. What ``done`` does delays the outcome of others.
        """
        message = requests.txn_request(compares, then, otherwise)
        _Request(self, self._urgent, requests.TXN, message, timeout_s, txn_result, done).start()

    def txn(
        self,
        compares: Sequence[bytes],
        then: Sequence[requests.Operation],
        otherwise: Sequence[requests.Operation] = (),
        timeout_s: float = DEFAULT_TIMEOUT_S,
        *,
        urgent: bool = False,
    ) -> TxnResult:
        """Run a transaction; an urgent one goes by a way on which there is little else."""
        message = requests.txn_request(compares, then, otherwise)
        return self._wait(requests.TXN, message, timeout_s, txn_result, urgent=urgent)

    def range(
        self,
        key: bytes,
        end: bytes = b"",
        *,
        limit: int = 0,
        revision: int = 0,
        keys_only: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> RangeResult:
        """Read a key, or a range up to ``end``: linearizably, as of now or of a revision.

        A page after another begins with the last key and a zero byte, at the revision of the first page.
        """
        message = requests.range_request(key, end, limit=limit, revision=revision, keys_only=keys_only)
        return self._wait(requests.RANGE, [message], timeout_s, range_result, link=self._ranges)

    def compact(self, revision: int, *, physical: bool = False, timeout_s: float = DEFAULT_TIMEOUT_S) -> Header:
        """Forget what was before a revision, for all users of this etcd."""
        return self._wait(
            requests.COMPACT, [requests.compact_request(revision, physical=physical)], timeout_s, header_of
        )

    def watch(self, key: bytes, end: bytes = b"", *, revision: int = 0, timeout_s: float = WATCH_TIMEOUT_S) -> Watch:
        """Watch a key, or a range up to ``end``, from a revision on; the caller closes the watch."""
        for _ in range(MAX_TOKENS_A_CALL):
            token = self._token()
            watch = Watch(self.endpoints, self._tls, token, key, end, revision)
            try:
                self.check_cluster(watch.wait_created(timeout_s))
            except TokenRefusedError:
                watch.close()
                self._renew_token(token)
            except BaseException:
                watch.close()
                raise
            else:
                return watch
        raise TokenRefusedError("etcd refuses each token that it gives")

    # Leases.

    def grant(self, ttl_s: int, lease: int = 0, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Lease:
        """Grant a lease; etcd may give it more time than asked, never less than its election takes."""
        return self._wait(requests.LEASE_GRANT, [requests.lease_grant_request(ttl_s, lease)], timeout_s, lease_result)

    def submit_keep_alive(self, lease: int, done: Completion[Lease], timeout_s: float, silence_s: float) -> None:
        """Renew a lease as :meth:`submit_txn` does; leave a member that says nothing at all for ``silence_s``."""
        call = requests.LEASE_KEEP_ALIVE, [requests.lease_request(lease)], timeout_s, _renewed, done
        _Request(self, self._urgent, *call, silence_s=silence_s).start()

    def keep_alive_once(self, lease: int, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Lease:
        """Renew a lease.

        Raises:
            LeaseNotFoundError: It has expired, or was revoked.
        """
        return self._wait(requests.LEASE_KEEP_ALIVE, [requests.lease_request(lease)], timeout_s, _renewed)

    def revoke(self, lease: int, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Header:
        """End a lease: its keys are deleted."""
        return self._wait(requests.LEASE_REVOKE, [requests.lease_request(lease)], timeout_s, header_of)

    # The cluster.

    def members(self, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> tuple[Member, ...]:
        """List the members, as the one that is asked knows them."""
        return self._wait(requests.MEMBER_LIST, [b""], timeout_s, members_result, needs_leader=False)

    def status(self, endpoint: Endpoint, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Status:
        """Ask one member how it is."""
        return self._wait(requests.STATUS, [b""], timeout_s, status_result, needs_leader=False, at=endpoint)

    def defragment(self, endpoint: Endpoint, *, timeout_s: float) -> Header:
        """Have one member give back the space that it does not use; it answers nothing else meanwhile."""
        return self._wait(requests.DEFRAGMENT, [b""], timeout_s, header_of, needs_leader=False, at=endpoint)

    def alarms(self, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> tuple[Alarm, ...]:
        """List the alarms of all members."""
        return self._wait(requests.ALARM, [requests.alarm_request()], timeout_s, alarms_result)

    def disarm(self, alarm: Alarm, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> tuple[Alarm, ...]:
        """End an alarm."""
        message = requests.alarm_request(alarm.member_id, alarm.kind, disarm=True)
        return self._wait(requests.ALARM, [message], timeout_s, alarms_result)

    # How calls are made.

    def check_cluster(self, header: Header) -> None:
        """Note which cluster answers first. Some answers of etcd 3.4 do not tell: that of alarms, for one.

        Raises:
            ClusterChangedError: It is another one now.
        """
        if header.cluster_id not in (0, self.cluster_id):
            with self._lock:
                if not self.cluster_id:
                    self.cluster_id = header.cluster_id
            if header.cluster_id != self.cluster_id:
                raise ClusterChangedError(f"cluster {header.cluster_id:x} answers in place of {self.cluster_id:x}")

    def accept_any_cluster(self) -> None:
        """Take the cluster that answers next for the right one: nothing that was read before is relied on."""
        with self._lock:
            self.cluster_id = 0

    def _wait(
        self,
        method: str,
        message: Sequence[bytes],
        timeout_s: float,
        decode: Callable[[bytes], T],
        *,
        needs_leader: bool = True,
        urgent: bool = False,
        at: Endpoint | None = None,
        link: Link | None = None,
    ) -> T:
        if at is not None:
            link = self._link_to(at)
        link = link or (self._urgent if urgent else self._calls)
        future: Future[T | EtcdError] = Future()
        _Request(self, link, method, message, timeout_s, decode, future.set_result, needs_leader=needs_leader).start()
        result = _awaited(future, timeout_s)
        if isinstance(result, EtcdError):
            raise result
        return result

    def _link_to(self, endpoint: Endpoint) -> Link:
        with self._lock:
            link = self._of_members.get(endpoint)
            if link is None:
                try:
                    link = self._of_members[endpoint] = Link((endpoint,), self._tls, "etcd-member")
                except (OSError, RuntimeError) as error:  # no descriptor is left, or no thread
                    raise NotSentError(f"{endpoint}: {error}") from None
                if self._closed:
                    link.close()
            return link

    def _token(self) -> str:
        if self._auth.used and not self._auth.token:
            self._renew_token("")
        return self._auth.token

    def _renew_token(self, refused: str) -> None:
        future: Future[EtcdError | None] = Future()
        self._auth.renew(refused, self._calls, future.set_result)
        error = _awaited(future, AUTHENTICATE_TIMEOUT_S)
        if error is not None:
            raise error


def _renewed(data: bytes) -> Lease:
    result = lease_result(data)
    if result.ttl_s <= 0:
        raise LeaseNotFoundError(f"lease {result.id:x} has ended")
    return result


def _awaited(future: Future[T], timeout_s: float) -> T:
    """Return what the client's thread tells, which may be held up, as while a token is awaited."""
    try:
        return future.result(timeout_s + GRACE_S)
    except TimeoutError:
        raise DeadlineExceededError("no answer in time, neither of etcd nor why there is none") from None


@final
class _Request(Generic[T]):
    """A call, and that it is sent again when its token was refused."""

    __slots__ = (
        "_client",
        "_deadline_s",
        "_decode",
        "_done",
        "_link",
        "_message",
        "_method",
        "_needs_leader",
        "_silence_s",
        "_token",
        "_tokens",
    )

    def __init__(
        self,
        client: EtcdClient,
        link: Link,
        method: str,
        message: Sequence[bytes],
        timeout_s: float,
        decode: Callable[[bytes], T],
        done: Completion[T],
        *,
        needs_leader: bool = True,
        silence_s: float = math.inf,
    ) -> None:
        self._client = client
        self._link = link
        self._method = method
        self._message = message
        self._deadline_s = time.monotonic() + timeout_s
        self._decode = decode
        self._done = done
        self._needs_leader = needs_leader
        self._silence_s = silence_s
        self._token = ""
        self._tokens = 0

    def start(self) -> None:
        auth = self._client._auth  # noqa: SLF001 - a part of the client, in a class of its own
        if auth.used and not auth.token:
            auth.renew("", self._client._calls, self._send)  # noqa: SLF001
        else:
            self._send(None)

    def _send(self, error: EtcdError | None) -> None:
        if error is not None:
            self._done(error)
            return
        self._token = self._client._auth.token  # noqa: SLF001
        self._link.submit(
            UnaryCall(
                self._method,
                self._message,
                self._deadline_s,
                self._finish,
                needs_leader=self._needs_leader,
                token=self._token,
                silence_s=self._silence_s,
            )
        )

    def _finish(self, outcome: Outcome) -> None:
        auth = self._client._auth  # noqa: SLF001
        if isinstance(outcome, TokenRefusedError) and auth.used and self._tokens < MAX_TOKENS_A_CALL:
            self._tokens += 1
            auth.renew(self._token, self._client._calls, self._send)  # noqa: SLF001
        elif isinstance(outcome, EtcdError):
            self._done(outcome)
        else:
            result: T | EtcdError
            try:
                self._client.check_cluster(header_of(outcome))
                result = self._decode(outcome)
            except EtcdError as error:
                result = error
            except Exception as error:  # noqa: BLE001 - a decoder's: the server's answer is malformed
                result = ProtocolBrokenError(f"{type(error).__name__}: {error}")
            self._done(result)
