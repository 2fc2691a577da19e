"""The lock of a directory in which servers make their sockets."""

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvs.adapters.inbound.net.listener import ListenError
from kvs.adapters.inbound.net.unix_socket import ANSWER_TIMEOUT_S, UnixBinding


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[int]:
    """Lock a directory, as a server does that starts at the same time; return its descriptor."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield descriptor
    os.close(descriptor)


def test_a_server_waits_for_another_that_starts(tmp_path: Path, locked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes a moment."""
    monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(locked, fcntl.LOCK_UN))
    binding = UnixBinding(str(tmp_path / "kvs.sock"), 0o700)
    sockets = binding.bind()
    assert (tmp_path / "kvs.sock").is_socket()
    binding.unbind(sockets)


@pytest.mark.usefixtures("locked")
def test_it_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may have locked the directory."""
    now = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(ListenError, match="resource temporarily unavailable"):
        UnixBinding(str(tmp_path / "kvs.sock"), 0o700).bind()
    assert next(now) > ANSWER_TIMEOUT_S
