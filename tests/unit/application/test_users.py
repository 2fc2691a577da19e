"""The directory of users: a change is saved first, is whole or nothing, and holds for all at once."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from queue import SimpleQueue
from typing import Final

import pytest

from kvs.application.background import Background
from kvs.application.users import DEFAULT_NAME, MAX_CHANGES, MAX_USERS, Change, User, Users
from kvs.domain.accounts import MAX_SECRETS, NEW, OPEN, Account, Accounts, is_name
from kvs.domain.errors import InternalError, KvsError, LimitError, UsageError
from kvs.domain.grants import EVERYTHING, MAX_GRANTS, MAX_PREFIXES, READ, Grant, Grants
from kvs.ports.users import UsersNotSavedError
from tests.support.stage_of_users import HandLoop

READER: Final = Account(enabled=True, tokens=("0" * 64,), grants=Grants(Grant(READ, (b"a:",))))


class Store:
    """Saves when told to.

    Attributes:
        saved: All that has been saved.
        bases: The revisions of which these were changes.
        go: A save waits for one of these: None, or what it is to raise.
    """

    def __init__(self) -> None:
        self.saved: list[Accounts] = []
        self.bases: list[int] = []
        self.go: SimpleQueue[Exception | None] = SimpleQueue()

    def save(self, accounts: Accounts, base: int) -> int:
        error = self.go.get(timeout=60)
        if error is not None:
            raise error
        self.saved.append(accounts)
        self.bases.append(base)
        return base + 10


class Stage:
    """Users, with or without a store.

    Attributes:
        done: Changes of which the end was told.
        gone: Users whose connections are to be closed.
    """

    def __init__(self, *, saves: bool) -> None:
        self.loop = HandLoop()
        self.background = Background(1, lambda: self.loop)
        self.store = Store()
        self.users = Users({}, self.store if saves else None, self.background)
        self.done: list[Change] = []
        self.gone: list[User] = []
        self.users.gone = self.gone.append

    def apply(self, name: str, account: Account) -> Change:
        """Begin a change to an account."""
        return self.users.apply(name, lambda _: account, self.done.append)

    def save(self, error: Exception | None = None) -> None:
        """Let the store save, or fail, and take note of it."""
        self.store.go.put(error)
        self.loop.run_one()


@pytest.fixture
def stage() -> Iterator[Stage]:
    """One without a store, where changes take effect at once."""
    stage = Stage(saves=False)
    yield stage
    stage.background.close()


@pytest.fixture
def saving() -> Iterator[Stage]:
    """One with a store."""
    stage = Stage(saves=True)
    yield stage
    stage.background.close()


def test_at_first_there_is_a_user_who_may_do_everything(stage: Stage) -> None:
    """As before there were users."""
    assert stage.users.names() == [DEFAULT_NAME]
    default = stage.users.default
    assert default is stage.users.get(DEFAULT_NAME)
    assert default.enabled
    assert default.nopass
    assert default.grants.unrestricted
    assert not any((default.account.passwords, default.account.tokens, default.given))
    assert stage.users.needs_no_secret
    assert not stage.users.is_saved


def test_a_change_holds_for_all_who_have_the_user(stage: Stage) -> None:
    """They share it, and its generation tells them to look again."""
    assert stage.apply("tom", READER).changed == ["tom"]
    tom = stage.users.get("tom")
    assert tom is not None
    generation, version = tom.generation, stage.users.version
    change = stage.users.apply("tom", lambda old: replace(old, grants=EVERYTHING), stage.done.append)
    assert change.finished
    assert change.error is None
    assert stage.users.get("tom") is tom
    assert tom.grants is EVERYTHING
    assert tom.generation == generation + 1
    assert stage.users.version == version + 1
    assert not stage.done
    assert not stage.gone


def test_a_new_user_is_off(stage: Stage) -> None:
    """Without a secret, and may do nothing."""
    assert stage.users.apply("tom", lambda old: old, stage.done.append).changed == ["tom"]
    tom = stage.users.get("tom")
    assert tom is not None
    assert tom.account == NEW
    assert not tom.enabled
    assert not tom.nopass
    assert not any((tom.account.passwords, tom.account.tokens, tom.given))
    assert not tom.grants.allows_command(b"ping", READ)


def test_users_that_go_are_told(stage: Stage) -> None:
    """When they are removed or switched off; a changed secret or grant does not end a connection."""
    stage.apply("tom", READER)
    stage.apply("ann", READER)
    tom, ann = stage.users.get("tom"), stage.users.get("ann")
    assert tom is not None
    stage.apply("tom", replace(READER, tokens=("1" * 64,)))
    assert stage.gone == []
    stage.apply("tom", replace(READER, enabled=False))
    stage.apply("tom", replace(READER, enabled=False, grants=EVERYTHING))
    assert stage.gone == [tom]
    assert stage.users.remove(["ann", "nobody"], stage.done.append).changed == ["ann"]
    assert stage.gone == [tom, ann]
    assert ann is not None
    assert not ann.enabled
    assert not ann.grants.grants
    stage.apply("ann", READER)
    assert stage.users.get("ann") is not ann
    assert not ann.enabled


def test_the_default_user_cannot_be_removed(stage: Stage) -> None:
    """And nobody with it."""
    stage.apply("tom", READER)
    assert isinstance(stage.users.remove(["tom", DEFAULT_NAME], stage.done.append).error, UsageError)
    assert stage.users.names() == [DEFAULT_NAME, "tom"]


def raising(error: Exception) -> Callable[[Account], Account]:
    """Return an alteration that fails."""

    def alter(_: Account) -> Account:
        raise error

    return alter


@pytest.mark.parametrize(
    ("name", "alter", "error"),
    [
        ("tom", raising(UsageError("no")), UsageError),
        ("tom", raising(ZeroDivisionError()), InternalError),
        ("a b", lambda _: READER, UsageError),
        ("", lambda _: READER, UsageError),
        ("tom", lambda _: replace(READER, nopass=True), UsageError),
        ("tom", lambda _: replace(READER, tokens=("0" * 64,) * (MAX_SECRETS + 1)), LimitError),
        ("tom", lambda _: replace(READER, grants=Grants(*[Grant(READ)] * (MAX_GRANTS + 1))), LimitError),
        (
            "tom",
            lambda _: replace(READER, grants=Grants(Grant(READ, tuple(b"%d" % n for n in range(MAX_PREFIXES + 1))))),
            LimitError,
        ),
    ],
)
def test_a_change_that_is_refused_changes_nothing(
    stage: Stage, name: str, alter: Callable[[Account], Account], error: type[KvsError]
) -> None:
    """Neither the user nor the generation."""
    stage.apply("tom", OPEN)
    tom = stage.users.get("tom")
    assert tom is not None
    before = tom.account, tom.generation, stage.users.version
    change = stage.users.apply(name, alter, stage.done.append)
    assert change.finished
    assert type(change.error) is error
    assert (tom.account, tom.generation, stage.users.version) == before
    assert stage.users.names() == [DEFAULT_NAME, "tom"]


def test_there_are_not_too_many(stage: Stage) -> None:
    """Those that there are can still change."""
    many = {f"u{number}": READER for number in range(MAX_USERS - 1)}
    change = stage.users.replace(lambda: many, stage.done.append)
    stage.loop.run_one()
    assert stage.done == [change]
    assert change.error is None
    assert isinstance(stage.apply("one-more", READER).error, LimitError)
    assert stage.apply("u1", OPEN).error is None


def test_a_change_is_saved_first(saving: Stage) -> None:
    """Until then nothing has changed, and then all are told."""
    change = saving.apply("tom", READER)
    assert not change.finished
    assert saving.users.get("tom") is None
    saving.save()
    assert saving.done == [change]
    assert saving.store.saved == [{DEFAULT_NAME: OPEN, "tom": READER}]
    assert saving.users.get("tom") is not None
    assert saving.users.is_saved


@pytest.mark.parametrize("error", [UsersNotSavedError("The disk is full."), OSError("a bug")])
def test_a_change_that_cannot_be_saved_has_not_happened(saving: Stage, error: Exception) -> None:
    """The next one can."""
    first, second = saving.apply("tom", READER), saving.apply("ann", READER)
    saving.save(error)
    assert first.finished
    assert not second.finished
    assert isinstance(first.error, UsersNotSavedError)
    assert str(error) in str(first.error)
    assert saving.users.names() == [DEFAULT_NAME]
    saving.save()
    assert second.finished
    assert saving.users.names() == ["ann", DEFAULT_NAME]
    assert saving.store.saved == [{DEFAULT_NAME: OPEN, "ann": READER}]


def test_changes_do_not_overtake_each_other(saving: Stage) -> None:
    """Each is made of what the one before has left."""
    saving.apply("tom", READER)
    saving.users.apply("tom", lambda old: replace(old, grants=EVERYTHING), saving.done.append)
    saving.users.apply("tom", lambda old: replace(old, enabled=False), saving.done.append)
    saving.users.remove(["tom"], saving.done.append)
    for _ in range(4):
        saving.save()
    assert [saved.get("tom") for saved in saving.store.saved] == [
        READER,
        replace(READER, grants=EVERYTHING),
        replace(READER, grants=EVERYTHING, enabled=False),
        None,
    ]
    assert len(saving.done) == 4


def test_who_has_left_is_not_called(saving: Stage) -> None:
    """The change goes on."""
    saving.apply("tom", READER).forget()
    saving.save()
    assert saving.done == []
    assert saving.users.get("tom") is not None


def test_changes_that_wait_are_bounded(saving: Stage) -> None:
    """One more is refused at once."""
    for _ in range(MAX_CHANGES + 1):
        assert not saving.apply("tom", READER).finished
    assert isinstance(saving.apply("tom", READER).error, LimitError)
    for _ in range(MAX_CHANGES + 1):
        saving.save()
    assert len(saving.done) == MAX_CHANGES + 1


def test_all_can_be_replaced(saving: Stage) -> None:
    """As a reload does: what is equal is left alone, and nothing is saved."""
    saving.apply("tom", READER)
    saving.apply("ann", READER)
    saving.save()
    saving.save()
    tom, ann = saving.users.get("tom"), saving.users.get("ann")
    assert tom is not None
    change = saving.users.replace(lambda: {"tom": READER, "bob": READER}, saving.done.append)
    saving.loop.run_one()
    assert change.error is None
    assert sorted(change.changed) == ["ann", "bob"]
    assert saving.users.get("tom") is tom
    assert tom.generation == 0
    assert saving.gone == [ann]
    assert saving.users.names() == ["bob", DEFAULT_NAME, "tom"]
    assert len(saving.store.saved) == 2


def fails() -> Accounts:
    """Fail to read the users."""
    raise ValueError("it is not TOML")


def test_what_cannot_be_read_changes_nothing(stage: Stage) -> None:
    """And says why."""
    stage.apply("tom", READER)
    change = stage.users.replace(fails, stage.done.append)
    stage.loop.run_one()
    assert str(change.error) == "it is not TOML"
    assert stage.users.names() == [DEFAULT_NAME, "tom"]


@pytest.mark.parametrize(
    ("name", "valid"),
    [("tom", True), ("tom@example.org", True), ("ä", True), ("x" * 128, True), ("x" * 129, False), ("ä" * 65, False)]
    + [(name, False) for name in ("", ">a", "<a", "#a", "!a", "a b", "a\n", "\0", "a\x7f", "\udcff", "a\u2028b")],
)
def test_names(name: str, valid: bool) -> None:
    """What can stand in a log, and in a line of a protocol."""
    assert is_name(name) is valid


def test_what_another_server_has_saved_is_taken_over(saving: Stage) -> None:
    """At once, and the next change is one of that."""
    saving.users.adopt({"tom": READER}, 70)
    assert saving.users.names() == [DEFAULT_NAME, "tom"]
    saving.apply("ann", READER)
    saving.save()
    assert saving.store.bases == [70]
    assert saving.users.revision == 80
    assert saving.users.names() == ["ann", DEFAULT_NAME, "tom"]
    assert saving.gone == []


def test_what_is_newer_is_not_undone_by_what_was_being_saved(saving: Stage) -> None:
    """Another server has read it, and changed it, before the answer came here."""
    change = saving.apply("tom", READER)
    saving.users.adopt({"tom": replace(READER, grants=EVERYTHING)}, 90)
    saving.save()
    assert change.error is None
    tom = saving.users.get("tom")
    assert tom is not None
    assert tom.grants is EVERYTHING
    assert saving.users.revision == 90


def test_who_came_in_without_a_secret_has_to_leave(saving: Stage) -> None:
    """When it turns out that one is needed."""
    saving.users.adopt({DEFAULT_NAME: READER}, 1)
    assert saving.gone == [saving.users.default]
    saving.users.adopt({DEFAULT_NAME: replace(READER, grants=EVERYTHING)}, 2)
    assert saving.gone == [saving.users.default]


def test_another_loop_begins_anew(saving: Stage) -> None:
    """What was being saved ends nowhere, and what waited has gone with its clients."""
    former = saving.loop
    saving.apply("tom", READER)
    saving.apply("ann", READER)
    saving.loop = HandLoop()
    change = saving.apply("bob", READER)
    saving.store.go.put(None)
    former.run_one()
    saving.save()
    assert saving.done == [change]
    assert saving.users.names() == ["bob", DEFAULT_NAME]
