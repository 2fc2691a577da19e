"""The admin port: its sockets, and a thread for each of a few connections.

Threads and not asyncio: a server keeps Python's garbage collector from walking its data, so nothing here may need it,
and asyncio's connections are in cycles.
"""

import selectors
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from threading import Lock, Thread
from typing import Final, TypeAlias, final

from kvs.adapters.inbound.admin.exchange import Exchange, Respond
from kvs.adapters.inbound.admin.pace import Pace
from kvs.log_type import FilteringBoundLogger

MAX_CONNECTIONS: Final = 16
"""At a time; one more takes the place of another."""

MOST_THREADS: Final = 2 * MAX_CONNECTIONS
"""Threads at a time, with those of connections that are just ending."""

STOP_S: Final = 2.0
"""Longest wait for threads at the end."""

ACCEPT_RETRY_S: Final = 1.0
LONGEST_PAUSE_S: Final = 0.5

Tls: TypeAlias = Callable[[], ssl.SSLContext | None]
"""Returns what new connections are encrypted with; None: nothing."""


@final
class AdminPort:
    """Accepts connections, and answers their requests.

    Args:
        sockets: Bound and listening; closed at the end.
        tls: Encrypts.
        respond: Answers requests. By several threads.
        log: Bound logger.
    """

    def __init__(self, sockets: Sequence[socket.socket], tls: Tls, respond: Respond, log: FilteringBoundLogger) -> None:
        self._sockets = sockets
        self._tls = tls
        self._respond = respond
        self._log = log
        self._pace = Pace()
        self._ended = False
        self._lock = Lock()
        self._exchanges: dict[Exchange, Thread] = {}  # in order of arrival
        self._wakes, self._woken = socket.socketpair()
        self._acceptor = Thread(target=self._accept_all, name="kvs-admin", daemon=True)

    def start(self) -> None:
        """Accept connections from now on."""
        self._acceptor.start()

    def close(self) -> None:
        """End all connections, and stop listening."""
        with self._lock:
            self._ended = True
            threads = [self._acceptor, *self._exchanges.values()]
            exchanges = list(self._exchanges)
        self._wakes.close()
        for exchange in exchanges:
            exchange.end()
        until_s = time.monotonic() + STOP_S
        for thread in threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        for sock in self._sockets:
            sock.close()

    def _accept_all(self) -> None:
        with selectors.DefaultSelector() as selector, self._woken:
            selector.register(self._woken, selectors.EVENT_READ)
            for sock in self._sockets:
                sock.settimeout(0)
                selector.register(sock, selectors.EVENT_READ)
            while not self._ended:
                for key, _ in selector.select():
                    if isinstance(key.fileobj, socket.socket) and key.fileobj is not self._woken and not self._ended:
                        self._accept(key.fileobj)

    def _accept(self, listening: socket.socket) -> None:
        time.sleep(self._pace.delay_s(LONGEST_PAUSE_S))
        began_s = time.thread_time()
        try:
            sock, address = listening.accept()
        except BlockingIOError:
            return
        except OSError:  # out of descriptors, and it stays readable
            time.sleep(ACCEPT_RETRY_S)
            return
        self._open(sock, f"{address[0]}:{address[1]}")
        self._pace.charge(time.thread_time() - began_s)

    def _open(self, sock: socket.socket, peer: str) -> None:
        """Have a connection served by a thread, if there may be one more."""
        context = self._tls()
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError:  # it is gone
            sock.close()
            return
        exchange = Exchange(sock, peer, self._respond, self._pace)
        thread = Thread(target=self._serve, args=(exchange,), name="kvs-admin", daemon=True)
        with self._lock:
            open_now = [other for other in self._exchanges if not other.closed]
            accepted = len(self._exchanges) < MOST_THREADS and not self._ended
            try:
                if accepted:
                    thread.start()
                    self._exchanges[exchange] = thread
            except RuntimeError:  # there are too many threads
                accepted = False
        if not accepted:
            exchange.close()
        elif len(open_now) >= MAX_CONNECTIONS:
            _least_deserving(open_now).end()

    def _serve(self, exchange: Exchange) -> None:
        failure: Exception | None = None
        try:
            exchange.run()
        except Exception as error:  # noqa: BLE001  # a fault of ours, which is no reason to end anything else
            failure = error
        with self._lock:
            del self._exchanges[exchange]
        if failure is not None:
            self._log.error("unexpected", reason="the admin port could not answer", exc_info=failure)


def _least_deserving(exchanges: Sequence[Exchange]) -> Exchange:
    """Return which of several, in order of arrival, is to make room.

    One of the client that has most of them: whose response is held back, else the one that has waited longest for a
    request, else the oldest.
    """
    (most, _), *_ = Counter([exchange.network for exchange in exchanges]).most_common(1)
    of_it = [exchange for exchange in exchanges if exchange.network == most]
    return min(of_it, key=lambda exchange: (not exchange.delayed, not exchange.waits))
