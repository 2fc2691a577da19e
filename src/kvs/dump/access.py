"""How a client gets at a server: where it is, in TLS or not, and as whom."""

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    import ssl

CONNECT_TIMEOUT_S: Final = 10.0
REPLY_TIMEOUT_S: Final = 60.0


@final
@dataclass(frozen=True)
class Access:
    """Everything but host and port.

    Attributes:
        unix_socket: Path of a socket, in place of host and port; empty: none.
        tls: How it is secured; None: it is not.
        user: Who to be; empty: the default user.
        secret: The user's secret; empty: none is given.
        connect_timeout_s: How long to wait for a connection, and for the first reply.
        reply_timeout_s: How long to wait for any other.
    """

    unix_socket: str = ""
    tls: "ssl.SSLContext | None" = None
    user: str = ""
    secret: bytes = b""
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    reply_timeout_s: float = REPLY_TIMEOUT_S

    def name_of(self, host: str, port: int) -> str:
        """Return where the server is, for messages."""
        return self.unix_socket or (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    def greeting(self) -> list[bytes]:
        """Return the first request: which version of the protocol to speak, and who is there."""
        hello = [b"HELLO", b"2"]
        if self.user or self.secret:
            hello += [b"AUTH", self.user.encode(errors="surrogateescape") or b"default", self.secret]
        return hello

    def connect(self, host: str, port: int) -> socket.socket:
        """Return a connected socket, whose timeout is that of a connection.

        Raises:
            OSError: Nobody answers, or it is not who it should be.
            ValueError: The name is none.
        """
        sock = self._dial(host, port)
        if self.tls is None:
            return sock
        try:
            return self.tls.wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise

    def _dial(self, host: str, port: int) -> socket.socket:
        if not self.unix_socket:
            sock = socket.create_connection((host, port), self.connect_timeout_s)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.connect_timeout_s)
            sock.connect(self.unix_socket)
        except BaseException:
            sock.close()
            raise
        return sock


ANYONE: Final = Access()
"""Without TLS, and as the default user without a secret."""
