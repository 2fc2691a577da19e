"""SCAN: where a listing goes on, whoever else lists meanwhile, and how little fits into a reply."""

import pytest

from kvs.adapters.inbound.resp.connection import RespConnection
from kvs.adapters.inbound.resp.cursors import MAX_CURSORS, Place
from tests.support.resp_connection import RespServer, ask
from tests.support.resp_wire import Typed

KEYS = [b"%d" % number for number in range(4)]


def scan(connection: RespConnection, cursor: bytes, count: bytes = b"1") -> tuple[bytes, list[bytes]]:
    """Return the next cursor and the page."""
    match ask(connection, b"SCAN", cursor, b"COUNT", count):
        case [bytes(following), list(keys)]:
            return following, [key for key in keys if isinstance(key, bytes)]
        case reply:
            pytest.fail(repr(reply))


@pytest.mark.parametrize("transaction", [False, True])
def test_a_listing_goes_on_whatever_others_list(transaction: bool) -> None:
    """A cursor that others make the server forget is known all the same to the connection that was given it last."""
    server = RespServer()
    for key in KEYS:
        server.bench.storage.put(key, b"")
    mine, other = server.connect(), server.connect()
    if transaction:
        ask(mine, b"START", b"READONLY")
    found: list[bytes] = []
    cursor = b"0"
    for _ in KEYS:
        cursor, page = scan(mine, cursor)
        found += page
        for _ in range(MAX_CURSORS + 1):
            server.shared.cursors.issue(Place(b"5", b"", None))
        refused = ask(other, b"SCAN", cursor)
        assert isinstance(refused, Typed)
        assert refused.kind == "-"
    assert found == KEYS
    assert scan(mine, cursor) == (b"0", [])


def test_a_page_has_a_key_however_long() -> None:
    """The bound of a reply is never less than the longest key."""
    server = RespServer(max_reply_bytes=1)
    keys = [bytes((code,)) * 100 for code in range(3)]
    for key in keys:
        server.bench.storage.put(key, b"")
    connection = server.connect()
    cursor, found = b"0", list[bytes]()
    for _ in keys:
        cursor, page = scan(connection, cursor, b"10")
        assert len(page) == 1
        found += page
    assert (cursor, found) == (b"0", keys)
