"""The preamble of a relay: who the client is, and what it has set, for a leader that believes only its own servers."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.adapters.inbound.net.relay import MAX_BYTES, Preamble, RelayedClient, RelayGuard, preamble
from kvs.adapters.inbound.protocol.client_state import ClientState

SECRET: Final = "0123456789abcdef" * 2
ADDRESS: Final = "[::1]:1234"

names: Final = st.binary(max_size=20)
states: Final = st.builds(
    ClientState,
    st.sampled_from([2, 3]),
    names,
    names,
    names,
    st.booleans(),
    st.lists(names, max_size=3),
    st.lists(names, max_size=3),
) | st.just(ClientState())


def taken(line: bytes, pieces: int = 1 << 20) -> tuple[Preamble, bytes]:
    """Return a preamble that has taken input in pieces, and what was behind it."""
    given, rest = Preamble(), b""
    for at in range(0, len(line), pieces):
        rest = rest + line[at : at + pieces] if given.complete else given.take(line[at : at + pieces])
        assert given.complete or not given.too_long
    return given, rest


@given(states, st.integers(1, 50))
def test_a_client_is_what_it_was(state: ClientState, pieces: int) -> None:
    """Whatever names it has, and in whatever pieces that arrives."""
    line = preamble(SECRET, 7, ADDRESS, state)
    received, rest = taken(line + b"GET a\n", pieces)
    assert rest == b"GET a\n"
    assert RelayGuard(SECRET, 7).client_of(received) == RelayedClient(ADDRESS, state, waits=True)


def test_the_largest_fits() -> None:
    """All names and subscriptions that a client can have."""
    many = [b"+" + b"\xff" * 127] * 64
    state = ClientState(3, b"n" * 512, b"l" * 512, b"v" * 512, no_evict=True, channels=many, patterns=many)
    line = preamble(SECRET, 1 << 62, "[" + "f" * 60 + "]:65535", state)
    assert len(line) < MAX_BYTES
    assert RelayGuard(SECRET, 1 << 62).client_of(taken(line, 1000)[0]) is not None


def test_one_of_a_former_version() -> None:
    """Has no state."""
    received, _ = taken(b"\0KVS-RELAY-1 %b 7 1.2.3.4:5\n" % SECRET.encode(), 1)
    assert RelayGuard(SECRET, 7).client_of(received) == RelayedClient("1.2.3.4:5", None)


def test_one_that_waits_for_nothing() -> None:
    """Is that of an older standby, which takes whatever comes for a reply to its client."""
    line = b'\0KVS-RELAY-2 %b 7 1.2.3.4:5 {"version":0,"user":""}\n' % SECRET.encode()
    assert RelayGuard(SECRET, 7).client_of(taken(line)[0]) == RelayedClient("1.2.3.4:5", ClientState(), waits=False)


@pytest.mark.parametrize(
    "line",
    [
        preamble(SECRET, 6, ADDRESS, ClientState()),
        preamble(SECRET, 8, ADDRESS, ClientState()),
        preamble("f" * 32, 7, ADDRESS, ClientState()),
        preamble("", 7, ADDRESS, ClientState()),
        preamble(SECRET, 7, "two words", ClientState()),
        preamble(SECRET, 7, ADDRESS, ClientState())[:-1],
        b"\0KVS-RELAY-1 %b 7 a {}\n" % SECRET.encode(),
        b"\0KVS-RELAY-2 %b 7 a\n" % SECRET.encode(),
        b"\0KVS-RELAY-3 %b 7 a {}\n" % SECRET.encode(),
        *(
            b"\0KVS-RELAY-2 %b 7 a %b\n" % (SECRET.encode(), state)
            for state in (b"", b"null", b"[]", b"{}", b"{", b'{"version":3}')
        ),
    ],
)
def test_what_is_refused(line: bytes) -> None:
    """Another term or secret, and what is no preamble."""
    given = Preamble()
    given.take(line)
    assert RelayGuard(SECRET, 7).client_of(given) is None


@pytest.mark.parametrize("term", [b"7", b"", b"0", b"None"])
@pytest.mark.parametrize("secret", [SECRET, ""])
def test_a_server_that_does_not_lead_admits_none(secret: str, term: bytes) -> None:
    """Whatever term they tell."""
    given = Preamble()
    given.take(b"\0KVS-RELAY-1 %b %b a\n" % (secret.encode(), term))
    assert given.complete
    assert RelayGuard(secret, None).client_of(given) is None


@pytest.mark.parametrize("start", [b"\0", b"\0KVS-RELAY-", b"\0KVS-RELAY-1", b"\0KVS-RELAY-2 abc"])
def test_what_may_become_one_is_waited_for(start: bytes) -> None:
    """And nothing else."""
    given = Preamble()
    given.take(start)
    assert not given.too_long
    given.take(b"x" * MAX_BYTES)
    assert given.too_long


@pytest.mark.parametrize("start", [b"\0\0", b"\0KVS-RELAX", b"\0KVS-RELAY-3", b"\0KVS-RELAY-2x"[:5] + b"\r"])
def test_what_cannot_become_one_is_not(start: bytes) -> None:
    """At once."""
    given = Preamble()
    given.take(start)
    assert given.too_long
