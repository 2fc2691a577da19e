"""Watches a range: its changes, in the order of revisions, from a given one on."""

import math
import threading
import time
from collections import deque
from typing import Final, NamedTuple, final

from kvs.adapters.storage.etcd.client.answers import Event, Header, WatchAnswer, watch_answer
from kvs.adapters.storage.etcd.client.call import Call, framed
from kvs.adapters.storage.etcd.client.dialling import Secure
from kvs.adapters.storage.etcd.client.endpoints import Endpoint
from kvs.adapters.storage.etcd.client.errors import (
    AccessDeniedError,
    CompactedError,
    DeadlineExceededError,
    EtcdError,
    ProtocolBrokenError,
    TokenRefusedError,
    UnavailableError,
)
from kvs.adapters.storage.etcd.client.link import Link
from kvs.adapters.storage.etcd.client.requests import PROGRESS_REQUEST, WATCH, watch_request
from kvs.adapters.storage.etcd.client.wire import WireError
from kvs.override import override


class Changes(NamedTuple):
    """Whole revisions, in order; or none, which says that the watch is alive.

    ``revision`` is that of the last change, or at which the member reported that there was none. A member before 3.4.25
    may report progress ahead of changes that it has not sent: such a report is a sign of life, and no more.
    """

    revision: int
    events: tuple[Event, ...]


@final
class Revisions:
    """Makes whole revisions of what comes, each once and in order.

    A fragment may end in the middle of a revision. And by its change log, etcd before 3.4.38 may send changes twice,
    from before the first revision of interest, and again from a member that was given a snapshot.

    Args:
        first: The first revision of interest.
    """

    def __init__(self, first: int) -> None:
        self._next = first
        self._held: list[Event] = []

    def take(self, answer: WatchAnswer) -> Changes | None:
        """Return the changes that an answer completes, a sign of life if it has none, or None if more must come."""
        if not answer.events:
            return Changes(answer.header.revision, ())
        events = [*self._held, *(event for event in answer.events if event.kv.mod_revision >= self._next)]
        self._held = []
        if answer.fragment and events:
            last = events[-1].kv.mod_revision
            self._held = [event for event in events if event.kv.mod_revision == last]
            del events[len(events) - len(self._held) :]
        if not events:
            return None
        self._next = events[-1].kv.mod_revision + 1
        return Changes(self._next - 1, tuple(events))


@final
class _WatchCall(Call):
    """The stream. Messages wait, as they came, until somebody takes them; the window bounds them."""

    __slots__ = ("_changed", "_error", "_messages")

    def __init__(self, message: bytes, token: str) -> None:
        super().__init__(WATCH, [message], math.inf, token=token)
        self.ends = False
        self._changed = threading.Condition()
        self._messages: deque[tuple[bytes, int]] = deque()
        self._error: EtcdError | None = None

    def next_message(self, until_s: float) -> tuple[bytes, int] | None:
        """Return the next message, and how much of the window it fills; None if there is none in time.

        Raises:
            EtcdError: The stream has ended, and all it brought has been taken.
        """
        with self._changed:
            while not self._messages:
                if self._error is not None:
                    raise self._error
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    return None
                self._changed.wait(left_s)
            return self._messages.popleft()

    @override
    def _take_message(self, message: bytes, owed: int) -> int:
        with self._changed:
            self._messages.append((message, owed))
            self._changed.notify_all()
        return 0

    @override
    def _end(self, error: EtcdError | None) -> None:
        with self._changed:
            self._error = error or UnavailableError("the member ended the watch")
            self._changed.notify_all()


@final
class Watch:
    """A watch, on a connection of its own.

    With TLS, etcd before 3.4.25 starves watches beside many reads on the same connection. A watch
    does not survive its connection: who needs what follows opens another, from the next revision on.

    Args:
        endpoints: Where the members are.
        tls: Returns how a new connection is secured; None: none is.
        token: Says who watches.
        key: The first key.
        end: Behind the last key; empty for one key alone.
        revision: The first revision of interest; 0 for whatever comes.

    Concurrency: one thread takes changes; any thread may close it.
    """

    def __init__(
        self,
        endpoints: tuple[Endpoint, ...],
        tls: Secure | None,
        token: str,
        key: bytes,
        end: bytes,
        revision: int,
    ) -> None:
        self._call = _WatchCall(watch_request(key, end, revision), token)
        self._revisions = Revisions(revision)
        self._link: Final = Link(endpoints, tls, "etcd-watch")
        self._link.submit(self._call)

    @property
    def endpoint(self) -> Endpoint | None:
        """The member that it is connected to, if it is."""
        return self._link.endpoint

    def wait_created(self, timeout_s: float) -> Header:
        """Wait until the watch is set up; return the header that says of which cluster.

        Raises:
            DeadlineExceededError: It was not in time.
            EtcdError: It cannot be set up.
        """
        answer = self._next(time.monotonic() + timeout_s)
        if answer is None:
            raise DeadlineExceededError("the watch was not set up in time")
        if not answer.created:
            raise ProtocolBrokenError("a watch that was not set up has changes")
        return answer.header

    def next(self, timeout_s: float) -> Changes | None:
        """Return the next changes, or a sign of life; None if nothing comes in time.

        Raises:
            CompactedError: The next revision is no longer there.
            EtcdError: The watch has ended.
        """
        until_s = time.monotonic() + timeout_s
        while True:
            answer = self._next(until_s)
            if answer is None:
                return None
            changes = self._revisions.take(answer)
            if changes is not None:
                return changes

    def request_progress(self) -> None:
        """Ask for a sign of life."""
        self._link.send_more(self._call, framed([PROGRESS_REQUEST]))

    def close(self) -> None:
        """End the watch, and its connection."""
        self._link.close()

    def _next(self, until_s: float) -> WatchAnswer | None:
        found = self._call.next_message(until_s)
        if found is None:
            return None
        message, owed = found
        self._link.consumed(self._call, owed)
        try:
            answer = watch_answer(message)
        except WireError as error:
            raise ProtocolBrokenError(str(error)) from None
        if answer.cancelled:
            raise _cancellation(answer)
        return answer


def _cancellation(answer: WatchAnswer) -> EtcdError:
    reason = answer.reason or "the member cancelled the watch"
    if answer.compact_revision:
        return CompactedError(reason, answer.compact_revision)
    if "invalid auth token" in reason or "auth store is old" in reason:
        return TokenRefusedError(reason)
    if "permission denied" in reason or "user name is empty" in reason:
        return AccessDeniedError(reason)
    return UnavailableError(reason)
