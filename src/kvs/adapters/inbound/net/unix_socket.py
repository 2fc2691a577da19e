"""Listening on a socket in the file system, where the kernel tells who the peer is."""

import errno
import fcntl
import os
import socket
import stat
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, final

from kvs.adapters.inbound.net.listener import BACKLOG, ListenError

ANSWER_TIMEOUT_S: Final = 2.0
"""How long a server may take to accept; one that is stopped does not, and its backlog may be full."""

LOCK_AGAIN_S: Final = 0.05
"""Delay before a lock is asked for again: it has no wait that ends."""

_PRIVATE: Final = 0o177
_CREDENTIALS: Final = struct.Struct("3i")  # process, user and group

Identity = tuple[int, int]
"""Device and inode of a file."""


@final
@dataclass(frozen=True)
class UnixBinding:
    """A socket in the file system.

    Attributes:
        path: Where.
        mode: Who may connect: permissions of the file.
    """

    path: str
    mode: int
    _made: list[Identity] = field(default_factory=list, hash=False, compare=False)

    def bind(self) -> list[socket.socket]:
        """Return a socket that listens there. One that a server left behind is replaced.

        Raises:
            ListenError: A server listens there, or something else is there, or it is forbidden.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _locked_directory(self.path):
                _remove_stale(self.path)
                self._bind(sock)
                sock.listen(BACKLOG)  # before others look whether it answers
        except (OSError, ListenError) as error:
            sock.close()
            if isinstance(error, ListenError):
                raise
            raise ListenError(f"cannot listen on {self.path}: {(error.strerror or str(error)).lower()}") from None
        return [sock]

    def _bind(self, sock: socket.socket) -> None:
        """Bind, so that nobody else can connect before the mode is set."""
        before = os.umask(_PRIVATE)
        try:
            sock.bind(self.path)
        finally:
            os.umask(before)
        sock.settimeout(0)
        self._made.append(_identity(self.path))
        os.chmod(self.path, self.mode)  # noqa: PTH101

    def unbind(self, sockets: Sequence[socket.socket]) -> None:
        for sock in sockets:
            sock.close()
        with suppress(OSError):
            if _identity(self.path) in self._made:  # another server may have replaced it
                os.unlink(self.path)  # noqa: PTH108

    def set_up(self, sock: socket.socket) -> None:
        """Do nothing: there is neither a network nor a delay."""

    def address_of(self, _: object) -> str:
        return f"{self.path}:0"  # as Redis has it

    def is_own_user(self, sock: socket.socket) -> bool:
        """Return whether the kernel says so; where it cannot be asked, nobody is."""
        if not hasattr(socket, "SO_PEERCRED"):
            return False
        try:
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return False
        return bool(_CREDENTIALS.unpack(credentials)[1] == os.geteuid())


@contextmanager
def _locked_directory(path: str) -> Iterator[None]:
    """Have no other server look at the path, and replace it, meanwhile.

    Raises:
        OSError: Among others, somebody else has the lock for longer than a server needs it.
    """
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)  # noqa: PTH120
    deadline_s = time.monotonic() + ANSWER_TIMEOUT_S + LOCK_AGAIN_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline_s:
                    raise
            time.sleep(LOCK_AGAIN_S)
        yield
    finally:
        os.close(descriptor)


def _remove_stale(path: str) -> None:
    """Remove a socket on which nobody listens.

    Raises:
        ListenError: Somebody does, or it is no socket.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(f"cannot listen on {path}: it is there, and no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(ANSWER_TIMEOUT_S)
        try:
            probe.connect(path)
        except OSError as error:
            if error.errno == errno.ECONNREFUSED:
                os.unlink(path)  # noqa: PTH108
                return
            if error.errno == errno.ENOENT:
                return
    raise ListenError(f"cannot listen on {path}: {os.strerror(errno.EADDRINUSE).lower()}")


def _identity(path: str) -> Identity:
    found = os.lstat(path)
    return found.st_dev, found.st_ino
