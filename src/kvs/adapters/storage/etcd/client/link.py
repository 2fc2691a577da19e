"""A connection to one member at a time, kept by a thread of its own: calls are handed over, and nobody waits.

Whoever submits a call appends it to a queue and, if the thread sleeps, writes one byte to a pipe: no lock is taken. The
thread alone touches the socket. It sleeps without the interpreter's lock, and a call needs that for some 0.1 ms in all.

A call that was sent stays with its connection, and is lost with it: its outcome is then unknown, and it is never sent
again from here. A call that was not sent waits for a connection to another member, until its deadline.
"""

import heapq
import itertools
import math
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, final

from kvs.adapters.storage.etcd.client import hpack
from kvs.adapters.storage.etcd.client.call import Call
from kvs.adapters.storage.etcd.client.dialling import Dialler, Secure
from kvs.adapters.storage.etcd.client.endpoints import Endpoint, Rotation
from kvs.adapters.storage.etcd.client.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    NotSentError,
    TooBusyError,
)
from kvs.adapters.storage.etcd.client.http2 import Http2, Received
from kvs.adapters.storage.etcd.client.wakeup import Wakeup

MAX_WAITING_CALLS: Final = 1024
"""Calls that have not been sent; more are refused."""

STUCK_S: Final = 1.5
"""After so long without an answer that takes a majority, a call that is given up has its member left. Frames of HTTP/2,
and answers that take none, also come from one whose disk hangs, and which the others have replaced."""

PING_AFTER_S: Final = 6.0
"""After that long a silence the member is asked for a sign of life. etcd closes the connection of who asks more often
than every 5 s (``--grpc-keepalive-min-time``)."""

PING_TIMEOUT_S: Final = 3.0
POLL_RETRY_S: Final = 0.01
RECEIVE_BYTES: Final = 64 << 10
READS_A_TURN: Final = 16
"""Then it is the turn of commands and deadlines, however much there is to read."""

_POLL_IN: Final = select.POLLIN
_POLL_OUT: Final = select.POLLOUT


class _LostError(Exception):
    """The connection is of no more use."""


@final
class Link:
    """Keeps a connection to one of several members, and runs calls on it.

    Args:
        endpoints: Where the members are.
        tls: Returns how a new connection is secured; None: none is.
        name: Of the thread.
    """

    def __init__(self, endpoints: tuple[Endpoint, ...], tls: Secure | None = None, name: str = "etcd") -> None:
        self._rotation = Rotation(endpoints)
        self._tls = tls
        self._dialler = Dialler(tls, self._sleep_to_connect, lambda: self._command(lambda: None))
        self._commands: deque[Callable[[], None]] = deque()
        self._closing = False
        self._numbers = itertools.count()
        # Of the thread alone:
        self._waiting: deque[Call] = deque()
        self._deadlines: list[tuple[float, int, Call]] = []
        self._calls: dict[int, Call] = {}
        self._socket: socket.socket | None = None
        self._http2 = Http2()
        self._blocks: dict[tuple[str, str, bool], bytes] = {}
        self._unsent = memoryview(b"")
        self._opened: list[Call] = []  # on streams, and nothing of them has been written yet
        self._heard_s = 0.0  # when the member was last heard
        self._asked_s = math.inf  # since when it could have given an answer that takes a majority, and has given none
        self._silent_s = 0.0  # since when it could have been
        self._pinged = False
        self._leaving = False
        self._trouble = ""  # why there is no connection
        self._connected_to: Endpoint | None = None
        self._poll = select.poll()
        wakeup = Wakeup()
        self._wakeup: Wakeup | None = wakeup  # of the thread; None: it has ended
        self._poll.register(wakeup.descriptor, _POLL_IN)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    # From any thread.

    @property
    def endpoint(self) -> Endpoint | None:
        """The member that it is connected to, if it is."""
        return self._connected_to

    def submit(self, call: Call) -> None:
        """Run a call; its outcome is passed on by the link's thread. Never blocks."""
        self._command(lambda: self._accept(call))

    def consumed(self, call: Call, size: int) -> None:
        """Say that so much of what a call has brought is needed no more."""
        self._command(lambda: self._http2.consumed(call.stream, size) if self._calls.get(call.stream) is call else None)

    def send_more(self, call: Call, body: Sequence[bytes]) -> None:
        """Send another message on the stream of a call, if it is still open."""
        self._command(
            lambda: self._http2.send(call.stream, body, ended=False) if self._calls.get(call.stream) is call else None
        )

    def close(self) -> None:
        """End the thread; calls that have not ended fail."""
        self._closing = True
        self._command(lambda: None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _command(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        wakeup = self._wakeup
        if wakeup is None:
            self._run_commands()
        else:
            wakeup.wake()

    # The thread: queue and deadlines.

    def _run(self) -> None:
        while not self._closing:
            try:
                if self._socket is not None:
                    self._exchange()
                elif self._waiting:
                    self._connect()
                else:
                    self._sleep(None, 0, None)
            except Exception as error:  # noqa: BLE001 - also of the receiver of an outcome: the thread must go on
                self._lost(str(error) or type(error).__name__)
        self._shut_down()

    def _sleep(self, sock: socket.socket | None, events: int, until_s: float | None) -> bool:
        """Wait for the socket, a command or a time; run commands and deadlines. Return whether the socket is ready."""
        ready = self._await(sock, events, until_s)
        self._run_deadlines()
        return ready

    def _await(self, sock: socket.socket | None, events: int, until_s: float | None) -> bool:
        """Do the same, but for deadlines."""
        if self._deadlines:
            until_s = self._deadlines[0][0] if until_s is None else min(until_s, self._deadlines[0][0])
        timeout_ms = None if until_s is None else max(0.0, (until_s - time.monotonic()) * 1000 + 1)
        if sock is not None:
            self._poll.register(sock, events)
        try:
            ready = [] if self._commands else self._poll.poll(timeout_ms)
            sock_ready = sock is not None and sock.fileno() in dict(ready)
        except OSError:  # the limit of open files has been lowered below the two that are polled
            time.sleep(POLL_RETRY_S)
            sock_ready = sock is not None
        finally:
            if sock is not None:
                self._poll.unregister(sock)
        if self._wakeup is not None:
            self._wakeup.woken()
        self._run_commands()
        return sock_ready

    def _run_commands(self) -> None:
        while self._commands:
            try:
                command = self._commands.popleft()
            except IndexError:  # when the link has been closed, several threads may be here
                return
            command()

    def _accept(self, call: Call) -> None:
        if len(self._waiting) >= MAX_WAITING_CALLS or self._closing:
            call.end(
                NotSentError("the client was closed")
                if self._closing
                else TooBusyError(f"{len(self._waiting)} calls wait for a connection to etcd")
            )
            return
        if len(self._deadlines) > 2 * (len(self._calls) + len(self._waiting)) + MAX_WAITING_CALLS:
            self._deadlines = [entry for entry in self._deadlines if not entry[2].ended]
            heapq.heapify(self._deadlines)
        for due_s in (call.deadline_s, call.doubt_s):
            if due_s < math.inf:
                heapq.heappush(self._deadlines, (due_s, next(self._numbers), call))
        self._waiting.append(call)
        self._open_streams()

    def _run_deadlines(self) -> None:
        now = time.monotonic()
        while self._deadlines and (self._deadlines[0][2].ended or self._deadlines[0][0] <= now):
            due_s, _, call = heapq.heappop(self._deadlines)
            if not call.ended and due_s < call.deadline_s:
                self._doubt(call, due_s)
            elif not call.ended:
                self._expire(call)

    def _expire(self, call: Call) -> None:
        if call.ended:
            return
        if not call.stream:
            with suppress(ValueError):
                self._waiting.remove(call)
            call.end(NotSentError(self._trouble or "no connection to etcd in time"))
            return
        self._calls.pop(call.stream, None)
        self._http2.reset(call.stream)
        call.end(DeadlineExceededError("no answer from etcd in time"))
        self._doubt(call, call.deadline_s)

    def _doubt(self, call: Call, due_s: float) -> None:
        """Leave the member if it gives no sign of life, or none that takes a majority, and a call was due."""
        now_s, half_s = time.monotonic(), (due_s - call.made_s) / 2
        if max(call.sent_s - call.made_s, now_s - due_s) > half_s:
            return  # the member had little of that time, or this thread has stood still
        silent = self._heard_s < call.sent_s  # not one byte since: it hangs
        if silent or now_s - self._asked_s >= STUCK_S:
            self._leaving = self._socket is not None

    # The thread: the connection.

    def _connect(self) -> None:
        endpoint = self._rotation.endpoint
        self._socket = self._dialler.dial(endpoint)
        self._connected_to = endpoint
        self._http2 = Http2()
        self._blocks.clear()
        self._unsent = memoryview(b"")
        self._opened.clear()
        self._heard_s = time.monotonic()
        self._asked_s = math.inf
        self._pinged = self._leaving = False
        self._trouble = ""
        self._open_streams()

    def _sleep_to_connect(self, sock: socket.socket | None, events: int, until_s: float) -> bool:
        ready = self._sleep(sock, events, until_s)
        if self._closing:
            raise _LostError("the client was closed")
        return ready

    def _exchange(self) -> None:
        sock = self._socket
        if sock is None:
            return
        if not self._calls and (self._http2.going_away or (self._waiting and not self._http2.accepts_stream)):
            raise _LostError("the member takes no more calls")
        self._write(sock)
        until_s = None
        if self._calls:
            until_s = self._silent_s + (PING_AFTER_S + PING_TIMEOUT_S if self._pinged else PING_AFTER_S)
        ready = self._await(sock, _POLL_IN | (_POLL_OUT if self._unsent else 0), until_s)
        is_due = bool(self._deadlines) and self._deadlines[0][0] <= time.monotonic()
        if ready or is_due:  # what has come counts, however late this thread looks
            self._read(sock, all_of_it=is_due)
        self._run_deadlines()
        if self._leaving:
            raise _LostError("turned to another member")
        if not ready and until_s is not None and time.monotonic() >= until_s:
            if self._pinged:
                raise _LostError("the member gives no sign of life")
            self._pinged = True
            self._silent_s = time.monotonic() - PING_AFTER_S  # it has its time from now on
            self._http2.ping()

    def _write(self, sock: socket.socket) -> None:
        while True:
            if not self._unsent:
                self._unsent = memoryview(self._http2.take_output())
                if not self._unsent:
                    break
            try:
                sent = sock.send(self._unsent)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                break
            self._unsent = self._unsent[sent:]
        if self._opened:
            now_s = time.monotonic()
            for call in self._opened:
                call.sent_s = now_s
            self._opened.clear()

    def _read(self, sock: socket.socket, *, all_of_it: bool) -> None:
        for _ in range(READS_A_TURN):
            try:
                data = sock.recv(RECEIVE_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            if not data:
                raise _LostError("the member closed the connection")
            self._heard_s = self._silent_s = time.monotonic()
            self._pinged = False
            for received in self._http2.receive(data):
                self._take(received)
            if self._leaving:
                raise _LostError("the member cannot serve")
            if self._http2.going_away:
                self._go_away()
            self._open_streams()
            if len(data) < RECEIVE_BYTES and not (all_of_it or isinstance(sock, ssl.SSLSocket)):
                return

    def _take(self, received: Received) -> None:
        call = self._calls.get(received.stream)
        if call is None:
            return
        credit = call.take(received)
        if call.ended:
            self._calls.pop(received.stream, None)
            if not received.ended:  # by itself
                self._http2.reset(received.stream)
            if call.member_failed:
                self._leaving = True
            else:
                self._rotation.worked()
        elif credit:
            self._http2.consumed(received.stream, credit)
        if received.data and call.agreed and not call.member_failed:
            waits = any(other.agreed and other is not call for other in self._calls.values())
            self._asked_s = self._heard_s if waits else math.inf

    def _open_streams(self) -> None:
        if self._socket is None:
            return
        now_s = time.monotonic()
        while self._waiting and self._http2.accepts_stream:
            call = self._waiting.popleft()
            if call.deadline_s <= now_s:  # another link had it for too long
                call.end(NotSentError("it could not be sent in time"))
                continue
            key = (call.method, call.token, call.needs_leader)
            block = self._blocks.get(key)
            if block is None:
                if len(self._blocks) > 64:  # tokens come and go
                    self._blocks.clear()
                block = self._blocks[key] = hpack.encode(
                    call.headers("http" if self._tls is None else "https", str(self._connected_to))
                )
            if call.agreed:
                self._asked_s = min(self._asked_s, now_s)
            if not self._calls:
                self._silent_s = now_s  # before, there was nothing to be told
                self._pinged = False
            call.stream = self._http2.open(block, call.body, ended=call.ends)
            self._calls[call.stream] = call
            self._opened.append(call)

    def _go_away(self) -> None:
        """Take back what the other end has not looked at; leave when the rest is answered."""
        for number in sorted((number for number in self._calls if number > self._http2.last_stream), reverse=True):
            call = self._calls.pop(number)
            self._http2.reset(number)
            if call.answered or not call.ends:  # it has looked at it all the same, or more was sent behind it
                call.end(ConnectionLostError("the member is going away"))
            else:
                call.stream = 0
                self._waiting.appendleft(call)
        if not self._calls:
            raise _LostError("the member is going away")

    def _lost(self, reason: str) -> None:
        self._trouble = f"{self._rotation.endpoint}: {reason}"
        self._drop_connection(self._trouble)
        delay_s = self._rotation.failed()
        until_s = time.monotonic() + delay_s
        while delay_s and not self._closing and time.monotonic() < until_s:
            self._sleep(None, 0, until_s)

    def _drop_connection(self, reason: str) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._connected_to = None
        calls = list(self._calls.values())
        self._calls.clear()
        for call in calls:
            call.end(ConnectionLostError(reason))

    def _shut_down(self) -> None:
        self._drop_connection("the client was closed")
        self._wakeup = None  # its pipe is closed when nobody is about to wake this thread any more
        self._run_commands()
        for call in self._waiting:
            call.end(NotSentError("the client was closed"))
        self._waiting.clear()
