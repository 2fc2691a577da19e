"""One connected client, seen by the server: what every transport does alike.

A transport subclasses :class:`Client` and moves bytes. Here is when it may: which input is taken, when replies leave,
when reading stops, and how a connection ends without losing a reply that is due.

Slow but honest
    A client that takes any of its replies, however little at a time, is neither stalled nor idle. What it has taken
    shows in the kernel's buffer first: after a reply of megabytes, the server cannot send more before the client has
    taken a third of what the kernel holds, which may take it minutes. So the kernel is asked.
"""

import fcntl
import os
import socket
import sys
import termios
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from kvs.adapters.inbound.protocol.connection import Connection

if TYPE_CHECKING:
    from kvs.adapters.inbound.net.server import Server

QUOTA: Final = 1000

LINGER_BYTES: Final = 16 << 20
"""Most input that is thrown away after the last reply, before the connection is closed hard. While the client has not
taken that reply, there is no such limit: the kernel would throw the reply away with the connection."""

LINGER_TIMEOUT_S: Final = 1.0
"""Longest wait for the client to close after it has taken the last reply. A plain close with unread input makes the
kernel reset the connection, and the last reply with it."""

SO_NWRITE: Final = 0x1024
"""macOS's socket option for the bytes in the send buffer; Python has no name for it."""


def kernel_input_bytes(fd: int) -> int:
    """Return how much input the kernel holds for a socket."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def kernel_output_bytes(fd: int) -> int:
    """Return how much output the kernel holds that the peer's kernel has not taken; 0 if the system does not tell."""
    try:
        if sys.platform == "linux":
            return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        if sys.platform == "darwin":
            with socket.socket(fileno=os.dup(fd)) as sock:
                return sock.getsockopt(socket.SOL_SOCKET, SO_NWRITE)
    except OSError:  # the connection is over
        pass
    return 0


class Client(ABC):
    """A client of any transport.

    Attributes:
        connection: Its conversation; another one from the first byte on, which tells its protocol.
        peer: Its address, for the log.
        connected_s: When it came, in seconds of the loop's clock.
        last_input_s: When it last sent something, was read from again, or was seen to have taken some of a reply that
            it had not taken whole; in seconds of the loop's clock.
        refused: It is here only to be told that there are too many.
        touched: It is on the server's list for the end of this tick.
    """

    def __init__(self, server: "Server", connection: Connection, peer: str, now_s: float) -> None:
        self.connection = connection
        self.peer: Final = peer
        self.connected_s: Final = now_s
        self.last_input_s = now_s
        self.refused = False
        self.touched = False
        self._server: Final = server
        self._local_address = ""  # asked for by few
        self._told = False  # which protocol it speaks
        self._reading = True
        self._input_ended = False
        self._output_full = False
        self._leaving = False
        self._lost = False
        self._discarded_bytes = 0
        self._owed_bytes = -1  # input still to be read before the drain ends it; -1: no drain
        self._unsent_bytes = 0  # as the budget was last told
        self._output_bytes = 0  # that it has been given in all
        self._taken_bytes = 0  # ... and has taken, when that was last looked at
        self._taken_s = now_s
        self._taking = False  # it had not taken everything then
        self._looked_s = now_s
        self._lingering_bytes = 0  # that it had not taken when the linger last looked

    # What a transport provides.

    @abstractmethod
    def send(self, data: bytes) -> int:
        """Send, or keep what cannot be sent at once; call :meth:`output_full` and :meth:`output_drained` by turns.

        Returns:
            How many bytes are kept now.
        """

    @abstractmethod
    def unsent_bytes(self) -> int:
        """Return how much has been kept."""

    @abstractmethod
    def fd(self) -> int:
        """Return the descriptor of the socket, or -1 if it has none any more."""

    @abstractmethod
    def find_local_address(self) -> str:
        """Return the address that the client has connected to; nothing if the socket is gone."""

    @abstractmethod
    def waiting_bytes(self) -> int:
        """Return how much input the kernel holds."""

    @abstractmethod
    def pause_reading(self) -> None:
        """Stop reading."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Read again."""

    @abstractmethod
    def shut_down_writing(self) -> None:
        """Tell the client, behind the last of the output, that there is no more."""

    @abstractmethod
    def close(self) -> None:
        """Close behind the last of the output."""

    @abstractmethod
    def abort(self) -> None:
        """Close now, unsent output or not."""

    # What a transport reports.

    def received(self, data: bytes, now_s: float) -> None:
        """Take input; run what it completes."""
        if self._leaving:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > LINGER_BYTES and not self._untaken_bytes():
                self.abort()
            return
        self.last_input_s = now_s
        if not self._told:
            self._told = True
            self.connection = self.connection.detect(data)
            self.connection.wake = self._woken
        self.connection.receive(data, QUOTA)
        if self._owed_bytes >= 0:
            self._owed_bytes -= len(data)
            if self._owed_bytes <= 0:
                self.connection.end_of_input()
        if not self.touched:
            self._server.touch(self)

    def input_ended(self) -> None:
        """The client has shut down its side; it may still be reading."""
        self._input_ended = True
        if self._leaving:
            self.close()
        else:
            self.connection.end_of_input()
            self._server.touch(self)

    def output_full(self) -> None:
        """The client does not read its replies: run nothing more for it, and read nothing."""
        self._output_full = True
        self._adjust_reading()

    def output_drained(self) -> None:
        """The client reads again."""
        self._output_full = False
        if self.connection.backlog:
            self._continue()
        else:
            self._adjust_reading()

    def lost(self) -> None:
        """The socket is gone."""
        if not self._lost:
            self._lost = True
            self.connection.close()
            self._server.budget.used_bytes -= self._unsent_bytes
            self._unsent_bytes = 0
            self.connection.when_closed(self._left)

    # What the server asks.

    def flush(self) -> None:
        """Send the replies of this tick, and decide how to go on."""
        if self._lost:
            return
        connection = self.connection
        output = connection.take_output()
        if output:
            self._output_bytes += len(output)
            unsent = self.send(output)
            if self._lost:
                return
            if unsent or self._unsent_bytes:
                self._charge(unsent)
        if connection.closing:
            self._leave()
        elif connection.backlog:
            if not self._output_full:
                self._continue()
        elif self._reading and not self._output_full:
            return  # nothing out of the ordinary
        self._adjust_reading()

    def resume(self) -> None:
        """Run more of the backlog, unless the client is to read first."""
        if not (self._lost or self._output_full):
            self.connection.resume(QUOTA)
            self._server.touch(self)

    def drain(self) -> None:
        """Run what the client has sent up to now, then end."""
        self._owed_bytes = self.waiting_bytes()
        if self._owed_bytes == 0:
            self.connection.end_of_input()
            self._server.touch(self)

    def local_address(self) -> str:
        """Return the address that the client has connected to."""
        if not self._local_address:
            self._local_address = self.find_local_address()
        return self._local_address

    def events(self) -> str:
        """Return what is waited for: ``r`` for input, ``w`` for the client to take output."""
        return ("r" if self._reading else "") + ("w" if self.unsent_bytes() else "")

    def idle_s(self, now_s: float) -> float:
        """Return for how long the client has neither sent nor taken anything, 0 while it is not its turn to send."""
        return now_s - self.last_input_s if self._reading else 0.0

    def output_stalled_s(self, now_s: float) -> float:
        """Return for how long the client has taken none of the output it is owed. To be asked now and then.

        What only the kernel holds does not count, unless it is all that the client is still here for: it costs us
        nothing, and the client may have better things to do than to read.
        """
        unsent = self.unsent_bytes()
        self._charge(unsent)
        last_look_s, self._looked_s = self._looked_s, now_s
        if self._taken_bytes == self._output_bytes and not self._leaving:
            self._taken_s = now_s
            return 0.0
        taken = self._output_bytes - self._untaken_bytes()
        if taken > self._taken_bytes or not self._taking:
            if self._taking:  # so it is not idle; if it has everything now, it may have had it since that look
                self.last_input_s = max(self.last_input_s, now_s if unsent else last_look_s)
            self._taken_bytes = taken
            self._taken_s = now_s
            self._taking = taken < self._output_bytes
        return now_s - self._taken_s if unsent or self._leaving else 0.0

    def _continue(self) -> None:
        """Have more of the backlog run as soon as something can come of it."""
        if not self.connection.busy:
            self._server.continue_next_tick(self)

    def _woken(self) -> None:
        self._server.touch(self)

    def _left(self) -> None:
        self._server.left(self)

    def _charge(self, unsent: int) -> None:
        self._server.budget.used_bytes += unsent - self._unsent_bytes
        self._unsent_bytes = unsent

    def _adjust_reading(self) -> None:
        wanted = self._leaving or not (self._output_full or self.connection.backlog)
        if wanted != self._reading and not (self._lost or self._input_ended):
            self._reading = wanted
            if wanted:
                self.last_input_s = self._server.now_s()  # only now it is the client's turn
                self.resume_reading()
            else:
                self.pause_reading()

    def _leave(self) -> None:
        if self._leaving:
            return
        self._leaving = True
        if self._input_ended:
            self.close()
        else:
            self.shut_down_writing()
            self._lingering_bytes = self._untaken_bytes()
            self._server.call_later(LINGER_TIMEOUT_S, self._linger)

    def _linger(self) -> None:
        """Close, if the client had taken everything when this was last looked at, and yet has not closed."""
        if self._lost:
            return
        untaken, self._lingering_bytes = self._lingering_bytes, self._untaken_bytes()
        if untaken or self._lingering_bytes:  # a client that never takes it is ended by output_timeout_s
            self._server.call_later(LINGER_TIMEOUT_S, self._linger)
        else:
            self.abort()

    def _untaken_bytes(self) -> int:
        fd = self.fd()
        return self.unsent_bytes() + (kernel_output_bytes(fd) if fd >= 0 else 0)
