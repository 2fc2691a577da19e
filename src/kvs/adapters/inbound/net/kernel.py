"""What the kernel holds of a connection: input that has not been read, output that the peer has not acknowledged."""

import fcntl
import os
import socket
import sys
import termios
from typing import Final

SO_NWRITE: Final = 0x1024
"""macOS's socket option for the bytes in the send buffer; Python has no name for it."""


def unread_input_bytes(fd: int) -> int:
    """Return how much input the kernel holds for a socket."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def untaken_output_bytes(fd: int) -> int:
    """Return how much output the kernel holds that the peer's kernel has not taken; 0 where the system cannot say."""
    try:
        if sys.platform == "linux":
            return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        if sys.platform == "darwin":
            with socket.socket(fileno=os.dup(fd)) as sock:
                return sock.getsockopt(socket.SOL_SOCKET, SO_NWRITE)
    except OSError:  # the connection is over
        pass
    return 0
