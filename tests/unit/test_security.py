"""What the settings make of users: who needs a secret, and when a server refuses to start."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from kvs.application.background import Background
from kvs.application.secret_hashes import LEAST, ProcessKey, hash_password
from kvs.application.users import Users, UsersNotReadError
from kvs.config import ConfigError, Settings
from kvs.domain.accounts import OPEN, Account, Accounts
from kvs.domain.errors import UsageError
from kvs.domain.grants import EVERYTHING
from kvs.security import UserSource, adopter, beyond_loopback, command_names, share_users, users, users_reloader

pytestmark = pytest.mark.one_build

PROTECTED = "and a client needs no password; set password_file, or protected_mode = false"
TOM = f"[users.tom]\npasswords = ['{hash_password(b'x', LEAST)}']\n"


class Files:
    """A users file and a password file."""

    def __init__(self, directory: Path) -> None:
        self.users = directory / "users.toml"
        self.password = directory / "password"
        self.users.touch(0o600)
        self.write_password("secret\n")

    def write_password(self, text: str) -> None:
        self.password.touch(0o600)
        self.password.write_text(text)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """No users, and a password."""
    return Files(tmp_path)


@pytest.fixture
def saving() -> Iterator[Background]:
    """A thread that saves."""
    background = Background(1, asyncio.get_running_loop)
    yield background
    background.close()


def source(
    files: Files | None = None, *, password: bool = False, host: str = "127.0.0.1", protected: bool = True
) -> UserSource:
    """Return the users of settings."""
    return UserSource(
        Settings(
            host=(host,),
            users_file=str(files.users) if files else "",
            password_file=str(files.password) if files and password else "",
            protected_mode=protected,
        )
    )


def default_of(files: Files | None = None, *, password: bool = False) -> Account:
    """Return the default user."""
    return source(files, password=password).load()["default"]


def test_without_settings_everyone_may_do_everything() -> None:
    """As before there were users."""
    assert source().load() == {"default": OPEN}


def test_a_password_is_that_of_the_default_user(files: Files) -> None:
    """Who may do everything with it."""
    assert default_of(files, password=True) == Account(enabled=True, grants=EVERYTHING)


def test_users_without_a_default_one_switch_that_off(files: Files) -> None:
    """Or anyone could go on without any of them, unless there is a password."""
    assert default_of(files) == OPEN
    files.users.write_text(TOM)
    assert default_of(files) == Account()
    assert default_of(files, password=True) == Account(enabled=True, grants=EVERYTHING)
    files.users.write_text(TOM + "[users.default]\nnopass = true\ngrants = [{ allow = ['ping'] }]")
    assert default_of(files).nopass


def test_a_password_and_none_are_a_contradiction(files: Files) -> None:
    """At the start, and later."""
    given = source(files, password=True)
    given.load()
    with pytest.raises(UsageError, match="password_file"):
        given.check("default", OPEN)
    given.check("tom", OPEN)
    files.users.write_text("[users.default]\nnopass = true")
    with pytest.raises(ConfigError, match="password_file: the users file says of the default user that it needs no"):
        given.load()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "fe80::1%eth0"])
def test_beyond_loopback_a_secret_is_needed(files: Files, host: str) -> None:
    """Both ways out are told."""
    with pytest.raises(ConfigError, match=f"^host: others can reach {host}, {PROTECTED}$"):
        source(host=host).load()
    assert source(host=host, protected=False).load() == {"default": OPEN}
    given = source(files, password=True, host=host)
    given.load()
    with pytest.raises(UsageError, match="Other machines can reach this server: see the setting protected_mode"):
        given.check("tom", OPEN)
    given.check("tom", replace(OPEN, enabled=False))
    files.users.write_text(TOM + "[users.guest]\nnopass = true")
    with pytest.raises(ConfigError, match=PROTECTED):
        given.load()


@pytest.mark.parametrize(
    ("hosts", "beyond"),
    [
        (("127.0.0.1",), ""),
        (("127.0.0.9", "::1", "localhost"), ""),
        (("127.0.0.1", "192.0.2.1"), "192.0.2.1"),
        (("no-such-host.invalid",), ""),
        (("0",), "0"),
    ],
)
def test_what_others_can_reach(hosts: tuple[str, ...], beyond: str) -> None:
    """Names are looked up; one that is unknown is the listener's to refuse."""
    assert beyond_loopback(hosts) == beyond


def test_names_of_commands_are_those_of_both_protocols() -> None:
    """In lower case, and with subcommands."""
    assert {b"get", b"set", b"count", b"flushall", b"client|list"} <= command_names()
    assert command_names() == {name.lower() for name in command_names()}


def played(script: Callable[[], Awaitable[None]]) -> None:
    """Run a script on a loop."""
    asyncio.run(asyncio.wait_for(script(), 60))


def test_what_is_read_again_holds(files: Files, saving: Background) -> None:
    """And what has changed is told: names of users, and the setting of the password."""
    given, key = source(files, password=True), ProcessKey()
    directory: Users = users(given, saving, key)
    assert directory.default.given == key.hash("default", b"secret")
    reload = users_reloader(given, directory, key)

    async def script() -> None:
        assert await reload() == []
        files.users.write_text(TOM)
        files.write_password("other\n")
        assert await reload() == ["password_file", "user tom"]
        assert directory.get("tom") is not None
        assert directory.default.given == key.hash("default", b"other")

    played(script)


def test_what_cannot_be_read_again_changes_nothing(files: Files, saving: Background) -> None:
    """Neither file."""
    given, key = source(files, password=True), ProcessKey()
    directory = users(given, saving, key)
    reload = users_reloader(given, directory, key)

    async def script() -> None:
        files.write_password("other\n")
        files.users.write_text(TOM + "enabled = 1")
        with pytest.raises(UsersNotReadError, match=r"^users_file: .*user 'tom': Expected `bool`"):
            await reload()
        files.users.write_text(TOM)
        files.write_password("")
        with pytest.raises(UsersNotReadError, match=r"^password_file: .* is empty"):
            await reload()
        assert directory.names() == ["default"]
        assert directory.default.given == key.hash("default", b"secret")

    played(script)


def test_a_change_is_in_the_file(files: Files, saving: Background) -> None:
    """And not the password that another file has."""
    given, key = source(files, password=True), ProcessKey()
    directory = users(given, saving, key)

    async def script() -> None:
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        directory.apply("tom", lambda _: Account(enabled=True, tokens=("0" * 64,)), done.set_result)
        await done

    played(script)
    text = files.users.read_text()
    assert '[users."tom"]' in text
    assert "secret" not in text
    again = users(source(files, password=True), saving, key)
    assert again.names() == ["default", "tom"]
    assert again.default.given


class Shared:
    """Users that several servers share."""

    def __init__(self) -> None:
        self.newest: tuple[Accounts, int] | None = None
        self.offered: Accounts = {}

    def offer(self, accounts: Accounts) -> None:
        self.offered = accounts

    def save(self, accounts: Accounts, base: int) -> int:
        raise NotImplementedError


def test_shared_users_are_taken_over(files: Files, saving: Background) -> None:
    """Whenever there are others; those of the file are offered, and it is told once that they are not used."""
    files.users.write_text(TOM)
    given, key, shared = source(files), ProcessKey(), Shared()
    directory = users(given, saving, key)
    share_users(given, directory, shared)
    assert set(shared.offered) == {"default", "tom"}
    adopt = adopter(given, directory, structlog.get_logger())
    with capture_logs() as logged:
        adopt()
        assert directory.names() == ["default", "tom"]
        for revision in (5, 7):
            shared.newest = ({"default": OPEN, f"ann{revision}": OPEN}, revision)
            adopt()
            adopt()
            assert directory.names() == [f"ann{revision}", "default"]
            assert directory.revision == revision
    assert [event["event"] for event in logged] == ["users_file_unused"]


def test_an_empty_file_offers_nobody(files: Files, saving: Background) -> None:
    """Nor does a password: the others have their own."""
    given, shared = source(files, password=True), Shared()
    share_users(given, users(given, saving, ProcessKey()), shared)
    assert shared.offered == {}


def test_a_server_with_a_password_is_not_opened_by_one_without(files: Files, saving: Background) -> None:
    """Which has saved that the default user needs none."""
    given, key, shared = source(files, password=True), ProcessKey(), Shared()
    directory = users(given, saving, key)
    share_users(given, directory, shared)
    shared.newest = ({"default": OPEN}, 1)
    adopter(given, directory, structlog.get_logger())()
    assert directory.default.enabled
    assert not directory.default.nopass
    assert directory.default.given == key.hash("default", b"secret")


def test_protected_mode_holds_for_what_another_server_has_saved(files: Files, saving: Background) -> None:
    """It may listen on loopback only. What it has saved stays as it is."""
    files.users.write_text(TOM)
    given, shared = source(files, host="0.0.0.0"), Shared()
    directory = users(given, saving, ProcessKey())
    share_users(given, directory, shared)
    shared.newest = ({"default": OPEN, "ann": OPEN}, 1)
    adopter(given, directory, structlog.get_logger())()
    assert directory.names() == ["ann", "default"]
    assert not directory.needs_no_secret
    assert directory.default.account == OPEN


def test_a_reload_reads_the_password_only_where_users_are_shared(files: Files, saving: Background) -> None:
    """The file has had its say."""
    given, key, shared = source(files, password=True), ProcessKey(), Shared()
    directory = users(given, saving, key)
    share_users(given, directory, shared)
    reload = users_reloader(given, directory, key)

    async def script() -> None:
        files.users.write_text(TOM)
        files.write_password("other")
        assert await reload() == ["password_file"]
        assert directory.names() == ["default"]
        files.write_password("")
        with pytest.raises(ConfigError, match="is empty"):
            await reload()
        assert directory.default.given == key.hash("default", b"other")

    played(script)
