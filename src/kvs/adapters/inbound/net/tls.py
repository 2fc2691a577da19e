"""One end of a TLS connection, without I/O: ciphertext in, plaintext out, and the other way round.

OpenSSL reads from a buffer in memory and writes to one. To give it the socket itself costs two more system calls for
each record: it reads the header of a record, then its body, and then finds that there is no more.
"""

import re
import ssl
from contextlib import suppress
from typing import Final, final

RECORD_BYTES: Final = 16 << 10
"""Longest plaintext of a record."""

OVERHEAD_BYTES: Final = 64
"""By how much a record is longer than its plaintext, at most."""

MAX_UNEXPLAINED_BYTES: Final = 96 << 10
"""Ciphertext that yields nothing, beyond part of a record, at which a connection is given up: each change of keys, of
27 bytes, costs as much as some requests. Those who have reason to change keys do it after gigabytes."""

STATE_BYTES: Final = 20 << 10
"""Memory of a connection in OpenSSL, as measured; buffers for a record come on top while one is on its way."""

_PLACES: Final = re.compile(r"^\[[^]]*\] | \(_ssl\.c:[0-9]+\)$")
"""What Python writes around OpenSSL's words."""


@final
class TlsStream:
    """Encrypts and decrypts one connection.

    Args:
        context: Certificates, versions and whom to trust.
        server_side: Whether this is the server's end.
        server_hostname: The name in the server's certificate, for a client.

    Attributes:
        established: Whether the handshake is complete.
        ended: Whether the peer has said that nothing follows.
        failure: Why nothing can be sent or received any more; empty: it can. What :meth:`take_sealed` returns then
            tells the peer.
        records: Number of records with plaintext.
    """

    __slots__ = (
        "_incoming",
        "_outgoing",
        "_partial",
        "_tls",
        "_unexplained_bytes",
        "ended",
        "established",
        "failure",
        "records",
    )

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None) -> None:
        self._incoming: Final = ssl.MemoryBIO()
        self._outgoing: Final = ssl.MemoryBIO()
        self._tls: Final = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._partial = False  # OpenSSL holds the beginning of a record
        self._unexplained_bytes = 0  # what has come in, less what it was for
        self.established = False
        self.ended = False
        self.failure = ""
        self.records = 0

    def feed(self, data: bytes) -> None:
        """Take ciphertext, to be used by the next call of :meth:`handshake` or :meth:`receive`."""
        self._incoming.write(data)

    def handshake(self) -> None:
        """Go on with the handshake, as far as what has been fed allows."""
        if not self.failure:
            try:
                self._tls.do_handshake()
                self.established = True
            except ssl.SSLWantReadError:
                pass
            except (OSError, ValueError) as error:
                self.failure = reason_of(error)

    def receive(self, data: bytes) -> bytes:
        """Take ciphertext; return the plaintext of all records that are complete. After the handshake."""
        if self.ended or self.failure:
            return b""
        incoming = self._incoming
        incoming.write(data)
        self._unexplained_bytes += len(data)
        try:
            # No more than this can come out of it, unless OpenSSL holds a part already.
            plain: bytes = self._tls.read(RECORD_BYTES if self._partial else min(incoming.pending, RECORD_BYTES) or 1)
        except OSError as error:  # SSLError is one
            plain = b""
            self._note(error)
        else:
            self._partial = False
            self._explain(len(plain))
            if not plain:
                self.ended = True
            elif incoming.pending:
                plain = self._read_on(plain)
        if self._unexplained_bytes > MAX_UNEXPLAINED_BYTES and not self.failure:
            self.failure = "ciphertext without content"
        return plain

    def _read_on(self, first: bytes) -> bytes:
        """Return the plaintext of a record and of those behind it."""
        incoming, tls = self._incoming, self._tls
        parts = [first]
        try:
            while incoming.pending:
                plain: bytes = tls.read(min(incoming.pending, RECORD_BYTES))
                self._explain(len(plain))
                if not plain:
                    self.ended = True
                    break
                parts.append(plain)
        except OSError as error:
            self._note(error)
        return b"".join(parts)

    def _explain(self, plain_bytes: int) -> None:
        self.records += 1
        self._unexplained_bytes = max(0, self._unexplained_bytes - plain_bytes - OVERHEAD_BYTES)

    def _note(self, error: OSError) -> None:
        """Note why there is no more plaintext."""
        if isinstance(error, ssl.SSLWantReadError):
            self._partial = True
        elif isinstance(error, ssl.SSLZeroReturnError):
            self.ended = True
        else:
            self.failure = reason_of(error)

    def seal(self, data: bytes) -> bytes:
        """Return all ciphertext that is to be sent, with that of this plaintext at its end; nothing after a failure."""
        if self.failure:
            return b""
        try:
            sent = self._tls.write(data)
            while sent < len(data):
                sent += self._tls.write(memoryview(data)[sent:])
        except OSError as error:
            self.failure = reason_of(error)
        return self._outgoing.read()

    @property
    def has_sealed(self) -> bool:
        """Whether OpenSSL has something to say to the peer by itself."""
        return bool(self._outgoing.pending)

    def take_sealed(self) -> bytes:
        """Remove and return the ciphertext that OpenSSL sends by itself: of handshakes, alerts, changes of keys."""
        return self._outgoing.read()

    def finish(self) -> bytes:
        """Return the ciphertext that says that nothing follows."""
        if self.established and not self.failure:
            with suppress(OSError):  # it would wait for the peer to say the same
                self._tls.unwrap()
        return self._outgoing.read()

    def common_name(self) -> str:
        """Return the common name of the peer's certificate, which has been checked; empty if there is none."""
        certificate = self._tls.getpeercert()
        return common_name_in(certificate.get("subject", ())) if certificate else ""


def common_name_in(subject: object) -> str:
    """Return the last common name of a subject, in the form in which Python has it; empty if it has none."""
    found = ""
    for part in subject if isinstance(subject, tuple) else ():
        for name, value in part:
            if name == "commonName":
                found = str(value)
    return found


def reason_of(error: Exception) -> str:
    """Return why OpenSSL has failed, in its words, without the place in its source."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    reason: object = getattr(error, "reason", None)  # None for those that Python has no name for
    if reason and isinstance(error, ssl.SSLError):
        return str(reason).lower().replace("_", " ")
    return _PLACES.sub("", str(error)) or type(error).__name__
