"""ACL: rules and what they make of a user, what is shown of one, and changes that have to be saved first."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.adapters.inbound.resp.acl_categories import AclCategories
from kvs.adapters.inbound.resp.acl_grants import pattern_of, prefix_of
from kvs.adapters.inbound.resp.acl_rules import MAX_RULES, changed, line_of, merged
from kvs.adapters.inbound.resp.commands.registry import COMMANDS, OF_SENTINELS
from kvs.application import secret_hashes
from kvs.application.users import User
from kvs.domain.accounts import NEW, OPEN, Account, Accounts
from kvs.domain.errors import UsageError
from kvs.domain.grants import EVERYTHING, READ, WRITE, Grant, Grants
from kvs.ports.users import UsersNotSavedError
from tests.support.resp_connection import RespServer, answer, ask
from tests.support.resp_wire import NULL, OK, Reply, Typed, request
from tests.support.sessions import output_of
from tests.support.users import Errands, security_of

CATEGORIES: Final = AclCategories([*COMMANDS, *OF_SENTINELS.values()])
TOKEN: Final = "ab" * 32
SHA256: Final = secret_hashes.hash_token(TOKEN.encode())


def shown(rules: str, account: Account = NEW) -> str:
    """Return the line of ACL LIST, after ``user u``, of who is changed by rules."""
    after = changed(account, merged(rules.encode().split()), CATEGORIES, None)
    return line_of(User("u", after), CATEGORIES).decode().removeprefix("user u ")


def error_of(reply: Reply) -> str:
    """Return the text of an error."""
    assert isinstance(reply, Typed)
    assert reply.kind == "-"
    assert isinstance(reply.value, bytes)
    return reply.value.decode()


def test_a_new_user_can_do_nothing() -> None:
    """As in Redis."""
    assert shown("") == "off resetchannels -@all"
    assert shown("reset", OPEN) == "off resetchannels -@all"


@pytest.mark.parametrize(
    ("rules", "line"),
    [
        ("on nopass ~* +@all", "on nopass ~* &* +@all"),
        ("on allkeys allcommands", "on ~* &* +@all"),
        ("~a:* ~b:* %R~c:* %W~d:* %RW~e:* %rw~a:*", "off ~a:* ~b:* ~e:* %R~c:* %W~d:* resetchannels -@all"),
        ("~a:* resetkeys ~b:*", "off ~b:* resetchannels -@all"),
        ("~* ~*", "off ~* resetchannels -@all"),
        ("%R~* %W~*", "off ~* resetchannels -@all"),
        (r"~a\*b* ~\[x\]*", r"off ~a\*b* ~\[x\]* resetchannels -@all"),
        ("+GET +Set -get", "off resetchannels -@all +set -get"),
        ("+@read -get", "off resetchannels -@all +@read -get"),
        ("+@read -get +@read", "off resetchannels -@all +@read"),
        ("+get -@read", "off resetchannels -@all"),
        ("+@all -@dangerous", "off resetchannels +@all -@dangerous".replace("resetchannels", "&*")),
        ("+@all -@admin", "off &* +@all -@admin"),
        ("+@read +@write +@connection", "off resetchannels -@all +@read +@write +@connection"),
        ("+client -client|kill", "off resetchannels -@all +client -client|kill"),
        (
            "+client -@admin",
            (
                "off resetchannels -@all +client -client|kill -client|list -client|no-evict -client|pause"
                " -client|unblock -client|unpause"
            ),
        ),
        ("-client +@connection", "off resetchannels -@all +@connection"),
        ("+client|id +client", "off resetchannels -@all +client"),
        ("+client|id -client", "off resetchannels -@all -client"),
        ("+acl|whoami +count", "off resetchannels -@all +count +acl|whoami"),
        ("+@bitmap", "off resetchannels -@all +@bitmap"),
        ("+@bitmap -getbit", "off resetchannels -@all"),
        (
            "(~a:* +get) (%R~b:* +@read)",
            "off resetchannels -@all (~a:* resetchannels -@all +get) (%R~b:* resetchannels -@all +@read)",
        ),
        ("(~a:* +get) clearselectors", "off resetchannels -@all"),
        ("nopass resetpass", "off resetchannels -@all"),
        (f">{TOKEN} nopass", "off nopass resetchannels -@all"),
        (f"nopass >{TOKEN}", f"off #{SHA256} resetchannels -@all"),
        (f"#{SHA256} #{SHA256}", f"off #{SHA256} resetchannels -@all"),
        (f">{TOKEN} !{SHA256}", "off resetchannels -@all"),
        (f"#{SHA256} <{TOKEN}", "off resetchannels -@all"),
        ("allchannels &* sanitize-payload skip-sanitize-payload", "off resetchannels -@all"),
        ("+@all nocommands", "off resetchannels -@all"),
    ],
)
def test_rules(rules: str, line: str) -> None:
    """What they make of a new user, in the words of ACL LIST."""
    if rules == "+@bitmap -getbit":
        assert "+getbit" not in shown(rules)
        assert "+bitcount" in shown(rules)
    else:
        assert shown(rules) == line


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        *((rule, "Syntax error") for rule in ("foo", "%X~a*", "%R", "pw", "*", "%~a*", "(on)", "(>pw)")),
        *(
            (rule, "Unknown command or category name in ACL")
            for rule in ("+nope", "-nope", "+@nope", "+client|nope", "+")
        ),
        ("+get|x", "Allowing a command with its first argument only"),
        *(
            (rule, "Only prefixes of keys")
            for rule in ("~a", "~", "~a*b*", "~[ab]*", "~?*", "~a**", "%R~b", "(~x +get)")
        ),
        *((rule, "Channels cannot be restricted") for rule in ("&a*", "&")),
        (">", "The password is empty"),
        *((rule, "The password hash must be exactly 64") for rule in ("#abc", "!" + "A" * 64, "#")),
        *((rule, "The password you are trying to remove") for rule in ("!" + "a" * 64, f"<{TOKEN}")),
        *((rule, "Adding a pattern after the * pattern") for rule in ("~* ~a*", "allkeys %R~a*", "~* (~* ~b*)")),
    ],
)
def test_rules_that_are_wrong(rules: str, reason: str) -> None:
    """Each is refused, with the reason; and nothing of the others is done."""
    server = RespServer()
    connection = server.connect()
    told = error_of(ask(connection, b"ACL", b"SETUSER", b"u", b"on", *rules.encode().split()))
    assert told.startswith("ERR Error in ACL SETUSER modifier '"), told
    assert reason in told
    assert ask(connection, b"ACL", b"GETUSER", b"u") == NULL


def test_a_selector_of_one_word_is_bounded_as_several_are() -> None:
    """Its rules count."""
    with pytest.raises(UsageError, match="at most"):
        merged([b"(" + b" ".join([b"~a%d*" % number for number in range(MAX_RULES + 1)]) + b")"])


@pytest.mark.parametrize("rules", ["(~a*", "on (~a* +get", "("])
def test_selectors_without_end(rules: str) -> None:
    """Redis has a text of its own for them."""
    with pytest.raises(UsageError, match="Unmatched parenthesis in acl selector"):
        merged(rules.encode().split())


prefixes = st.lists(st.binary(max_size=3).filter(lambda key: b" " not in key), max_size=3).map(tuple)
names = st.frozensets(st.sampled_from(sorted(CATEGORIES.names)), max_size=5)
grants = st.builds(Grant, st.integers(0, 63), prefixes, prefixes, names, names)


@given(st.lists(grants, min_size=1, max_size=3))
def test_what_is_shown_makes_the_same_user(parts: list[Grant]) -> None:
    """Whatever a user may do, the line of ACL LIST says so."""
    account = Account(grants=Grants(*parts))
    line = line_of(User("u", account), CATEGORIES)
    rules = merged([word for word in line.split(b" ")[2:] if word != b"#(scrypt)"])
    again = changed(NEW, rules, CATEGORIES, None).grants
    for before, after in zip(account.grants.grants, again.grants, strict=True):
        for name in CATEGORIES.names:
            command = BITS_OF.get(name, READ)
            assert before.allows_command(name, command) == after.allows_command(name, command), (name, line)
        for access in (READ, WRITE):
            for key in (b"", b"a", *before.reads, *before.writes):
                assert before.covers(access, key) == after.covers(access, key)


BITS_OF: Final = {
    each.name: each.categories
    for command in [*COMMANDS, *OF_SENTINELS.values()]
    for each in (command, *(command.subcommands or {}).values())
}


@given(st.binary(max_size=8))
def test_a_prefix_is_its_pattern(prefix: bytes) -> None:
    """And back again, whatever bytes it has."""
    assert prefix_of(pattern_of(prefix)) == prefix


def test_passwords_are_hashed_and_never_shown() -> None:
    """The same one again is no second one; it can be removed by itself."""
    server = RespServer()
    connection = server.connect()
    for _ in range(3):
        assert ask(connection, b"ACL", b"SETUSER", b"u", b"on", b">one", b">two", b">one") == OK
    user = server.shared.security.users.get("u")
    assert user is not None
    assert [text[:8] for text in user.account.passwords] == ["$scrypt$"] * 2
    listed = ask(connection, b"ACL", b"LIST")
    assert listed == [b"user default on nopass ~* &* +@all", b"user u on #(scrypt) #(scrypt) resetchannels -@all"]
    for secret, reply in ((b"one", b"+OK"), (b"three", b"-WRONGPASS"), (b"two", b"+OK")):
        other = server.connect()
        other.receive(request(b"AUTH", b"u", secret))
        answer_of = output_of(other)
        assert answer_of.startswith(reply)
    assert ask(connection, b"ACL", b"SETUSER", b"u", b"<one") == OK
    assert "does not exist" in error_of(ask(connection, b"ACL", b"SETUSER", b"u", b"<one"))
    assert ask(connection, b"ACL", b"SETUSER", b"u", b">x", b"<x", b"<two") == OK
    assert user.account.passwords == ()
    assert "'>'" not in error_of(ask(connection, b"ACL", b"SETUSER", b"u", b">secret", b"foo"))
    assert "secret" not in error_of(ask(connection, b"ACL", b"SETUSER", b"u", b"<secret"))


def test_getuser() -> None:
    """In both versions of the protocol."""
    server = RespServer()
    connection = server.connect()
    ask(connection, b"ACL", b"SETUSER", b"u", b"on", b">" + TOKEN.encode(), b"~a:*", b"+get", b"(%R~b:*", b"+@read)")
    selector = [b"commands", b"-@all +@read", b"keys", b"%R~b:*", b"channels", b""]
    assert ask(connection, b"ACL", b"GETUSER", b"u") == [
        *(b"flags", [b"on"], b"passwords", [SHA256.encode()], b"commands", b"-@all +get"),
        *(b"keys", b"~a:*", b"channels", b"", b"selectors", [selector]),
    ]
    ask(connection, b"HELLO", b"3")
    reply = ask(connection, b"ACL", b"GETUSER", b"default")
    assert isinstance(reply, Typed)
    assert reply.kind == "%"
    assert ask(connection, b"ACL", b"GETUSER", b"nobody") == Typed("_", None)


def test_cat_genpass_users_whoami() -> None:
    """What there is."""
    connection = RespServer().connect()
    categories = ask(connection, b"ACL", b"CAT")
    assert isinstance(categories, list)
    assert len(categories) == 21
    assert b"client|kill" in ask(connection, b"ACL", b"CAT", b"Dangerous")  # type: ignore[operator]
    assert "Unknown category" in error_of(ask(connection, b"ACL", b"CAT", b"nope"))
    for bits, size in ((b"256", 64), (b"5", 2), (b"4", 1), (b"1", 1), (b"4096", 1024)):
        password = ask(connection, b"ACL", b"GENPASS", bits)
        assert isinstance(password, bytes)
        assert len(password) == size
    assert ask(connection, b"ACL", b"GENPASS") != ask(connection, b"ACL", b"GENPASS")
    for bits in (b"0", b"4097", b"-1", b"x"):
        error_of(ask(connection, b"ACL", b"GENPASS", bits))
    assert ask(connection, b"ACL", b"USERS") == [b"default"]
    assert ask(connection, b"ACL", b"WHOAMI") == b"default"


def test_dryrun() -> None:
    """Tells what would be, for a user that is not asking; of keys in Redis's words."""
    server = RespServer()
    server.limits.max_value_bytes = 100
    connection = server.connect()
    ask(connection, b"ACL", b"SETUSER", b"u", b"~a:*", b"+get", b"+mget", b"+keys", b"(~b:*", b"+get)")
    for words, reply in (
        (b"GET a:1", OK),
        (b"GET b:1", OK),
        (b"MGET a:1 a:2", OK),
        (b"MGET a:1 b:2", b"This user has no permissions to access the 'b:2' key"),
        (b"DEL a:1", b"This user has no permissions to run the 'del' command"),
        (b"KEYS a:*", OK),
        (b"KEYS *", b"This user has no permissions to access the '' key"),
        (b"HELLO", OK),
    ):
        assert ask(connection, b"ACL", b"DRYRUN", b"u", *words.split()) == reply, words
    for words, text in (
        (b"u NOSUCH", "Command 'NOSUCH' not found"),
        (b"u GET", "wrong number of arguments for 'get'"),
        (b"v GET x", "User 'v' not found"),
    ):
        assert text in error_of(ask(connection, b"ACL", b"DRYRUN", *words.split()))


def test_log() -> None:
    """Newest first, equal ones as one; RESET forgets them."""
    server = RespServer()
    connection, other = server.connect(), server.connect()
    ask(connection, b"ACL", b"SETUSER", b"u", b"on", b"nopass", b"~a:*", b"+get", b"+multi")
    ask(other, b"AUTH", b"u", b"x")
    for words in ((b"GET", b"b"), (b"GET", b"b"), (b"SET", b"a:", b""), (b"AUTH", b"nobody", b"x")):
        ask(other, *words)
    log = ask(connection, b"ACL", b"LOG")
    assert isinstance(log, list)
    entries = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in log]  # type: ignore[index]
    shown = [(entry[b"reason"], entry[b"object"], entry[b"username"], entry[b"count"]) for entry in entries]
    assert shown == [(b"auth", b"AUTH", b"(unknown)", 1), (b"command", b"set", b"u", 1), (b"key", b"b", b"u", 2)]
    assert len(ask(connection, b"ACL", b"LOG", b"1")) == 1  # type: ignore[arg-type]
    assert ask(connection, b"ACL", b"LOG", b"-1") == []
    assert ask(connection, b"ACL", b"LOG", b"reset") == OK
    assert ask(connection, b"ACL", b"LOG") == []


class Store:
    """Keeps users, or refuses to."""

    def __init__(self) -> None:
        self.saved: list[dict[str, Account]] = []
        self.fails = False

    def save(self, accounts: Accounts, base: int) -> int:
        """See :class:`kvs.application.users.UserStore`."""
        if self.fails:
            raise UsersNotSavedError("The disk is full.")
        self.saved.append(dict(accounts))
        return base + 1


def test_a_change_is_saved_first_and_takes_effect_then() -> None:
    """The client waits, and others do not see it before; what cannot be saved changes nothing."""
    store, errands = Store(), Errands(waits=True)
    server = RespServer(security=security_of({}, errands, store=store))
    connection, other = server.connect(), server.connect()
    connection.receive(request(b"ACL", b"SETUSER", b"u", b"on", b">one") + request(b"ACL", b"USERS"))
    assert connection.busy
    assert ask(other, b"ACL", b"USERS") == [b"default"]
    errands.run_all()  # the hash
    connection.resume()
    assert connection.busy
    errands.run_all()  # the store
    assert answer(connection) == OK
    assert store.saved[-1].keys() == {"default", "u"}
    store.fails = True
    connection.receive(request(b"ACL", b"DELUSER", b"u"))
    errands.run_all()
    assert "UNAVAILABLE The disk is full." in error_of(answer(connection))
    assert ask(other, b"ACL", b"USERS") == [b"default", b"u"]
    assert ask(other, b"ACL", b"SAVE") == OK


def test_a_client_that_leaves_does_not_take_its_change_along() -> None:
    """It is made all the same."""
    store, errands = Store(), Errands(waits=True)
    server = RespServer(security=security_of({}, errands, store=store))
    connection = server.connect()
    connection.receive(request(b"ACL", b"SETUSER", b"u", b"on"))
    connection.close()
    errands.run_all()
    assert server.shared.security.users.get("u") is not None
    server.assert_nothing_is_left()


def test_who_removes_itself_is_told() -> None:
    """And then closed; the others at once, by who knows all connections."""
    security = security_of({"u": Account(True, True, grants=EVERYTHING)})
    gone: list[str] = []
    security.users.gone = lambda user: gone.append(user.name)
    server = RespServer(security=security)
    for words, reply in (((b"DELUSER", b"u", b"nobody"), 1), ((b"SETUSER", b"u", b"off"), OK)):
        security.users.apply("u", lambda _: Account(True, True, grants=EVERYTHING), lambda _: None)
        connection = server.connect()
        connection.peer.become(security.users.get("u"))
        connection.receive(request(b"ACL", *words))
        assert connection.closing
        assert answer(connection) == reply
    assert gone == ["u", "u"]
    default = server.connect()
    assert "cannot be removed" in error_of(ask(default, b"ACL", b"DELUSER", b"default"))


def test_users_are_not_changed_within_multi() -> None:
    """A queue may be run again, and cannot wait."""
    connection = RespServer().connect()
    ask(connection, b"MULTI")
    for words in ((b"SETUSER", b"u"), (b"DELUSER", b"u")):
        assert "not allowed between MULTI and EXEC" in error_of(ask(connection, b"ACL", *words))


def test_what_makes_no_sense_here() -> None:
    """LOAD, and SAVE without a file, say what does; names have to be names."""
    connection = RespServer().connect()
    assert "SIGHUP" in error_of(ask(connection, b"ACL", b"LOAD"))
    assert "users_file" in error_of(ask(connection, b"ACL", b"SAVE"))
    for name in (b"a b", b"", b"\xff", b"x" * 200):
        error_of(ask(connection, b"ACL", b"SETUSER", name, b"on"))
    assert "at most" in error_of(ask(connection, b"ACL", b"SETUSER", b"u", *[b">%d" % number for number in range(20)]))
