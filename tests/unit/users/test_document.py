"""Users as a document: what is written is read again, and what is wrong is told without a secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.adapters.users.document import MAX_ERRORS, DocumentError, parse, render
from kvs.application.secret_hashes import LEAST, hash_password, hash_token
from kvs.domain.accounts import OPEN, Account, check_account, is_name
from kvs.domain.grants import CONNECTION, EVERY_CATEGORY, EVERYTHING, READ, TRANSACTION, WRITE, Grant, Grants

pytestmark = pytest.mark.one_build

COMMANDS = frozenset([b"get", b"set", b"flushall", b"config|get"])
HASH = hash_password(b"secret", LEAST)
TOKEN = hash_token(b"token")

names = st.text(min_size=1, max_size=10).filter(is_name)
prefixes = st.lists(st.binary(min_size=1, max_size=4) | st.text(min_size=1, max_size=4).map(str.encode), max_size=3)
either = (prefixes | st.just([b""])).map(tuple)
commands = st.frozensets(st.sampled_from(sorted(COMMANDS)), max_size=2)
grants = st.builds(Grant, st.integers(0, EVERY_CATEGORY), either, either, commands, commands)
accounts = st.builds(
    Account,
    st.booleans(),
    st.just(value=False),
    st.lists(st.just(HASH), max_size=2).map(tuple),
    st.lists(st.just(TOKEN), max_size=2).map(tuple),
    st.lists(grants, max_size=2).map(lambda some: Grants(*some)),
) | st.just(OPEN)


@given(st.dictionaries(names, accounts, max_size=2))
def test_what_is_written_is_read_again(users: dict[str, Account]) -> None:
    """Whatever keys begin with."""
    assert parse(render(users), COMMANDS) == users
    for name, account in users.items():
        check_account(name, account)


def test_what_people_write() -> None:
    """A user is enabled, has nothing but what is given, and names may be in any case."""
    text = f"""
        # The application
        [users.app]
        passwords = ["{HASH}"]
        [[users.app.grants]]
        allow = ["@read", "@write", "@transaction", "CONFIG|GET"]
        deny = ["flushall", "@transaction"]
        keys = ["app:", {{ hex = "ff00" }}]
        read = ["shared:"]
        [[users.app.grants]]
        allow = ["@connection"]

        [users."tom@example.org"]
        enabled = false
        tokens = ["{TOKEN}"]
        grants = [{{ allow = ["@all"], all_keys = true }}, {{ allow = ["get"], all_keys = "read", write = ["a:"] }}]
    """
    first = Grant(
        READ | WRITE,
        (b"app:", b"\xff\0", b"shared:"),
        (b"app:", b"\xff\0"),
        frozenset([b"config|get"]),
        frozenset([b"flushall"]),
    )
    third = Grant(0, (b"",), (b"a:",), frozenset([b"get"]))
    assert parse(text, COMMANDS) == {
        "app": Account(True, False, (HASH,), (), Grants(first, Grant(CONNECTION))),
        "tom@example.org": Account(False, False, (), (TOKEN,), Grants(*EVERYTHING.grants, third)),
    }
    assert TRANSACTION & first.categories == 0


@pytest.mark.parametrize("text", ["", "\n", "format = 1", "# nothing", "[users]"])
def test_one_without_users(text: str) -> None:
    """Is one."""
    assert parse(text, COMMANDS) == {}


USER = "[users.a]\n{}\n"
GRANT = "[users.a]\ngrants = [{{ {} }}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("users = maybe", "it is not TOML: .*line 1"),
        pytest.param("a = " + "[" * 100_000, "it is not TOML: ", id="deep"),
        ("[users.a]\n\nenabled = maybe", "it is not TOML: .*line 3"),
        ("format = 2", "it is not of format 1"),
        ("users = 1", "it is not of format 1"),
        ("[user.a]", "there is 'user' beside format and users"),
        ("[users]\na = 1", "user 'a': Expected `object`, got `int`"),
        (USER.format("enabled = 1"), "user 'a': Expected `bool`, got `int` at `enabled`"),
        (USER.format("password = 'x'"), "user 'a': Object contains unknown field `password`"),
        (USER.format("passwords = 'hunter2'"), "user 'a': Expected `array`, got `str` at `passwords`"),
        (USER.format("passwords = ['hunter2']"), "user 'a': password 1: it is not of the form"),
        (USER.format(f"tokens = ['{TOKEN}', 'hunter2']"), "user 'a': token 2: it is not the SHA-256"),
        (USER.format(f"nopass = true\ntokens = ['{TOKEN}']"), "user 'a': .*needs no secret, and has one"),
        ('[users."a b"]', "user 'a b': A user's name"),
        (GRANT.format("allow = ['@reed']"), "user 'a': grant 1: there is no category '@reed'; there are @all, @read"),
        (GRANT.format("allow = ['gett']"), "user 'a': grant 1: there is no command 'gett'"),
        (GRANT.format("deny = ['flushal']"), "user 'a': grant 1: there is no command 'flushal'"),
        (GRANT.format("allow = ['get'], deny = ['get']"), "user 'a': grant 1: 'get' is both allowed and denied"),
        (GRANT.format("keys = ['a*']"), r"user 'a': grant 1: 'a\*' is a pattern"),
        (GRANT.format("keys = ['']"), "user 'a': grant 1: a prefix is empty"),
        (GRANT.format("keys = [{ hex = 'xy' }]"), "user 'a': grant 1: non-hexadecimal"),
        (GRANT.format("keys = ['a'], all_keys = true"), "user 'a': grant 1: it has all keys, and some"),
        (GRANT.format("all_keys = 'both'"), "user 'a': .*at `grants"),
        (GRANT.format("key = ['a']"), "user 'a': Object contains unknown field `key`"),
    ],
)
def test_what_is_wrong_is_told(text: str, message: str) -> None:
    """Where it is, and without a secret."""
    with pytest.raises(DocumentError, match=message) as caught:
        parse(text, COMMANDS)
    assert "hunter2" not in str(caught.value)


def test_all_mistakes_are_told_up_to_a_bound() -> None:
    """One for each user."""
    text = "".join(f"[users.u{number}]\nenabled = 1\n" for number in range(MAX_ERRORS + 5))
    with pytest.raises(DocumentError) as caught:
        parse(text, COMMANDS)
    assert str(caught.value).count("Expected") == MAX_ERRORS
    assert str(caught.value).endswith("; and 5 more")


def test_names_of_commands_may_be_left_unchecked() -> None:
    """What another version has written is not refused for a command that this one does not have."""
    assert parse(GRANT.format("allow = ['newer']"), None)["a"].grants.allows_command(b"newer", READ)
