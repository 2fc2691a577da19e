"""Addresses of etcd, and in which order and how soon they are tried."""

import shutil
import subprocess
from pathlib import Path

import pytest

from kvs.adapters.storage.etcd.client.endpoints import (
    LONGEST_DELAY_S,
    Endpoint,
    Rotation,
    namespace_prefix,
    parse_address,
    parse_endpoints,
    tls_context,
)
from tests.support.secured import certificates

pytestmark = pytest.mark.one_build


def test_addresses_are_hosts_with_or_without_ports() -> None:
    """The port of etcd where there is none; each once."""
    assert parse_endpoints("a, b:1,10.0.0.1:65535,[::1],[::1]:2,a:2379") == (
        Endpoint("a", 2379),
        Endpoint("b", 1),
        Endpoint("10.0.0.1", 65535),
        Endpoint("::1", 2379),
        Endpoint("::1", 2),
    )
    assert str(Endpoint("::1", 2)) == "[::1]:2"
    assert str(Endpoint("a", 2)) == "a:2"


@pytest.mark.parametrize(
    "text",
    [
        *("", "a,,b", ":1", "a:", "a:0", "a:65536", "a:x", "a:1:2", "::1", "[::1", "[::1]2", "[]:1", "http://a:1"),
        *(
            "[::1]:",
            "a b:1",
            "a\nb:1",
            "user@a:1",
            "a..b:1",
            ".a:1",
            f"{'a' * 64}:1",
            "a/b:1",
            "a:1/b",
            "[a]:1",
            "a: 1",
        ),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """In a sentence."""
    with pytest.raises(ValueError, match=r"endpoint|port") as raised:
        parse_endpoints(text)
    assert "\n" not in str(raised.value)


def test_one_address_has_a_port() -> None:
    """For which there is no default."""
    assert parse_address("a.example.:1") == Endpoint("a.example.", 1)
    assert parse_address("[fe80::1%eth0]:2") == Endpoint("fe80::1%eth0", 2)
    for text in ("a", "[::1]"):
        with pytest.raises(ValueError, match="has no port"):
            parse_address(text)


def test_endpoints_are_tried_in_turn_and_rounds_come_slower_and_slower() -> None:
    """Up to a bound; an answer makes them quick again."""
    rotation = Rotation(parse_endpoints("a,b,c"))
    hosts = []
    delays = []
    for _ in range(60):
        hosts.append(rotation.endpoint.host)
        delays.append(rotation.failed())
    assert hosts == ["a", "b", "c"] * 20
    assert [delay > 0 for delay in delays] == [False, False, True] * 20
    assert delays[2] < 0.1 < 0.5 <= delays[-1] <= LONGEST_DELAY_S
    rotation.worked()
    assert rotation.failed() == 0


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """One of a pair alone as well."""
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate", encoding="utf-8")
    for path in (wrong, tmp_path / "missing.pem"):
        with pytest.raises(ValueError, match=f"ca_file: {path}: "):
            tls_context(path)
    with pytest.raises(ValueError, match="belong together"):
        tls_context(wrong, cert_file=wrong)


def test_a_key_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """Nobody is asked for a passphrase."""
    ca, cert, key = certificates().ca_file, certificates().member_cert, tmp_path / "key.pem"
    with pytest.raises(ValueError, match=f"^key_file: {key}: No such file"):
        tls_context(ca, cert, key)
    own = certificates().key_of(cert)
    command = ["openssl", "pkey", "-in", str(own), "-aes256", "-passout", "pass:secret", "-out", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(ValueError, match=f"^key_file: {key}: it has a passphrase"):
        tls_context(ca, cert, key)
    shutil.copy(certificates().key_of(certificates().client_cert), key)
    with pytest.raises(ValueError, match=rf"^cert_file, key_file: {cert}, {key}: .*mismatch"):
        tls_context(ca, cert, key)
    tls_context(ca, cert, own)


@pytest.mark.parametrize("name", ["", "a/b", "/", "a b", "a\n", "é", "x" * 65])
def test_a_namespace_is_one_segment(name: str) -> None:
    """So that none lies inside another."""
    with pytest.raises(ValueError, match="namespace"):
        namespace_prefix(name)
    assert namespace_prefix("kvs-1._A") == b"kvs-1._A/"
