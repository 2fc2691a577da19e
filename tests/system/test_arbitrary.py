"""Arbitrary bytes in arbitrary splits: one reply per line, never a crash, never a hang.

RESP has its own such tests, in ``tests/property/test_resp_framing.py`` and ``tests/interop/test_hostile.py``.
"""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvs.adapters.inbound.line.commands import COMMANDS
from kvs.adapters.inbound.resp.verbs import VERBS
from tests.support.harness import PONG, Client, Reply, Server

WORDS = st.sampled_from(
    [
        *(b"PUT", b"GET", b"DEL", b"START", b"COMMIT", b"ROLLBACK", b"KEYS", b"COUNT", b"INFO", b"PING", b"HELP"),
        *(b"put", b"EXIT", b"Host:", b"HTTP/1.1", b"a", b"b", b"ab", b"\xc5\xbc"),
        *(b"", b" ", b"\t", b"\r", b"\xff", b"\x16", b"\x00"),
    ]
)
LINES = st.one_of(
    st.lists(WORDS, max_size=5).map(b" ".join),
    st.lists(WORDS, max_size=5).map(b"".join),
    st.binary(max_size=40),
    st.text(max_size=40).map(str.encode),
    st.integers(0, 3000).map(lambda size: b"PUT k " + b"v" * size),
)
ENDS = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\n\n", b""])


def is_line_protocol(data: bytes) -> bool:
    """Return whether a connection that begins so speaks the line protocol, which its first line tells."""
    first = data.partition(b"\n")[0]
    verb = (first.split() or [b""])[0].upper()
    inline = verb in (b"PING", b"INFO") or (verb in VERBS and verb not in COMMANDS)
    return not (first.startswith(b"*") or (first.endswith(b"\r") and inline))


INPUTS = st.lists(st.tuples(LINES, ENDS).map(b"".join), max_size=30).map(b"".join).filter(is_line_protocol)
NOISE = st.binary(max_size=6000).filter(is_line_protocol)

a_half = settings(max_examples=settings().max_examples // 2)
a_quarter = settings(max_examples=settings().max_examples // 4)


def answers(server: Server, data: bytes, cuts: list[int]) -> list[Reply]:
    """Send data cut into packets, end the input, and return the replies up to an orderly end."""
    with server.connect() as client:
        bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
        for start, end in pairwise(bounds):
            if not try_to_send(client, data[start:end]):
                break
        else:
            try_to_half_close(client)
        return client.rest()


def try_to_send(client: Client, data: bytes) -> bool:
    """Send, unless the server has had enough."""
    try:
        client.send_raw(data)
    except ConnectionError:
        return False
    return True


def try_to_half_close(client: Client) -> None:
    """End the input, unless the server has had enough."""
    try:
        client.half_close()
    except OSError:
        return


@pytest.fixture(scope="module")
def steady_server(transport_flags: tuple[str, ...]) -> Iterator[Server]:
    """Return a server for all the examples of this module; they do not mind what others left in it."""
    with Server(*transport_flags) as server:
        yield server


@a_half
@given(data=INPUTS, cuts=st.lists(st.integers(0, 5000), max_size=12))
def test_one_reply_per_line(steady_server: Server, data: bytes, cuts: list[int]) -> None:
    """Every complete line up to one that ends the connection gets one reply, an unfinished last one too."""
    replies = answers(steady_server, data, cuts)
    *lines, tail = data.split(b"\n")
    due = len(lines) + bool(tail)
    if len(replies) != due:
        assert len(replies) < due or data.startswith(b"\x16")
        last = replies[-1]
        said_exit = len(replies) <= len(lines) and lines[len(replies) - 1].strip().upper() in (b"EXIT", b"QUIT")
        assert last.get("code") == "protocol" or (said_exit and last["status"] == "Ok")
    with steady_server.connect() as other:
        assert other.ask("PING") == PONG


@a_half
@given(data=INPUTS, cuts=st.lists(st.integers(0, 5000), min_size=1, max_size=40))
def test_splits_do_not_matter(steady_server: Server, data: bytes, cuts: list[int]) -> None:
    """The same bytes get the same answers however they are cut into packets."""
    whole = [reply.get("code") for reply in answers(steady_server, data, [])]
    assert [reply.get("code") for reply in answers(steady_server, data, cuts)] == whole


@a_quarter
@given(data=NOISE, cuts=st.lists(st.integers(0, 6000), max_size=5))
def test_noise(steady_server: Server, data: bytes, cuts: list[int]) -> None:
    """Mere noise is answered line by line too."""
    replies = answers(steady_server, data, cuts)
    assert len(replies) <= data.count(b"\n") + 1
    assert not any(reply.get("code") in ("internal", "outcome_unknown") for reply in replies)
