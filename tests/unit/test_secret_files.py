"""Secrets are read from files, and from nowhere else."""

import os
from pathlib import Path
from threading import Thread

import pytest

from kvs.config import ConfigError, load
from kvs.secret_files import MAX_BYTES, read_secret

pytestmark = pytest.mark.one_build


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a secret can be written."""
    return tmp_path / "password"


def written(path: Path, contents: bytes, mode: int = 0o600) -> str:
    """Write a secret; return the path."""
    path.write_bytes(contents)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("contents", "secret"),
    [
        (b"secret", b"secret"),
        (b"secret\n", b"secret"),
        (b"secret\r\n", b"secret"),
        (b"secret\n\n", b"secret\n"),
        (b"secret\r", b"secret\r"),
        (b" secret ", b" secret "),
        (b"\xff\0", b"\xff\0"),
        (b"x" * MAX_BYTES, b"x" * MAX_BYTES),
    ],
)
def test_one_newline_at_the_end_is_dropped(path: Path, contents: bytes, secret: bytes) -> None:
    """Editors and echo write one. Nothing else is changed."""
    assert read_secret(written(path, contents), "password_file") == secret


@pytest.mark.parametrize("contents", [b"", b"\n", b"\r\n"])
def test_an_empty_one(path: Path, contents: bytes) -> None:
    """Is a mistake, and no secret."""
    with pytest.raises(ConfigError, match=r"^password_file: .*password is empty$"):
        read_secret(written(path, contents), "password_file")


def test_one_that_is_too_long(path: Path) -> None:
    """Is something else, and not quoted."""
    with pytest.raises(ConfigError, match=r"^password_file: .*password has more than 4096 bytes$"):
        read_secret(written(path, b"x" * (MAX_BYTES + 2)), "password_file")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_one_that_others_may_write(path: Path, mode: int) -> None:
    """Is theirs."""
    with pytest.raises(ConfigError, match="others than its owner may write"):
        read_secret(written(path, b"secret", mode), "password_file")


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o644])
def test_one_that_others_may_read(path: Path, mode: int) -> None:
    """Is as orchestrators mount secrets."""
    assert read_secret(written(path, b"secret", mode), "password_file") == b"secret"


def test_one_that_is_missing(path: Path) -> None:
    """Is told with its path."""
    with pytest.raises(ConfigError, match=r"^password_file: cannot read .*password: No such file or directory$"):
        read_secret(str(path), "password_file")


def test_a_pipe(path: Path) -> None:
    """As a shell makes one: <(pass show kvs)."""
    os.mkfifo(path, 0o600)
    writer = Thread(target=path.write_bytes, args=(b"secret\n",))
    writer.start()
    assert read_secret(str(path), "password_file") == b"secret"
    writer.join()


@pytest.mark.parametrize("variable", ["KVS_PASSWORD", "KVS_ADMIN_TOKEN", "KVS_METRICS_TOKEN", "KVS_TLS_KEY"])
def test_the_environment_takes_no_secret(variable: str) -> None:
    """It points to the variable that names a file, and does not tell the secret."""
    with pytest.raises(ConfigError, match=f"^{variable}: .*{variable}_FILE$") as caught:
        load({}, {variable: "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_what_systemd_hands_on(path: Path) -> None:
    """A file called like the secret is used, if the setting is not given."""
    written(path, b"secret")
    environment = {"CREDENTIALS_DIRECTORY": str(path.parent)}
    configuration = load({}, environment)
    assert configuration.unknown_variables == []
    for flags, variables, used in (
        ({}, {}, (str(path), "$CREDENTIALS_DIRECTORY")),
        ({"password_file": "/other"}, {}, ("/other", "--password-file")),
        ({}, {"KVS_PASSWORD_FILE": "/other"}, ("/other", "KVS_PASSWORD_FILE")),
    ):
        found = load(flags, environment | variables)
        assert (found.settings.password_file, found.origins["password_file"]) == used
    path.unlink()
    assert not load({}, environment).settings.password_file
