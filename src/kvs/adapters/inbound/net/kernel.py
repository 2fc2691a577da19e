"""The kernel's buffers of a connection: unread input, and output that the peer has not acknowledged."""

import fcntl
import os
import socket
import sys
import termios
from typing import Final

SO_NWRITE: Final = 0x1024
"""macOS's socket option for the size of the send buffer's content; Python does not define it."""


def unread_input_bytes(fd: int) -> int:
    """Return the size of unread input of a socket."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def untaken_output_bytes(fd: int) -> int:
    """Return the size of output that the peer's kernel has not acknowledged; 0 where the system does not report it."""
    try:
        if sys.platform == "linux":
            return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        if sys.platform == "darwin":
            with socket.socket(fileno=os.dup(fd)) as sock:
                return sock.getsockopt(socket.SOL_SOCKET, SO_NWRITE)
    except OSError:  # the connection is over
        pass
    return 0
