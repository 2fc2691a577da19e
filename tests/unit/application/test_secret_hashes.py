"""Hashes of secrets, and what is refused of those that others have made."""

from base64 import b64encode

import pytest

from kvs.application.secret_hashes import (
    DEFAULT,
    LEAST,
    MAX_WORK_BYTES,
    Parameters,
    ProcessKey,
    hash_password,
    hash_token,
    is_password,
    is_token,
    is_token_hash,
    new_token,
    parse,
    waste,
)

SALT = "c2FsdHNhbHRzYWx0"
HASH = "aGFzaGhhc2hoYXNoaGFzaA"


@pytest.mark.parametrize("secret", [b"secret", b"", b"\0\xff", b"x" * 10_000, "pässword".encode()])
def test_a_password_is_known_again(secret: bytes) -> None:
    """And no other is taken for it; two hashes of one differ."""
    text = hash_password(secret, LEAST)
    assert is_password(secret, text)
    assert not is_password(secret + b"x", text)
    assert not is_password(b"other", text)
    assert hash_password(secret, LEAST) != text
    assert parse(text).parameters == LEAST


def test_one_that_another_program_has_made() -> None:
    """The third test vector of RFC 7914."""
    digest = bytes.fromhex(
        "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
        "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
    )
    salt, encoded = (b64encode(data).decode().rstrip("=") for data in (b"SodiumChloride", digest))
    text = f"$scrypt$ln=14,r=8,p=1${salt}${encoded}"
    assert parse(text).parameters == Parameters(14, 8, 1)
    assert is_password(b"pleaseletmein", text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not of the form"),
        ("secret", "not of the form"),
        (f"$scrypt$ln=14,r=8,p=1${SALT}", "not of the form"),
        (f"$scrypt$ln=14,r=8,p=1${SALT}${HASH}\n", "not of the form"),
        (f"$scrypt$ln=\u0661\u0664,r=8,p=1${SALT}${HASH}", "not of the form"),
        (f"$argon2id$ln=14,r=8,p=1${SALT}${HASH}", "not of the form"),
        (f"$scrypt$ln=9,r=8,p=1${SALT}${HASH}", "too weak"),
        (f"$scrypt$ln=14,r=1,p=1${SALT}${HASH}", "too weak"),
        (f"$scrypt$ln=14,r=8,p=0${SALT}${HASH}", "too weak"),
        (f"$scrypt$ln=99,r=8,p=1${SALT}${HASH}", "memory"),
        (f"$scrypt$ln=17,r=8,p=1${SALT}${HASH}", "memory"),
        (f"$scrypt$ln=10,r=99,p=99${SALT}${HASH}", "too long"),
        (f"$scrypt$ln=14,r=8,p=99${SALT}${HASH}", "too long"),
        (f"$scrypt$ln=14,r=8,p=1$c2Fsd${HASH}", "base64"),
        (f"$scrypt$ln=14,r=8,p=1$c2FsdA${HASH}", "too short"),
        (f"$scrypt$ln=14,r=8,p=1${SALT}$aGFzaA", "too short"),
        (f"$scrypt$ln=14,r=8,p=1${'A' * 400}${HASH}", "too long"),
    ],
)
def test_what_is_not_a_hash_or_costs_too_much(text: str, reason: str) -> None:
    """Is refused, and not quoted: it may be a password."""
    with pytest.raises(ValueError, match=reason) as caught:
        parse(text)
    assert not text or text not in str(caught.value)


def test_the_default_is_allowed() -> None:
    """With room above."""
    assert DEFAULT.memory_bytes * DEFAULT.p < MAX_WORK_BYTES


def test_wasting_time_needs_no_password() -> None:
    """It is the same work."""
    waste(LEAST)


def test_tokens() -> None:
    """256 random bits."""
    token = new_token()
    assert is_token(token.encode())
    assert token != new_token()
    assert is_token_hash(hash_token(token.encode()))
    for wrong in (b"", b"0" * 63, b"0" * 65, b"G" * 64, b"A" * 64, b"\xff" * 64, b"0" * 63 + b"\n"):
        assert not is_token(wrong)


def test_keyed_hashes() -> None:
    """They depend on the key, the name and the secret, and on where one ends."""
    key = ProcessKey()
    assert key.hash("a", b"b") == key.hash("a", b"b")
    assert len({key.hash("a", b"b"), key.hash("ab", b""), key.hash("", b"ab"), ProcessKey().hash("a", b"b")}) == 4
