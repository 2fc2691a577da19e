"""Headers of requests, right and wrong, of every length: the answer is that of Redis, and so is the end."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.resp_wire import OK, Address, Wire, request

PING: Final = request("PING")
CUT_SHORT: Final = b"-ERR The last request was not complete, so it was not run.\r\n"
"""What kvs says at the end of input, and Redis does not."""

LINE_BYTES: Final = 1 << 16
"""Longest header that Redis waits for the end of. One byte more, and no other, which Redis would not read any more."""
SHORT_OF_IT: Final = 60_000

NUMBERS: Final = [
    b"%d" % (limit + step) for limit in (2**31, 2**32, 2**63, 2**64, 10**18, 10**19) for step in (-1, 0, 1)
]


def numbers(first_refused: int, last_refused: int) -> Iterator[bytes]:
    """Yield what may stand in a header, or may not, but for numbers that only kvs refuses, for its limits are lower."""
    plain = [b"9" * digits for digits in range(1, 34)] + [b"1" + b"0" * digits for digits in range(33)] + NUMBERS
    plain = [number for number in plain if not first_refused <= int(number) <= last_refused]
    yield from plain
    yield from (b"-" + number for number in plain)
    for number in (b"0", b"1", b"3", b"9" * 19):
        yield from (
            before + number for before in (b"0", b"00", b"+", b" ", b"--", b"-0", b"+-", b"0x", b"\t", b"*", b"$")
        )
        yield from (number + behind for behind in (b" ", b"x", b".0", b"e1", b"-", b"$", b"\xff"))
    yield from (b"", b"-", b"+", b"x", b"PING", b"\xff\xfe", b"-x")


MULTIBULK: Final = sorted({b"*" + number for number in numbers(65_537, 2**31 - 1)})
BULK: Final = sorted({b"*2\r\n$4\r\nECHO\r\n$" + number for number in numbers(1 << 24, 1 << 29)})
WITHOUT_END: Final = [
    before + (header + digit * length)[:length] + end
    for before, header in ((b"", b"*"), (PING, b"*-"), (b"*1\r\n", b"$"), (PING + b"*2\r\n$4\r\nECHO\r\n", b"$-"))
    for digit in (b"1", b"0", b"x")
    for length, end in ((SHORT_OF_IT, b""), (SHORT_OF_IT, b"\r\n"), (LINE_BYTES, b""), (LINE_BYTES + 1, b""))
]


def answered(address: Address, data: bytes) -> bytes:
    """Return all that is answered up to the end, where no more is sent."""
    with Wire(address) as wire:
        wire.send(data)
        wire.socket.shutdown(socket.SHUT_WR)
        return wire.rest()


@pytest.mark.parametrize("headers", [MULTIBULK, BULK], ids=["arguments", "bytes"])
@pytest.mark.parametrize(
    "behind", [b"\r\n", b"\r\n" + PING, b"\r\n\r\n" + PING], ids=["nothing", "a request", "a line"]
)
def test_any_number(address: tuple[str, int], redis_path: Path, headers: list[bytes], behind: bytes) -> None:
    """As many digits as there are, with signs, zeros and blanks, and what follows."""
    for header in headers:
        kvs = answered(address, header + behind).removesuffix(CUT_SHORT)
        if b"expected CRLF behind a bulk string" not in kvs:  # which Redis does not look at
            assert kvs == answered(redis_path, header + behind), header


@pytest.mark.parametrize("data", WITHOUT_END, ids=lambda data: f"{data[:40]!r}, {len(data)} bytes")
def test_a_header_that_does_not_end(address: tuple[str, int], redis_path: Path, data: bytes) -> None:
    """It is waited for up to 64 KiB, and then refused."""
    assert answered(address, data).removesuffix(CUT_SHORT) == answered(redis_path, data)


@pytest.mark.parametrize("line", [b"\n", b"\r\n"])
def test_empty_lines(address: tuple[str, int], redis_path: Path, line: bytes) -> None:
    """Between requests, before the end, and many of them; in one packet, and a byte to each."""
    data = PING + line + PING + line * 1000 + PING + line
    for server in (address, redis_path):
        assert answered(server, data) == b"+PONG\r\n" * 3
        with Wire(server) as wire:
            for byte in PING + line + PING + line * 3 + PING:
                wire.send(bytes([byte]))
            assert [wire.reply() for _ in range(3)] == [wire.ask("PING")] * 3


@pytest.mark.parametrize("name", ["POST", "post", "Host:", "HOST:", "post\0x"])
@pytest.mark.parametrize("queue", [False, True])
def test_words_of_http(address: tuple[str, int], redis_path: Path, name: str, queue: bool) -> None:
    """A browser that was made to send a request is left without a word, and nothing behind it runs."""
    for server in (address, redis_path):
        with Wire(server) as wire:
            assert not queue or wire.ask("MULTI") == OK
            wire.send(request(name, "/") + request("SET", "posted", "1"))
            assert wire.rest() == b""
        with Wire(server) as wire:
            assert wire.ask("EXISTS", "posted") == 0
