"""Hashes of secrets: scrypt for passwords that people choose, SHA-256 for tokens that are generated.

A token has 256 random bits, so nothing is gained by making its hash slow. The text of a password's hash has its own
parameters: ``$scrypt$ln=14,r=8,p=5$salt$hash``, with salt and hash in base64 without padding.
"""

import binascii
import hashlib
import hmac
import re
import secrets
from base64 import b64decode, b64encode
from typing import Final, NamedTuple, final

SALT_BYTES: Final = 16
HASH_BYTES: Final = 32
TOKEN_BYTES: Final = 32

MAX_SECRET_BYTES: Final = 16 << 10
"""Longest secret; a longer one is wrong."""

_HASH: Final = re.compile(
    r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9]{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)"
)
_TOKEN: Final = re.compile("[0-9a-f]{64}")


class Parameters(NamedTuple):
    """What a check of a password costs: ``2 ** ln * r * 128`` bytes of memory, and time in proportion to that and p."""

    ln: int
    r: int
    p: int

    @property
    def memory_bytes(self) -> int:
        return 128 * self.r << self.ln


DEFAULT: Final = Parameters(14, 8, 5)
"""16 MiB, and 0.25 s of a processor. One of the sets that OWASP calls equally strong, with little memory."""

LEAST: Final = Parameters(10, 8, 1)
MAX_MEMORY_BYTES: Final = 64 << 20
MAX_WORK_BYTES: Final = 256 << 20
"""Memory times p: about a second."""


class PasswordHash(NamedTuple):
    """A hash of a password, taken apart."""

    parameters: Parameters
    salt: bytes
    digest: bytes


@final
class ProcessKey:
    """Hashes with a key of this process, which are quick, and of no use to anyone without its memory."""

    __slots__ = ("_key",)

    def __init__(self) -> None:
        self._key: Final = secrets.token_bytes(HASH_BYTES)

    def hash(self, name: str, secret: bytes = b"") -> bytes:
        """Return the hash of a name, which has no NUL, and a secret."""
        return hmac.digest(self._key, name.encode("utf-8", "surrogateescape") + b"\0" + secret, "sha256")


def parameters_of(text: str) -> Parameters:
    """Return the parameters of a hash that :func:`parse` has accepted."""
    match = _HASH.fullmatch(text)
    return DEFAULT if match is None else Parameters(*map(int, match.groups()[:3]))


def parse(text: str) -> PasswordHash:
    """Return the parts of a hash.

    Raises:
        ValueError: It is not one, is too weak, or would take too much memory or time; the message says which.
    """
    match = _HASH.fullmatch(text)
    if match is None:
        raise ValueError("it is not of the form $scrypt$ln=14,r=8,p=5$salt$hash, as `kvs users hash` prints it")
    parameters = Parameters(*map(int, match.groups()[:3]))
    if parameters.ln < LEAST.ln or parameters.r < LEAST.r or parameters.p < LEAST.p:
        raise ValueError(f"its parameters are too weak; the least are ln={LEAST.ln}, r={LEAST.r}, p={LEAST.p}")
    if parameters.memory_bytes > MAX_MEMORY_BYTES:
        raise ValueError(f"to check it would take more than {MAX_MEMORY_BYTES >> 20} MiB of memory")
    if parameters.memory_bytes * parameters.p > MAX_WORK_BYTES:
        raise ValueError(f"to check it would take too long; ln={DEFAULT.ln}, r={DEFAULT.r}, p={DEFAULT.p} are enough")
    salt, digest = _decoded(match[4]), _decoded(match[5])
    if not 8 <= len(salt) <= 64 or not 16 <= len(digest) <= 64:
        raise ValueError("its salt or its hash is too short or too long")
    return PasswordHash(parameters, salt, digest)


def hash_password(secret: bytes, parameters: Parameters = DEFAULT) -> str:
    """Return the hash of a chosen password. It takes 0.25 s; the interpreter's lock is free meanwhile."""
    salt = secrets.token_bytes(SALT_BYTES)
    digest = _scrypt(secret, salt, parameters, HASH_BYTES)
    ln, r, p = parameters
    return f"$scrypt$ln={ln},r={r},p={p}${_encoded(salt)}${_encoded(digest)}"


def is_password(secret: bytes, text: str) -> bool:
    """Return whether a secret is the one that was hashed. As slow as :func:`hash_password`."""
    parameters, salt, digest = parse(text)
    return hmac.compare_digest(_scrypt(secret, salt, parameters, len(digest)), digest)


def waste(parameters: Parameters) -> None:
    """Take as long as the check of a password with these parameters."""
    _scrypt(b"", bytes(SALT_BYTES), parameters, HASH_BYTES)


def new_token() -> str:
    """Return a new token: 256 random bits, as 64 hexadecimal digits."""
    return secrets.token_hex(TOKEN_BYTES)


def hash_token(secret: bytes) -> str:
    """Return the SHA-256 of a token, in hexadecimal digits."""
    return hashlib.sha256(secret).hexdigest()


def is_token(secret: bytes) -> bool:
    """Return whether a secret looks like a generated token: 64 hexadecimal digits in lower case."""
    return len(secret) == 2 * TOKEN_BYTES and _TOKEN.fullmatch(secret.decode("latin-1")) is not None


def is_token_hash(text: str) -> bool:
    """Return whether a text is the SHA-256 of something, in lower-case hexadecimal digits."""
    return _TOKEN.fullmatch(text) is not None


def _scrypt(secret: bytes, salt: bytes, parameters: Parameters, length: int) -> bytes:
    return hashlib.scrypt(
        secret,
        salt=salt,
        n=1 << parameters.ln,
        r=parameters.r,
        p=parameters.p,
        maxmem=2 * MAX_MEMORY_BYTES,
        dklen=length,
    )


def _encoded(data: bytes) -> str:
    return b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ValueError("its salt or its hash is not base64") from None
