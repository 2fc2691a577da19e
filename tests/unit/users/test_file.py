"""The users file: what is refused of it, and how it is replaced."""

import os
import stat
from pathlib import Path

import pytest

from kvs.adapters.users.document import MAX_BYTES, render
from kvs.adapters.users.file import UsersFile
from kvs.config import ConfigError
from kvs.domain.accounts import OPEN, Account
from kvs.domain.grants import READ, Grant, Grants
from kvs.ports.users import UsersNotSavedError

pytestmark = pytest.mark.one_build

COMMANDS = frozenset([b"get"])
TOM = Account(enabled=True, tokens=("0" * 64,), grants=Grants(Grant(READ, (b"a:",))))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty users file."""
    path = tmp_path / "users.toml"
    path.touch(0o600)
    return path


def users_file(path: Path) -> UsersFile:
    """Return the users of a file."""
    return UsersFile(str(path), COMMANDS)


def test_what_is_saved_is_loaded(path: Path) -> None:
    """By the next server."""
    file = users_file(path)
    assert file.load() == {}
    file.save({"default": OPEN, "tom": TOM}, 0)
    file.save({"default": OPEN, "tom": TOM, "ann": TOM}, 0)
    assert users_file(path).load() == {"default": OPEN, "tom": TOM, "ann": TOM}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_one_that_is_missing(path: Path) -> None:
    """Is a mistake: a misspelt path must not open the server to everyone."""
    path.unlink()
    with pytest.raises(ConfigError, match=r"users_file: .*users.toml does not exist; an empty file is"):
        users_file(path).load()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_one_that_others_may_write(path: Path, mode: int) -> None:
    """Is refused: they could make themselves administrators."""
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"others than its owner may write .*mode {mode:04o}.*chmod go-w"):
        users_file(path).load()


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"\xff", "is not UTF-8"),
        (b"[users.a]\nenabled = 1", "user 'a': Expected `bool`"),
        (b"#" * (MAX_BYTES + 1), "has more than 4 MiB"),
    ],
)
def test_one_that_is_wrong(path: Path, contents: bytes, message: str) -> None:
    """Is refused, and its path told."""
    path.write_bytes(contents)
    with pytest.raises(ConfigError, match=f"users_file: .*users.toml:? {message}"):
        users_file(path).load()


def test_one_that_cannot_be_read(tmp_path: Path) -> None:
    """A directory, for one."""
    with pytest.raises(ConfigError, match=r"users_file: cannot read .*: Is a directory"):
        users_file(tmp_path).load()


def test_a_byte_order_mark_and_windows_line_ends(path: Path) -> None:
    """Editors write them."""
    path.write_bytes(b"\xef\xbb\xbf" + render({"tom": TOM}).replace("\n", "\r\n").encode())
    assert users_file(path).load() == {"tom": TOM}


def test_a_link_stays_one(path: Path) -> None:
    """The file it names is replaced."""
    link = path.with_name("link.toml")
    link.symlink_to(path.name)
    file = users_file(link)
    file.load()
    file.save({"tom": TOM}, 0)
    assert link.is_symlink()
    assert users_file(path).load() == {"tom": TOM}


def test_what_somebody_has_written_meanwhile_is_not_lost(path: Path) -> None:
    """A change is refused until the file has been read again."""
    file = users_file(path)
    file.load()
    path.write_text("[users.ann]\n")
    with pytest.raises(UsersNotSavedError, match=r"has been changed since it was read. SIGHUP"):
        file.save({"tom": TOM}, 0)
    assert set(users_file(path).load()) == {"ann"}
    file.load()
    file.save({"tom": TOM}, 0)
    assert users_file(path).load() == {"tom": TOM}


@pytest.fixture
def irreplaceable(path: Path) -> Path:
    """A file whose name leaves no room for that of the new one."""
    return path.rename(path.with_name("u" * 250))


def test_one_that_cannot_be_replaced(irreplaceable: Path) -> None:
    """Stays as it is."""
    file = users_file(irreplaceable)
    file.load()
    with pytest.raises(UsersNotSavedError, match="cannot be replaced: "):
        file.save({"tom": TOM}, 0)
    assert users_file(irreplaceable).load() == {}


def test_what_a_killed_server_has_left_is_in_no_way(path: Path) -> None:
    """Not even if it had the same process id, as in a container."""
    path.with_name(f".{path.name}.{os.getpid()}.partial").touch()
    file = users_file(path)
    file.load()
    file.save({"tom": TOM}, 0)
    assert users_file(path).load() == {"tom": TOM}


def test_one_that_has_been_removed(path: Path) -> None:
    """Is not made anew."""
    file = users_file(path)
    file.load()
    path.unlink()
    with pytest.raises(UsersNotSavedError, match="cannot be replaced: No such file"):
        file.save({"tom": TOM}, 0)


def test_one_that_would_be_too_large(path: Path) -> None:
    """Could not be read again."""
    file = users_file(path)
    file.load()
    wide = Grants(*[Grant(READ, tuple(b"%d" % number + b"x" * 1000 for number in range(100)))] * 50)
    with pytest.raises(UsersNotSavedError, match="would have more than 4 MiB"):
        file.save({"tom": Account(grants=wide)}, 0)
