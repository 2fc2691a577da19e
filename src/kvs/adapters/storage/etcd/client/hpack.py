"""HPACK (RFC 7541) without its dynamic table, which this end forbids the other: so a block means what it says, alone.

What is sent is never compressed: the headers of a call are encoded once and kept.
"""

from functools import lru_cache
from typing import Final, TypeAlias

Headers: TypeAlias = tuple[tuple[str, str], ...]

_STATIC: Final[Headers] = (
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
)
"""RFC 7541, appendix A; counted from one."""

_LENGTHS: Final = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b0806060605050506"
    "06060606060607080f060c0a0d06070707070707070707070707070707070707070707070807080d130d0e060f05060506050606"
    "060507070606060506070605050607070707070f0b0e0d1c14161414161616171617171717171817181816171817171717151617"
    "1617171816151416161717151716161815161717151516151716171714161616171616171a1a1413161716191a1a1a1b1b1a1819"
    "13151a1b1b1a1b1815151a1a1c1b1b1b14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a1e"
)
"""How many bits the Huffman code of each byte has, and of the end (RFC 7541, appendix B). The code is canonical: codes
of the same length follow one another in the order of bytes, so lengths tell all."""

_END: Final = 256
MAX_HEADERS_BYTES: Final = 64 << 10
"""More is not accepted in one block: etcd answers in less than a kilobyte."""


class HpackError(ValueError):
    """Raised for a block that is against RFC 7541."""


def _huffman_codes() -> dict[tuple[int, int], int]:
    codes: dict[tuple[int, int], int] = {}
    code = length = 0
    for longer, symbol in sorted((bits, symbol) for symbol, bits in enumerate(_LENGTHS)):
        code <<= longer - length
        length = longer
        codes[length, code] = symbol
        code += 1
    return codes


_CODES: Final = _huffman_codes()


def encode(headers: Headers) -> bytes:
    """Encode headers as literals that nobody is to remember; of the static table, only whole entries."""
    block = bytearray()
    for name, value in headers:
        if (name, value) in _STATIC:
            block.append(0x80 | _STATIC.index((name, value)) + 1)
        else:
            block.append(0x10)  # never indexed: a token is a secret
            for text in (name, value):
                encoded = text.encode()
                block += _integer(len(encoded), 7)
                block += encoded
    return bytes(block)


@lru_cache(maxsize=64)
def decode(block: bytes) -> Headers:
    """Return the headers of a block; most blocks are the same as one before.

    Raises:
        HpackError: It is against RFC 7541, or refers to a table that was forbidden.
    """
    headers: list[tuple[str, str]] = []
    at = 0
    while at < len(block):
        first = block[at]
        if first & 0x80:
            index, at = _read_integer(block, at, 7)
            headers.append(_static(index))
        elif first & 0x40 or not first & 0x20:
            index, at = _read_integer(block, at, 6 if first & 0x40 else 4)
            if index:
                name = _static(index)[0]
            else:
                name, at = _read_string(block, at)
            value, at = _read_string(block, at)
            headers.append((name, value))
        else:
            size, at = _read_integer(block, at, 5)
            if size:
                raise HpackError("a dynamic table, which was forbidden")
    return tuple(headers)


def _static(index: int) -> tuple[str, str]:
    if not 0 < index <= len(_STATIC):
        raise HpackError(f"header {index} of a table that has {len(_STATIC)}")
    return _STATIC[index - 1]


def _integer(number: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if number < most:
        return bytes((number,))
    encoded = bytearray((most,))
    number -= most
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    try:
        number = block[at] & most
        at += 1
        if number < most:
            return number, at
        for shift in range(0, 28, 7):
            byte = block[at]
            at += 1
            number += (byte & 127) << shift
            if byte < 128:
                return number, at
    except IndexError:
        raise HpackError("a number ends early") from None
    raise HpackError("a number of more than 28 bits")


def _read_string(block: bytes, at: int) -> tuple[str, int]:
    if at >= len(block):
        raise HpackError("a string ends early")
    coded = block[at] & 0x80
    size, at = _read_integer(block, at, 7)
    if size > len(block) - at:
        raise HpackError("a string ends early")
    data = block[at : at + size]
    return (_huffman(data) if coded else data).decode("utf-8", "replace"), at + size


def _huffman(data: bytes) -> bytes:
    text = bytearray()
    code = length = 0
    for byte in data:
        for bit in range(7, -1, -1):
            code = code << 1 | byte >> bit & 1
            length += 1
            symbol = _CODES.get((length, code))
            if symbol == _END or length > 30:
                raise HpackError("a string with an end in it")
            if symbol is not None:
                text.append(symbol)
                code = length = 0
    if length > 7 or code != (1 << length) - 1:
        raise HpackError("a string is filled up with something else than ones")
    return bytes(text)
