"""Headers as HTTP/2 encodes them."""

import pytest

from kvs.adapters.storage.etcd.client.hpack import HpackError, decode, encode

pytestmark = pytest.mark.one_build


@pytest.mark.parametrize(
    ("block", "headers"),
    [
        ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", [("custom-key", "custom-header")]),
        ("040c2f73616d706c652f70617468", [(":path", "/sample/path")]),
        ("100870617373776f726406736563726574", [("password", "secret")]),
        ("82", [(":method", "GET")]),
        (
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
        ),
        ("20", []),
    ],
)
def test_the_examples_of_the_rfc_are_understood(block: str, headers: list[tuple[str, str]]) -> None:
    """Those of RFC 7541, appendix C, that need no dynamic table, and that its size is set to none."""
    assert decode(bytes.fromhex(block)) == tuple(headers)


def test_an_answer_of_etcd_is_understood() -> None:
    """As a member sent it: in Huffman's code."""
    block = bytes.fromhex("885f8b1d75d0620d263d4c4d6564")
    assert decode(block) == ((":status", "200"), ("content-type", "application/grpc"))


def test_headers_are_read_as_they_were_encoded() -> None:
    """Those of the static table are one byte; long ones, and a token, are never indexed."""
    headers = ((":method", "POST"), (":path", "/etcdserverpb.KV/Txn"), ("token", "t" * 1000))
    block = encode(headers)
    assert decode(block) == headers
    assert block[0] == 0x83
    assert block[1] == 0x10


@pytest.mark.parametrize(
    "block",
    [
        "80",  # the header of index 0
        "be",  # one of the dynamic table, which there is not
        "3f01",  # a dynamic table
        "00",  # no name
        "0001",
        "00016b05",
        "00016b0576",
        "7f",  # no end of a number
        "7fffffffffffffff01",  # a number of too many bits
        "00016b84ffffffff",  # the end of a string, in Huffman's code, within one
        "00016b8100",  # filled up with zeros
    ],
)
def test_a_block_against_the_rfc_is_an_error(block: str) -> None:
    """And nothing else than that."""
    with pytest.raises(HpackError):
        decode(bytes.fromhex(block))
