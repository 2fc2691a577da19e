"""What stands between a socket and its connection, without I/O: the PROXY header, the choice of TLS, and TLS itself.

A guarded client comes in this order: a header of the PROXY protocol, if it comes from a balancer that sends one; then
its first byte tells whether it speaks TLS; then what follows is decrypted, or is passed on as it is, and then the guard
has nothing more to do.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from kvs.adapters.inbound.net.client_hello import (
    HANDSHAKE,
    NO_APPLICATION_PROTOCOL,
    HelloError,
    is_web_only,
    offered_protocols,
)
from kvs.adapters.inbound.net.proxy import ProxyError, ProxyHeader
from kvs.adapters.inbound.net.tls import STATE_BYTES, TlsStream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

# What comes next.
HEADER: Final = 0
FIRST_BYTE: Final = 1
HELLO: Final = 2
HANDSHAKING: Final = 3
RECORDS: Final = 4
NOTHING: Final = 5

WEB_REFUSED: Final = "ALPN offers only HTTP"


@final
@dataclass(frozen=True)
class Terms:
    """With what clients have to begin.

    Attributes:
        tls: Returns certificates, versions and whom to trust, as of now; None: no TLS.
        tls_required: Whether a client that does not begin with TLS is refused.
        proxied: Whether a header of the PROXY protocol must come first.
    """

    tls: "Callable[[], ssl.SSLContext] | None" = None
    tls_required: bool = False
    proxied: bool = False


@final
class Guard:
    """Guards one connection.

    Args:
        terms: With what its client has to begin.

    Attributes:
        tls: The stream, once the client has begun with TLS.
        waits: Whether :meth:`go_on` has something to do, which may take as long as hundreds of requests.
        failure: Why the connection has to end; empty: it has not.
        alert: A TLS alert to send to the peer before that.
        address: Of the client, as the header has it; empty: that of the socket.
        held: Output for the client that waits until the guard is open.
    """

    __slots__ = (
        "_header",
        "_hello",
        "_next",
        "_terms",
        "address",
        "alert",
        "failure",
        "held",
        "tls",
        "waits",
    )

    def __init__(self, terms: Terms) -> None:
        self._terms: Final = terms
        self._next = HEADER if terms.proxied else FIRST_BYTE
        self._header = ProxyHeader() if terms.proxied else None
        self._hello = b""
        self.tls: TlsStream | None = None
        self.waits = False
        self.failure = ""
        self.alert = b""
        self.address = ""
        self.held: list[bytes] = []

    @property
    def open(self) -> bool:
        """Whether client and connection hear each other."""
        return self._next >= RECORDS

    @property
    def needless(self) -> bool:
        """Whether it has nothing more to do: the client speaks without TLS."""
        return self._next == NOTHING

    @property
    def refused(self) -> bool:
        """Whether that is not allowed."""
        return self._next == NOTHING and self._terms.tls_required

    @property
    def shaking_hands(self) -> bool:
        """Whether the client has begun with TLS, and the handshake is not complete, and may never be."""
        return self._next in (HELLO, HANDSHAKING)

    @property
    def impatient(self) -> bool:
        """Whether the client must not be silent: what comes first is not complete, and is expected."""
        return self._next == HEADER or self.shaking_hands or (self._next == FIRST_BYTE and self._terms.tls_required)

    @property
    def memory_bytes(self) -> int:
        """What it holds."""
        held = sum([len(piece) for piece in self.held]) if self.held else 0
        return held + (len(self._hello) if self.tls is None else STATE_BYTES)

    def receive(self, data: bytes) -> bytes:
        """Take what has come from the socket; return what that is to the connection."""
        tls = self.tls
        if self._next == RECORDS and tls is not None:
            plain = tls.receive(data)
            self.failure = tls.failure
            return plain
        if self.failure or self._next == NOTHING:
            return b"" if self.failure else data
        if self._header is not None:
            data = self._take_header(self._header, data)
            if not data:
                return b""
        if self._next == FIRST_BYTE:
            if data[0] != HANDSHAKE or self._terms.tls is None:
                self._next = NOTHING
                return data
            self._next = HELLO
        if tls is None:
            self._take_hello(data)
        else:
            tls.feed(data)
            self.waits = True
        return b""

    def go_on(self) -> bytes:
        """Go on with the handshake; return what has come behind it, for the connection."""
        self.waits = False
        tls = self.tls
        if tls is None or self.failure:
            return b""
        tls.handshake()
        if not tls.established:
            self.failure = tls.failure
            return b""
        self._next = RECORDS
        return self.receive(b"")

    def finish(self) -> bytes:
        """Return what is to be sent at the end, behind all other output. Nothing if it is asked again."""
        tls = self.tls
        return b"" if tls is None else tls.finish()

    def _take_header(self, header: ProxyHeader, data: bytes) -> bytes:
        try:
            data = header.take(data)
        except ProxyError as error:
            self.failure = str(error)
            return b""
        if header.complete:
            self._header = None
            self._next = FIRST_BYTE
            self.address = header.address
        return data

    def _take_hello(self, data: bytes) -> None:
        """Take the client's first message; begin the handshake once it is complete, and not a browser's."""
        self._hello += data
        try:
            offered = offered_protocols(self._hello)
        except HelloError as error:
            self.failure = str(error)
            return
        if offered is None or self._terms.tls is None:
            return
        if is_web_only(offered):
            self.failure = WEB_REFUSED
            self.alert = NO_APPLICATION_PROTOCOL
            return
        tls = self.tls = TlsStream(self._terms.tls(), server_side=True)
        tls.feed(self._hello)
        self._hello = b""
        self._next = HANDSHAKING
        self.waits = True
