"""One connection of the admin port: requests in, responses out, by a thread of its own.

h11 parses, and refuses what is ambiguous. Each request has a deadline for all of it, whatever the client sends in
between, and each response one for being taken.
"""

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from threading import Event
from typing import Final, TypeAlias, final

import h11

from kvs.adapters.inbound.admin.messages import RefusedError, Request, Response
from kvs.adapters.inbound.admin.pace import Pace
from kvs.application.failures import network_of

MAX_HEAD_BYTES: Final = 16 << 10
MAX_BODY_BYTES: Final = 4 << 10
MAX_REQUESTS: Final = 1000
"""Requests on one connection."""

REQUEST_S: Final = 20.0
"""Longest wait for a request, from the response before to its end."""

RESPONSE_S: Final = 20.0
HANDSHAKE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 1.0
READ_BYTES: Final = 8 << 10

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every response."""

Respond: TypeAlias = Callable[[Request], Response]


@final
class Exchange:
    """The requests of a connection.

    Args:
        sock: Its socket; closed at the end. The handshake of TLS is still to be done.
        peer: The address of the client.
        respond: Answers requests.
        pace: Bounds the processor time.

    Attributes:
        network: What counts as one client; see :func:`kvs.application.failures.network_of`.
        waits: It waits for a request, of which nothing has arrived.
        delayed: A response is held back.
        closed: It has ended.
    """

    def __init__(self, sock: socket.socket, peer: str, respond: Respond, pace: Pace) -> None:
        self.network: Final = network_of(peer)
        self.waits = True
        self.delayed = False
        self._end = Event()
        self._socket = sock
        self._peer = peer
        self._respond = respond
        self._pace = pace
        self._tls = sock if isinstance(sock, ssl.SSLSocket) else None
        self._deadline_s = 0.0
        self._charged_s = 0.0  # processor time of the thread, up to the last charge
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self.closed = False

    def run(self) -> None:
        """Answer requests until the connection ends."""
        self._charged_s = time.thread_time()
        try:
            if self._tls is not None:
                self._tls.settimeout(HANDSHAKE_S)
                self._tls.do_handshake()
            for _ in range(MAX_REQUESTS):
                self.waits = True
                if not self._answer_next():
                    break
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            with suppress(h11.LocalProtocolError, OSError):
                if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    self._send(Response(error.error_status_hint, b"That is not HTTP/1.1 as it is taken here.\n"))
        except OSError:  # the client is gone, or too slow
            pass
        except Exception:
            if not self.closed:  # else another thread has ended it, and OpenSSL may say anything
                raise
        finally:
            self._charge()
            self.close()

    def end(self) -> None:
        """End the connection. By any thread.

        Its own thread closes the socket: another one might close it right before that waits for the descriptor, which
        by then is that of another connection.
        """
        self.closed = True
        self._end.set()
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # wakes the thread; nothing is left to OpenSSL

    def close(self) -> None:
        """Close the socket. By its own thread, or if it has none."""
        self.end()
        self._socket.close()

    def _answer_next(self) -> bool:
        """Answer the next request; return whether another may follow."""
        self._deadline_s = time.monotonic() + REQUEST_S
        request = self._read()
        if request is None:
            return False
        try:
            response = self._respond(request)
        except RefusedError as refused:
            response = refused.response()
        if response.delay_s:
            self.delayed = True
            self._end.wait(response.delay_s)
            self.delayed = False
        self._deadline_s = time.monotonic() + RESPONSE_S
        self._send(response, with_body=request.method != "HEAD")
        self._pause()
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    def _read(self) -> Request | None:
        """Return a whole request; None if none comes."""
        head: h11.Request | None = None
        body = b""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    self._socket.settimeout(self._left_s())
                    self._socket.sendall(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
                self._receive()
            elif isinstance(event, h11.Request):
                head = event
                self.waits = False
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_BODY_BYTES:
                    raise h11.RemoteProtocolError("the body is too long", error_status_hint=413)
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return self._request(head, body)
            else:
                return None

    def _receive(self) -> None:
        self._pause()  # a client that sends a request byte by byte takes a multiple of its price
        self._socket.settimeout(self._left_s())
        data = self._socket.recv(READ_BYTES)
        if data:
            self.waits = False
        self._http.receive_data(data)

    def _charge(self) -> None:
        """Charge the processor time since the last charge, in which waiting does not count."""
        now_s = time.thread_time()
        self._pace.charge(now_s - self._charged_s)
        self._charged_s = now_s

    def _pause(self) -> None:
        """Wait as long as what has been used so far takes."""
        self._charge()
        time.sleep(self._pace.delay_s(LONGEST_PAUSE_S))

    def _request(self, head: h11.Request, body: bytes) -> Request:
        headers: dict[str, str] = {}
        for name, value in head.headers:
            headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
        path = head.target.decode("latin-1").partition("?")[0]
        return Request(head.method.decode("latin-1"), path, headers, body, self._peer, self._tls is not None)

    def _send(self, response: Response, *, with_body: bool = True) -> None:
        headers = {
            **HEADERS,
            "Content-Type": response.kind,
            "Content-Length": str(len(response.body)),
            **response.headers,
        }
        reason = HTTPStatus(response.status).phrase
        head = h11.Response(status_code=response.status, headers=[*headers.items()], reason=reason.encode())
        out = self._http.send(head) or b""
        if with_body:
            out += self._http.send(h11.Data(data=response.body)) or b""
        out += self._http.send(h11.EndOfMessage()) or b""
        self._send_all(out)

    def _send_all(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            self._socket.settimeout(self._left_s())
            left = left[self._socket.send(left) :]

    def _left_s(self) -> float:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s
