"""The server's certificate: how connections are secured with it, when it expires, and how it is read anew.

Certificates are read by OpenSSL, which tells nothing of one's own, so its end is looked for here.
"""

import asyncio
import calendar
import os
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from kvs.adapters.inbound.net.tls import reason_of
from kvs.errors import CommandError
from kvs.secret_files import has_passphrase, refuse_writable

SEQUENCE: Final = 0x30
VERSION: Final = 0xA0
UTC_TIME: Final = 0x17
MAX_FILE_BYTES: Final = 1 << 20

CLIENT_CERTS: Final = {"off": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class TlsFileError(CommandError):
    """Raised when a file with certificates or keys cannot be used; the message names setting and file."""

    exit_code = 2


@final
@dataclass(frozen=True)
class TlsFiles:
    """Where certificates and keys are.

    Attributes:
        cert_file: The server's certificate, and those between it and the authority.
        key_file: Its key; empty: in the same file.
        ca_file: Certificates of whom to trust; empty: nobody.
        client_certs: Whether clients show certificates: ``off``, ``optional`` or ``required``.
    """

    cert_file: str
    key_file: str
    ca_file: str
    client_certs: str = "off"


@final
class ServerTls:
    """How the connections of clients are secured.

    Args:
        files: The certificates.

    Attributes:
        context: For new connections.
        expires_s: When the certificate expires, in seconds since 1970.

    Raises:
        TlsFileError: A file cannot be used.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files: Final = files
        self._read = _contents(files)  # first: what changes from now on is read by the next reload
        self.context, self.expires_s = _server_context(files)

    def now(self) -> ssl.SSLContext:
        """Return the context for a new connection."""
        return self.context

    async def reload(self) -> list[str]:
        """Read the files anew, for new connections; return the settings whose files have changed.

        Raises:
            TlsFileError: A file cannot be used. Nothing has changed then.
        """
        loop = asyncio.get_running_loop()
        read = await loop.run_in_executor(None, _contents, self._files)
        changed = [name for name, contents in read.items() if contents != self._read[name]]
        if changed:
            self.context, self.expires_s = await loop.run_in_executor(None, _server_context, self._files)
            self._read = read
        return changed


@final
class ClientTls:
    """How connections to other servers are secured.

    Args:
        files: Whom to trust, and what is shown to those that ask for a certificate.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files: Final = files
        self._context: ssl.SSLContext | None = None

    def now(self) -> ssl.SSLContext:
        """Return the context for a new connection.

        Raises:
            TlsFileError: A file cannot be used.
        """
        if self._context is None:
            files = self._files
            self._context = client_context(files.ca_file, files.cert_file, files.key_file)
        return self._context

    def forget(self) -> None:
        """Have the files read anew for the next connection."""
        self._context = None


def client_context(ca_file: str, cert_file: str = "", key_file: str = "") -> ssl.SSLContext:
    """Return how connections to a server are secured: its certificate is checked, and its name.

    Args:
        ca_file: Certificates of whom to trust; empty: those of the system.
        cert_file: The client's own certificate; empty: none is shown.
        key_file: Its key; empty: in the same file.

    Raises:
        TlsFileError: A file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:  # SSLError is one
        raise _unusable("tls_ca_file", ca_file, error) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert_file:
        _load_chain(context, cert_file, key_file)
    return context


def _server_context(files: TlsFiles) -> tuple[ssl.SSLContext, int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    _load_chain(context, files.cert_file, files.key_file)
    if files.ca_file:
        try:
            context.load_verify_locations(files.ca_file)
        except OSError as error:
            raise _unusable("tls_ca_file", files.ca_file, error) from None
    context.verify_mode = CLIENT_CERTS[files.client_certs]
    return context, _expiry_of(files.cert_file)


def _load_chain(context: ssl.SSLContext, cert_file: str, key_file: str) -> None:
    """Load a certificate and its key, and say which file is wrong if one is."""
    for name, path in (("tls_cert_file", cert_file), ("tls_key_file", key_file)):
        if path:
            _read(name, path)
    own_key = key_file or cert_file
    if has_passphrase(_read("tls_key_file", own_key)):
        raise TlsFileError(f"tls_key_file: {own_key}: it has a passphrase, which nobody can be asked for")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cert_file)  # without a look at the key
    except OSError as error:
        raise _unusable("tls_cert_file", cert_file, error) from None
    try:
        context.load_cert_chain(cert_file, key_file or None, password=lambda: "")  # it would ask the terminal
    except OSError as error:
        raise _unusable("tls_key_file", own_key, error) from None


def _contents(files: TlsFiles) -> dict[str, bytes]:
    paths = {"tls_cert_file": files.cert_file, "tls_key_file": files.key_file, "tls_ca_file": files.ca_file}
    return {name: _read(name, path) for name, path in paths.items() if path}


def _read(name: str, path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            if name == "tls_key_file":
                refuse_writable(os.fstat(file.fileno()), path, name)
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise _unusable(name, path, error) from None


def _unusable(name: str, path: str, error: OSError) -> TlsFileError:
    reason = reason_of(error) if isinstance(error, ssl.SSLError) else error.strerror or str(error)
    return TlsFileError(f"{name}: {path}: {reason.lower()}")


def _expiry_of(path: str) -> int:
    """Return when the first certificate of a file expires, in seconds since 1970; 0 if that cannot be found."""
    text = _read("tls_cert_file", path).decode("ascii", "replace")
    begin = text.find(ssl.PEM_HEADER)
    end = text.find(ssl.PEM_FOOTER, begin)
    if begin < 0 or end < 0:
        return 0
    try:
        return expiry_in(ssl.PEM_cert_to_DER_cert(text[begin : end + len(ssl.PEM_FOOTER)]))
    except (ValueError, IndexError):
        return 0


def expiry_in(certificate: bytes) -> int:
    """Return when a certificate expires, in seconds since 1970.

    Args:
        certificate: In DER, which OpenSSL has accepted.

    Raises:
        ValueError: It is none.
    """
    _, at, _ = _element(certificate, 0)
    _, at, _ = _element(certificate, at)  # what is signed
    kind, _, end = _element(certificate, at)
    if kind == VERSION:
        at = end
    for _ in ("number", "algorithm", "issuer"):
        _, _, at = _element(certificate, at)
    _, at, _ = _element(certificate, at)  # not before, and not after
    _, _, at = _element(certificate, at)
    kind, at, end = _element(certificate, at)
    text = certificate[at:end].decode("ascii")
    if kind == UTC_TIME:  # of two digits: 50 is 1950
        text = ("20" if text[:2] < "50" else "19") + text
    return calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ"))


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """Return the kind of an element of DER, where its contents begin, and where they end."""
    kind, size = data[at], data[at + 1]
    at += 2
    if size & 0x80:
        width = size & 0x7F
        size = int.from_bytes(data[at : at + width], "big")
        at += width
    if at + size > len(data):
        raise ValueError("cut short")
    return kind, at, at + size
