"""Options that the engine refuses before it calls anybody."""

import sys
from pathlib import Path

import pytest

from kvs.adapters.storage.etcd.engine import connect
from kvs.adapters.storage.etcd.options import EtcdOptions
from kvs.config import ConfigError, Given, Settings
from kvs.engines import open_storage
from kvs.logs import make_logger

pytestmark = pytest.mark.one_build


@pytest.mark.parametrize("address", ["b\u00fccher.example:4000", "a\nb:4000", "a b:4000", f"{'a' * 256}:4000"])
def test_an_address_that_others_could_not_read_is_refused(address: str) -> None:
    """Else no server could go on."""
    given = {"advertise_address": Given(address, "test")}
    log = make_logger("error", "json", sys.stderr)
    settings = Settings(storage="etcd")
    with pytest.raises(ConfigError, match="advertise_address"), open_storage(settings, given, log):
        pass


@pytest.mark.parametrize(
    ("contents", "mode", "message"),
    [
        (b"\n", 0o600, "is empty"),
        (b"secret", 0o602, "others than its owner may write"),
        (b"\xff", 0o600, "can't decode"),
    ],
)
def test_a_password_that_cannot_be_used_is_refused(tmp_path: Path, contents: bytes, mode: int, message: str) -> None:
    """By the rules for all secrets."""
    path = tmp_path / "password"
    path.write_bytes(contents)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=rf"storage\.etcd\.password_file: .*{message}"):
        connect(EtcdOptions(user="kvs", password_file=str(path)))
