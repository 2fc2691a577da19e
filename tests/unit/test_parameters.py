"""What CONFIG GET tells of settings."""

import os

import pytest

from kvs.config import Settings
from kvs.parameters import parameters


@pytest.mark.parametrize(
    ("durability", "syncs"), [("full", b"always"), ("normal", b"everysec"), ("off", b"no"), ("", b"no")]
)
def test_durability(durability: str, syncs: bytes) -> None:
    """In the words of Redis; an engine in memory never syncs."""
    told = parameters(Settings(), durable=True, durability=durability)
    assert (told[b"appendonly"], told[b"appendfsync"]) == (b"yes", syncs)
    told = parameters(Settings(), durable=False, durability=durability)
    assert (told[b"appendonly"], told[b"appendfsync"], told[b"dir"]) == (b"no", b"no", b"")


def test_names_in_no_encoding() -> None:
    """The name of a directory may be any bytes, and CONFIG GET returns the same bytes."""
    settings = Settings(host=(os.fsdecode(b"\xff"),), data_dir=os.fsdecode(b"/data/\xff"))
    told = parameters(settings, durable=True, durability="full")
    assert (told[b"dir"], told[b"bind"]) == (b"/data/\xff", b"\xff")


def test_settings() -> None:
    """By the names that Redis has for them."""
    settings = Settings(
        host=("127.0.0.1", "::1"),
        port=5,
        data_dir="data",
        max_value_bytes=7,
        max_data_bytes=8,
        max_clients=9,
        max_request_bytes=10,
        idle_timeout_s=1.5,
        log_level="error",
    )
    told = parameters(settings, durable=True, durability="full")
    names = ("bind", "port", "proto-max-bulk-len", "maxmemory", "maxclients", "client-query-buffer-limit", "timeout")
    assert [told[name.encode()] for name in names] == [b"127.0.0.1 ::1", b"5", b"7", b"8", b"9", b"10", b"1"]
    assert told[b"loglevel"] == b"warning"
    assert told[b"dir"].endswith(b"/data")
    assert told[b"save"] == b""
