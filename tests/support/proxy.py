"""A proxy between a client and a server, by which a test cuts one off from the other, in either direction."""

import socket
import threading
from contextlib import suppress
from typing import Final

HOST: Final = "127.0.0.1"
CHUNK_BYTES: Final = 1 << 16


class Proxy:
    """Forwards connections to a port of loopback.

    What is held back is not lost: it arrives when it is let go, as after a partition of a network, unless the
    connections are cut before.

    Args:
        target_port: Where the server listens.
        port: Where the proxy listens; 0: at a free port.

    Attributes:
        port: Where the proxy listens.
        target_port: May be changed, which counts for new connections.
    """

    def __init__(self, target_port: int = 0, port: int = 0) -> None:
        self.target_port = target_port
        self._requests_pass = threading.Event()
        self._answers_pass = threading.Event()
        self._changing = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._closed = False
        self._listener = socket.create_server((HOST, port))
        self.port: Final[int] = self._listener.getsockname()[1]
        self.let_go()
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, *, requests: bool = True, answers: bool = True) -> None:
        """From now on, hold back what goes in a direction, also on new connections."""
        if requests:
            self._requests_pass.clear()
        if answers:
            self._answers_pass.clear()

    def let_go(self) -> None:
        """Let everything pass, also what has been held back."""
        self._requests_pass.set()
        self._answers_pass.set()

    def cut(self) -> None:
        """Close all connections; what is held back is lost."""
        with self._changing:
            sockets, self._sockets = self._sockets, set()
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self) -> None:
        """Listen no more, and close all connections."""
        self._closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self.let_go()  # whoever waits finds the end

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((HOST, self.target_port))
            except OSError:
                client.close()
                continue
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changing:
                self._sockets |= {client, server}
            for source, target, passes in (
                (client, server, self._requests_pass),
                (server, client, self._answers_pass),
            ):
                threading.Thread(target=self._forward, args=(source, target, passes), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, passes: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                passes.wait()
                with self._changing:
                    if source not in self._sockets:
                        return  # what was held back is lost
                target.sendall(data)
        with self._changing:
            ends = {source, target} & self._sockets
            self._sockets -= ends
        for each in ends:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
