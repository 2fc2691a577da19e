"""Looking up the addresses of names, without waiting for it.

The system may take long for a name, half a minute if no server of names answers, and cannot be told to give up. So each
lookup has a thread of its own, which keeps no process from ending. The loop's pool of threads is not for that: a few
lookups that hang would hold up everything else there, the end of the loop included.
"""

import socket
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import Final, NamedTuple, TypeAlias, final

from kvs.addresses import Address

Found: TypeAlias = tuple[int, int, int, str, Address]
"""Family, type and protocol of a socket, a name that nobody asked for, and where to connect it."""

FRESH_S: Final = 30.0
"""How long an answer counts for which nobody waited any more."""


class _Lookup(NamedTuple):
    """A lookup, and when it was begun."""

    found: Future[Sequence[Found]]
    began_s: float


@final
class Lookups:
    """What one thread or loop looks up: a name that takes long is not looked up again meanwhile."""

    def __init__(self) -> None:
        self._unanswered: dict[tuple[str, int], _Lookup] = {}

    def begin(self, host: str, port: int) -> Future[Sequence[Found]]:
        """Return the addresses, as soon as they are known: of what is an address itself, at once.

        A caller that has got them calls :meth:`forget`. One that has given up may call this again, for the same lookup.
        """
        lookup = self._unanswered.get((host, port))
        if lookup is None or _is_over(lookup):
            lookup = self._unanswered[host, port] = _Lookup(_begun(host, port), time.monotonic())
        return lookup.found

    def forget(self, host: str, port: int) -> None:
        """Look this up anew the next time."""
        self._unanswered.pop((host, port), None)


def _is_over(lookup: _Lookup) -> bool:
    found = lookup.found
    return found.done() and (found.exception() is not None or time.monotonic() - lookup.began_s > FRESH_S)


def _begun(host: str, port: int) -> Future[Sequence[Found]]:
    found: Future[Sequence[Found]] = Future()
    found.set_running_or_notify_cancel()  # who waits for it no more does not end it for others
    with suppress(OSError, UnicodeError):
        found.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
        return found
    try:
        Thread(target=_look_up, args=(host, port, found), name="kvs-lookup", daemon=True).start()
    except RuntimeError as error:  # there are too many
        found.set_exception(OSError(str(error)))
    return found


def _look_up(host: str, port: int, found: Future[Sequence[Found]]) -> None:
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as failure:
        found.set_exception(failure)
    except UnicodeError as error:
        found.set_exception(OSError(f"{host}: {error}"))
    else:
        found.set_result(addresses)
