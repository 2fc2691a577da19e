"""Options that the engine refuses before it calls anybody."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from kvs.adapters.storage.etcd.engine import ETCD, connect
from kvs.adapters.storage.etcd.options import EtcdOptions
from kvs.config import ConfigError, Settings
from kvs.logs import make_logger

pytestmark = pytest.mark.one_build


@pytest.mark.parametrize(
    "address",
    [
        *("b\u00fccher.example:4000", "a\nb:4000", "a b:4000", f"{'a.' * 128}:4000"),
        *("a", "[::1]", "a:1,b:1", "a:1,b c", "http://a:1", "a:1/b", "::1:4000", " a:1", "0.0.0.0:1", "[::]:1"),
    ],
)
def test_an_address_at_which_others_could_not_reach_this_server_is_refused(address: str) -> None:
    """By name, in a line that says nothing of addresses of etcd: else no server could go on, or be relayed to."""
    log = make_logger("error", "json", sys.stderr)
    options = EtcdOptions(advertise_address=address)
    assert ETCD.stand_by is not None
    with pytest.raises(ConfigError, match=r"^storage\.etcd\.advertise_address: .") as raised:
        ETCD.stand_by(Settings(storage="etcd"), options, ("127.0.0.1", 1), log).close()
    said = str(raised.value)
    assert not [other for other in ("\n", "endpoint", "ca_file", "2379") if other in said]


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


def test_a_password_that_cannot_be_used_later_leaves_the_one_before(tmp_path: Path) -> None:
    """As while somebody writes it; that is logged once, until it can be used again."""
    path = tmp_path / "password"
    path.write_text("first")
    with capture_logs() as events:
        options = EtcdOptions(user="kvs", password_file=str(path))
        with closing(connect(options, structlog.get_logger())) as client:
            password = client._auth.password
            for contents, expected in (("", "first"), ("", "first"), ("second", "second"), ("", "second")):
                path.write_text(contents)
                assert password() == expected
            path.unlink()
            assert password() == "second"
    told = [event["reason"].rpartition(str(path))[2] for event in events if event["event"] == "etcd_files_unusable"]
    assert told == [" is empty", " is empty", ": No such file or directory"]


def test_a_password_from_a_pipe_is_read_once(tmp_path: Path) -> None:
    """A second reader would wait for ever."""
    path = tmp_path / "password"
    os.mkfifo(path)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(path.write_text, "secret")
        with closing(connect(EtcdOptions(user="kvs", password_file=str(path)))) as client:
            assert client._auth.password() == "secret"
