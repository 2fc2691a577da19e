"""Certificates: what is wrong with a file is told, when it expires is known, and it can be read anew."""

import asyncio
import shutil
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from kvs.adapters.inbound.net.certificates import ServerTls, TlsFileError, TlsFiles, client_context, expiry_in
from kvs.errors import CommandError
from tests.support.secured import certificates, server_files

GARBAGE = "no certificate"
EMPTY = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    """Return copies of good files."""
    given = server_files()
    for name in ("cert_file", "key_file", "ca_file"):
        shutil.copy(getattr(given, name), tmp_path / name)
    return TlsFiles(*(str(tmp_path / name) for name in ("cert_file", "key_file", "ca_file")))


@pytest.mark.parametrize("name", ["cert_file", "key_file", "ca_file"])
@pytest.mark.parametrize("contents", [None, "", GARBAGE, EMPTY])
def test_a_wrong_file_is_named(files: TlsFiles, name: str, contents: str | None) -> None:
    """Whether it is not there, or none. A changed file that is wrong changes nothing."""
    tls = ServerTls(files)
    before = tls.context
    path = Path(getattr(files, name))
    path.unlink()
    if contents is not None:
        path.write_text(contents)
    with pytest.raises(TlsFileError, match=f"^tls_{name}: {path}: "):
        ServerTls(files)
    with pytest.raises(TlsFileError, match=f"^tls_{name}: {path}: "):
        asyncio.run(tls.reload())
    assert tls.context is before


def test_a_key_that_does_not_fit(files: TlsFiles) -> None:
    """Is told as such."""
    shutil.copy(certificates().key_of(certificates().client_cert), files.key_file)
    with pytest.raises(TlsFileError, match=r"tls_key_file: .*key values mismatch"):
        ServerTls(files)


def test_a_key_with_a_passphrase(files: TlsFiles) -> None:
    """Nobody is asked for it."""
    key = certificates().key_of(certificates().member_cert)
    command = ["openssl", "pkey", "-in", str(key), "-aes256", "-passout", "pass:secret", "-out", files.key_file]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(TlsFileError, match=r"^tls_key_file: .*: it has a passphrase"):
        ServerTls(files)


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_key_that_others_may_write(files: TlsFiles, mode: int) -> None:
    """Is theirs; a certificate is nothing to hide, and is checked by clients."""
    Path(files.key_file).chmod(mode)
    with pytest.raises(CommandError, match=r"^tls_key_file: others than its owner may write "):
        ServerTls(files)
    Path(files.key_file).chmod(0o600)
    Path(files.cert_file).chmod(mode)
    assert ServerTls(files).expires_s


def test_what_has_changed_is_told(files: TlsFiles) -> None:
    """And used for new connections."""

    async def change() -> None:
        tls = ServerTls(files)
        before = tls.now()
        assert await tls.reload() == []
        assert tls.now() is before
        shutil.copy(certificates().client_cert, files.cert_file)
        shutil.copy(certificates().key_of(certificates().client_cert), files.key_file)
        assert await tls.reload() == ["tls_cert_file", "tls_key_file"]
        assert tls.now() is not before

    asyncio.run(change())


def test_the_end_of_a_certificate(files: TlsFiles) -> None:
    """As OpenSSL tells it."""
    told = subprocess.run(
        ["openssl", "x509", "-in", files.cert_file, "-noout", "-enddate"], capture_output=True, text=True, check=True
    )
    assert ServerTls(files).expires_s == ssl.cert_time_to_seconds(told.stdout.strip().partition("=")[2]) > time.time()


def test_what_is_no_certificate() -> None:
    """Has no end."""
    whole = ssl.PEM_cert_to_DER_cert(certificates().member_cert.read_text())
    for size in range(len(whole)):
        with pytest.raises((ValueError, IndexError)):
            expiry_in(whole[:size])


def test_certificates_of_the_system() -> None:
    """Are trusted by a client that is given none."""
    assert client_context("").verify_mode == ssl.CERT_REQUIRED
    with pytest.raises(TlsFileError, match=f"^tls_ca_file: {GARBAGE}: "):
        client_context(GARBAGE)
