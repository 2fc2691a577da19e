"""How connections begin, and TLS without sockets: whatever pieces the bytes come in, the same comes out."""

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvs.adapters.inbound.net.certificates import ServerTls
from kvs.adapters.inbound.net.client_hello import MAX_HELLO_BYTES, NO_APPLICATION_PROTOCOL
from kvs.adapters.inbound.net.guard import WEB_REFUSED, Guard, Terms
from kvs.adapters.inbound.net.tls import MAX_UNEXPLAINED_BYTES, RECORD_BYTES, TlsStream
from tests.support.secured import SERVER_NAME, client_side, pieces, server_files, shake_hands

HEADER: Final = b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 4000\r\n"
PLAIN: Final = b"GET a\n"

sizes = st.lists(st.integers(1, 5), max_size=3).flatmap(
    lambda few: st.lists(st.integers(100, 3000), min_size=1, max_size=3).map(lambda many: few + many)
)


TLS: Final = ServerTls(server_files())


def terms(tls: ServerTls = TLS, *, tls_required: bool = False, proxied: bool = False) -> Terms:
    """Return terms with TLS."""
    return Terms(tls.now, tls_required, proxied)


def new_client(*, shows_certificate: bool = False) -> TlsStream:
    """Return the client's end."""
    return TlsStream(client_side(shows_certificate=shows_certificate), server_side=False, server_hostname=SERVER_NAME)


@settings(max_examples=settings().max_examples // 5)
@given(st.lists(st.binary(max_size=100) | st.integers(16_000, 40_000).map(bytes), max_size=3), sizes, sizes)
def test_any_cutting_yields_the_same(messages: list[bytes], there: list[int], back: list[int]) -> None:
    """Of a header, a handshake, records of any size in either direction, and the end."""
    client, guard = new_client(), Guard(terms(proxied=True))
    assert shake_hands(client, guard, there, HEADER) == b""
    assert guard.address == "192.0.2.1:1234"
    assert guard.tls is not None
    client.receive(b"")
    sealed = b"".join([client.seal(message) for message in messages]) + client.finish()
    assert b"".join([guard.receive(piece) for piece in pieces(sealed, there)]) == b"".join(messages)
    assert guard.tls.ended
    assert not guard.failure
    sealed = b"".join([guard.tls.seal(message) for message in messages]) + guard.finish()
    assert b"".join([client.receive(piece) for piece in pieces(sealed, back)]) == b"".join(messages)
    assert client.ended
    assert not client.failure


@given(sizes, st.booleans())
def test_without_tls_the_guard_goes(cut: list[int], proxied: bool) -> None:
    """The first byte tells; what is behind a header is passed on as it is."""
    guard = Guard(terms(proxied=proxied))
    passed = b"".join([guard.receive(piece) for piece in pieces(HEADER * proxied + PLAIN, cut)])
    assert passed == PLAIN
    assert guard.needless
    assert guard.open
    assert not guard.refused
    assert not guard.impatient


def test_without_tls_where_it_is_required() -> None:
    """The client is told, by others."""
    guard = Guard(terms(tls_required=True))
    assert guard.impatient
    assert guard.receive(PLAIN) == PLAIN
    assert guard.refused


@pytest.mark.parametrize("protocols", [("h2", "http/1.1"), ("http/1.1",), ("h2",)])
@pytest.mark.parametrize("cut", [[1], [100_000]])
def test_a_browser_is_refused(protocols: tuple[str, ...], cut: list[int]) -> None:
    """Before OpenSSL answers anything."""
    client = TlsStream(client_side(protocols=protocols), server_side=False, server_hostname=SERVER_NAME)
    guard = Guard(terms())
    shake_hands(client, guard, cut)
    assert guard.failure == WEB_REFUSED
    assert guard.alert == NO_APPLICATION_PROTOCOL
    assert guard.tls is None
    client.feed(guard.alert)
    client.handshake()
    assert client.failure == "tlsv1 alert no application protocol"


def test_other_protocols_are_not_looked_at() -> None:
    """As those of databases; nor one among which there is another."""
    client = TlsStream(client_side(protocols=("redis", "h2")), server_side=False, server_hostname=SERVER_NAME)
    guard = Guard(terms())
    shake_hands(client, guard, [])
    assert guard.open


@pytest.mark.parametrize("shown", [False, True])
def test_certificates_of_clients(shown: bool) -> None:
    """The name in one is the user; without one, the client learns that it needs one."""
    client, guard = new_client(shows_certificate=shown), Guard(terms(ServerTls(server_files("required"))))
    shake_hands(client, guard, [])
    assert guard.open is shown
    if shown:
        assert guard.tls is not None
        assert guard.tls.common_name() == "kvs-test-client"
    else:
        assert guard.failure == "peer did not return a certificate"
        assert guard.tls is not None
        client.receive(guard.tls.take_sealed())
        assert "certificate required" in client.failure


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (b"\x16garbage that is not TLS", "no TLS"),
        (b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", "no TLS client"),
        (b"\x16\x03\x01\x00\x04\x01\xff\xff\xff", "first message too long"),
        (b"\x16\x03\x01\x00\x04\x01\x00\x10\x00" + b"\x16\x03\x01\x00\x01x" * 20, "first message in too many records"),
        (b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03", "length"),
    ],
)
@pytest.mark.parametrize("cut", [[1], []])
def test_what_is_no_handshake(garbage: bytes, reason: str, cut: list[int]) -> None:
    """Is refused, by us or by OpenSSL, and never waited for beyond a bound."""
    guard = Guard(terms())
    for piece in pieces(garbage, cut):
        guard.receive(piece)
        if guard.waits:
            guard.go_on()
    assert reason in guard.failure
    assert guard.memory_bytes < 2 * MAX_HELLO_BYTES


def established() -> tuple[TlsStream, Guard]:
    """Return two ends."""
    client, guard = new_client(), Guard(terms())
    shake_hands(client, guard, [])
    client.receive(b"")
    return client, guard


def test_a_damaged_record_ends_it() -> None:
    """Nothing of it is passed on, and what came before is."""
    client, guard = established()
    sealed = client.seal(b"PUT a 1\n")
    assert guard.receive(sealed) == b"PUT a 1\n"
    sealed = client.seal(b"PUT a 2\n")
    assert guard.receive(sealed[:-1] + bytes([sealed[-1] ^ 1])) == b""
    assert guard.failure in ("decryption failed or bad record mac", "record layer failure")  # as OpenSSL 3.5 says
    assert guard.receive(client.seal(b"PUT a 3\n")) == b""


def test_a_record_that_is_cut_short_yields_nothing() -> None:
    """Whatever OpenSSL holds of it."""
    client, guard = established()
    sealed = client.seal(b"x" * RECORD_BYTES)
    assert guard.receive(sealed[:-1]) == b""
    assert guard.receive(sealed[-1:]) == b"x" * RECORD_BYTES


def test_ciphertext_without_content_is_bounded() -> None:
    """Each record of TLS costs something, also an empty one."""
    client, guard = established()
    empty = client.seal(b"x")
    size = len(empty)
    guard.receive(empty)
    tls = guard.tls
    assert tls is not None
    received = 0
    while not guard.failure:
        guard.receive(client.seal(b"")[:size] or b"\x17\x03\x03")
        received += 1
        assert received < MAX_UNEXPLAINED_BYTES
