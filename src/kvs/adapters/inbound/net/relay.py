"""The preamble of a relayed connection: the first line that a standby sends to the leader, before its client's bytes.

It tells the term that the standby believes in, and the client's address, and is authenticated by a secret that only
the servers of one data set know. Who does not lead that term refuses, so no relay leads on to another one.
"""

import hmac
from typing import Final, final

PREAMBLE_MARK: Final = 0
"""First byte of a preamble: no request of any protocol begins with it."""

MAX_BYTES: Final = 256
WORDS: Final = 4
_VERSION: Final = b"\0KVS-RELAY-1"


def preamble(secret: str, term: int, address: str) -> bytes:
    """Return the preamble for a client of this address."""
    return b" ".join((_VERSION, secret.encode(), b"%d" % term, address.encode())) + b"\n"


@final
class Preamble:
    """A preamble as far as it has arrived.

    Attributes:
        complete: Whether all of it is there.
    """

    def __init__(self) -> None:
        self.complete = False
        self.line = b""

    def take(self, data: bytes) -> bytes:
        """Take input; return what is behind the preamble."""
        self.line, end, rest = (self.line + data).partition(b"\n")
        self.complete = end != b""
        return rest

    @property
    def too_long(self) -> bool:
        """Whether this cannot be one."""
        return len(self.line) > MAX_BYTES


@final
class RelayGuard:
    """Admits relays to the leader of a term.

    Args:
        secret: Of the servers of the data set.
        term: Of this server's lead.
    """

    def __init__(self, secret: str, term: int) -> None:
        self._secret = secret.encode()
        self._term = b"%d" % term

    def client_of(self, given: Preamble) -> str | None:
        """Return the address of the client for which a preamble asks; None if it is incomplete or refused."""
        words = given.line.split(b" ")
        if not given.complete or len(words) != WORDS:
            return None
        version, secret, term, address = words
        admitted = hmac.compare_digest(secret, self._secret) and version == _VERSION and term == self._term
        return address.decode(errors="replace") if admitted else None
