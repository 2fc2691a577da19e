"""Who is who: what is answered at once, what waits, and what an attacker gets of it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import pytest
from structlog.testing import capture_logs

from kvs.application.failures import FORGET_S, FREE_FAILURES, LOG_EVERY_S, MAX_ADDRESSES, Failures, delay_s, network_of
from kvs.application.passwords import PasswordJob
from kvs.application.secret_hashes import LEAST, Parameters, hash_password, hash_token
from kvs.application.users import Change
from kvs.domain.accounts import Account
from kvs.domain.grants import EVERYTHING
from tests.support.stage_of_users import THREADS, Stage, account

TOKEN: Final = "0123456789abcdef" * 4
ATTACKER: Final = "10.6.6.6:666"


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Users of every kind."""
    stage = Stage(
        alice=account(b"right", b"other"),
        tom=account(tokens=(hash_token(TOKEN.encode()),)),
        off=account(b"right", tokens=(hash_token(TOKEN.encode()),), enabled=False),
        open=Account(enabled=True, nopass=True, grants=EVERYTHING),
    )
    yield stage
    stage.close()


def ignore(_: Change) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("name", "secret", "user"),
    [
        ("alice", b"right", "alice"),
        ("alice", b"other", "alice"),
        ("alice", b"wrong", None),
        ("alice", b"", None),
        ("alice", b"x" * 20_000, None),
        ("tom", TOKEN.encode(), "tom"),
        ("tom", b"right", None),
        ("tom", b"", None),
        ("alice", TOKEN.encode(), None),
        ("off", b"right", None),
        ("off", TOKEN.encode(), None),
        ("open", b"anything", "open"),
        ("default", b"anything", "default"),
        ("nobody", b"right", None),
        ("no\udcffbody", b"right", None),
        ("", b"right", None),
    ],
)
def test_a_secret_is_right_or_wrong(stage: Stage, name: str, secret: bytes, user: str | None) -> None:
    """Whatever it is checked against."""
    assert stage.answer(name, secret) == user
    assert (stage.authenticator.succeeded, stage.authenticator.failed) == ((1, 0) if user else (0, 1))


def test_a_token_and_a_user_without_a_secret_are_answered_at_once(stage: Stage) -> None:
    """No thread is asked, and nobody is called back."""
    for name in ("tom", "open", "default"):
        assert stage.check(name, TOKEN.encode()).finished
    assert stage.authenticator.checks == 0
    assert stage.answered == []


def test_a_password_is_checked_once(stage: Stage) -> None:
    """Until the user changes."""
    assert stage.answer("alice", b"right") == "alice"
    for _ in range(100):
        assert stage.check("alice", b"right").finished
    assert stage.authenticator.checks == 1
    assert stage.users.apply("alice", lambda old: replace(old, grants=EVERYTHING, enabled=False), ignore).error is None
    assert stage.answer("alice", b"right") is None
    assert stage.users.apply("alice", lambda old: replace(old, enabled=True), ignore).error is None
    assert not stage.check("alice", b"right").finished
    stage.settle()
    assert stage.authenticator.checks == 3


def test_a_password_that_has_been_taken_away_is_wrong_at_once(stage: Stage) -> None:
    """Also if a thread is just finding it right."""
    attempt = stage.check("alice", b"right")
    assert stage.users.apply("alice", lambda old: replace(old, passwords=old.passwords[1:]), ignore).error is None
    stage.finish(attempt)
    assert attempt.user is None
    assert stage.answer("alice", b"right") is None
    assert stage.answer("alice", b"other") == "alice"


def test_a_user_that_is_switched_off_or_removed_meanwhile(stage: Stage) -> None:
    """Is no user when the answer comes."""
    first, second = stage.check("alice", b"right"), stage.check("alice", b"other")
    assert stage.users.remove(["alice"], ignore).changed == ["alice"]
    stage.finish(first, second)
    assert first.user is second.user is None


def test_a_thousand_clients_of_one_user_beside_ten_thousand_failures(stage: Stage) -> None:
    """They cost a check, and wait for no more than what has begun and one more in turn."""
    failing = [stage.check("alice", b"wrong %d" % number, ATTACKER) for number in range(10_000)]
    clients = [stage.check("alice", b"right", f"10.0.{number % 3}.1:{number}") for number in range(1000)]
    stage.finish(*clients)
    assert all(client.user is stage.users.get("alice") for client in clients)
    assert stage.authenticator.checks <= THREADS + 4
    assert len(stage.answered) == 1000 + sum(attempt.finished for attempt in failing)
    for attempt in failing:
        stage.authenticator.cancel(attempt)
    stage.settle()
    assert not stage.authenticator.is_busy


def test_an_attacker_does_not_slow_another_address_down(stage: Stage) -> None:
    """A new client with another password waits for one turn."""
    failing = [stage.check("alice", b"wrong %d" % number, ATTACKER) for number in range(1000)]
    for _ in range(3):
        stage.loop.run_one()
    checks = stage.authenticator.checks
    assert stage.answer("alice", b"other", "10.0.0.9:1") == "alice"
    assert stage.authenticator.checks <= checks + 2
    assert sum(attempt.finished for attempt in failing) < 10


def test_who_fails_is_slowed_down(stage: Stage) -> None:
    """More and more, up to a bound, and whatever user it is about."""
    waits: list[float] = []
    for number in range(FREE_FAILURES + 8):
        began_s = stage.loop.now_s
        assert stage.answer(f"user {number}", b"wrong", ATTACKER) is None
        waits.append(stage.loop.now_s - began_s)
    assert waits[: FREE_FAILURES + 1] == [0] * FREE_FAILURES + [1]
    assert waits[-1] == 4
    assert waits == sorted(waits)
    began_s = stage.loop.now_s
    assert stage.answer("alice", b"right", "10.6.6.7:1") == "alice"
    assert stage.loop.now_s == began_s


def test_who_fails_while_it_waits_for_a_thread_is_slowed_down() -> None:
    """By what it has guessed together with another address."""
    stage = Stage(threads=1, alice=account(b"right"))
    try:
        other = stage.check("alice", b"wrong", "10.3.0.1:1")
        for _ in range(FREE_FAILURES):
            stage.check("alice", b"wrong", ATTACKER)
        attempt = stage.check("alice", b"another", ATTACKER)
        stage.finish(other)
        assert stage.authenticator.checks == 1
        assert not stage.authenticator.checking
        assert not attempt.finished
        stage.finish(attempt)
    finally:
        stage.close()


def test_who_has_failed_is_checked_one_by_one(stage: Stage) -> None:
    """However many threads there are; before, they are used."""
    first = [stage.check("alice", b"wrong %d" % number, ATTACKER) for number in range(5)]
    assert stage.authenticator.checking == THREADS
    stage.finish(*first)
    for number in range(5):
        stage.check("alice", b"again %d" % number, ATTACKER)
        assert stage.authenticator.checking <= 1
    while stage.authenticator.waiting:
        stage.loop.advance(10)
        assert stage.authenticator.checking <= 1
        if stage.authenticator.checking:
            stage.loop.run_one()


def test_what_is_known_to_be_right_never_waits(stage: Stage) -> None:
    """From an address that has failed a hundred times."""
    assert stage.answer("alice", b"right") == "alice"
    for number in range(20):
        stage.check("alice", b"wrong %d" % number, ATTACKER)
    assert stage.check("alice", b"right", ATTACKER).finished
    assert stage.check("tom", TOKEN.encode(), ATTACKER).finished


def test_who_leaves_does_not_get_more_guesses(stage: Stage) -> None:
    """A client that disconnects counts as one that has failed, if its check had begun."""
    for number in range(FREE_FAILURES):
        attempt = stage.check("alice", b"wrong %d" % number, ATTACKER)
        assert not attempt.finished
        stage.authenticator.cancel(attempt)
        stage.settle()
    assert stage.authenticator.failed == FREE_FAILURES
    checks = stage.authenticator.checks
    for number in range(100):
        attempt = stage.check("alice", b"other wrong %d" % number, ATTACKER)
        stage.authenticator.cancel(attempt)
    assert stage.authenticator.checks == checks
    assert stage.answered == []
    stage.loop.advance(10)
    assert not stage.authenticator.is_busy


def test_the_same_secret_is_checked_once_for_all_who_have_it(stage: Stage) -> None:
    """Right or wrong, and each address has failed as often as it has tried."""
    attempts = [stage.check("alice", b"wrong", f"10.1.0.{number}:1") for number in range(50)]
    stage.finish(*attempts)
    assert stage.authenticator.checks == 1
    assert stage.authenticator.failed == 50
    assert not any(attempt.user for attempt in attempts)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("alice", b"wrong"),
        ("nobody", b"wrong"),
        ("off", b"wrong"),
        ("off", b"right"),
        ("off", TOKEN.encode()),
        ("tom", b"wrong"),
    ],
)
def test_whatever_is_wrong_is_answered_by_a_thread(stage: Stage, name: str, secret: bytes) -> None:
    """An unknown user, one that is off, even with the right secret, one without a password, and a wrong one."""
    attempt = stage.check(name, secret)
    assert not attempt.finished
    assert stage.authenticator.checks == 1
    stage.finish(attempt)
    assert attempt.user is None
    assert stage.authenticator.shape_of(name) in ((LEAST,), (LEAST, LEAST))


def test_who_does_not_exist_looks_like_someone_who_does() -> None:
    """If users have hashes of different cost, an unknown one has always the cost of the same one of them."""
    costs = {"a": LEAST, "b": Parameters(11, 8, 1), "c": Parameters(10, 8, 2)}
    stage = Stage(
        THREADS, **{name: replace(account(), passwords=(hash_password(b"x", each),)) for name, each in costs.items()}
    )
    try:
        shapes = {name: stage.authenticator.shape_of(name) for name in map(str, range(100))}
        assert {shape for (shape,) in shapes.values()} == set(costs.values())
        assert shapes == {name: stage.authenticator.shape_of(name) for name in shapes}
    finally:
        stage.close()


def test_without_any_password_nothing_is_wasted() -> None:
    """Tokens only: a wrong one is wrong at once, and who goes on is slowed down all the same."""
    stage = Stage(tom=account(tokens=(hash_token(TOKEN.encode()),)))
    try:
        for number in range(FREE_FAILURES):
            assert stage.check("tom", b"%d" % number, ATTACKER).finished
        assert not stage.check("tom", b"again", ATTACKER).finished
        assert stage.check("tom", TOKEN.encode(), ATTACKER).finished
        assert stage.authenticator.checks == 0
        stage.settle()
    finally:
        stage.close()


def test_failures_are_logged_and_counted_and_not_each(stage: Stage) -> None:
    """One event for an address in a while, with the user's name only if there is such a user."""
    with capture_logs() as logged:
        for number in range(3):
            stage.answer("alice", b"wrong %d" % number, ATTACKER)
        stage.answer("my-password", b"x", "[2001:db8::1]:5")
        stage.loop.advance(LOG_EVERY_S)
        stage.answer("alice", b"wrong", ATTACKER)
    expected = [(ATTACKER, "alice", 1), ("[2001:db8::1]:5", "(unknown)", 1), (ATTACKER, "alice", 3)]
    assert [(event["peer"], event["user"], event["failures"]) for event in logged] == expected
    assert {event["event"] for event in logged} == {"authentication_failed"}
    assert stage.authenticator.failed == 5


def test_a_password_that_a_setting_gives(stage: Stage) -> None:
    """It is not saved, and right at once."""
    alice = stage.users.get("alice")
    assert alice is not None
    alice.given = stage.key.hash("alice", b"given")
    assert stage.check("alice", b"given").user is alice
    assert stage.answer("alice", b"right") == "alice"
    assert stage.answer("tom", b"given") is None


def test_another_loop_begins_anew(stage: Stage) -> None:
    """What waited has gone with the former one, and its threads' answers go nowhere."""
    lost = stage.check("alice", b"right")
    former = stage.loop
    stage.loop = type(former)()
    assert stage.answer("alice", b"other") == "alice"
    former.run_one()
    assert not lost.finished
    assert not stage.authenticator.is_busy


def test_what_changes_of_passwords_need_is_found_out_by_threads(stage: Stage) -> None:
    """New hashes are right, and a password that is there is known."""
    user = stage.users.get("alice")
    assert user is not None
    job = PasswordJob(user.account.passwords, [b"new", b"right"], [b"unknown"])
    ended: list[bool] = []
    stage.authenticator.run(job.run, lambda: ended.append(job.failed))
    assert ended == []
    stage.loop.run_one()
    assert ended == [False]
    assert job.found.present == {b"right": user.account.passwords[0]}
    made = (job.found.hashes[b"new"],)
    assert stage.users.apply("alice", lambda old: replace(old, passwords=made), ignore).error is None
    assert stage.answer("alice", b"new") == "alice"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1:5", b"10.0.0.1"),
        ("10.0.0.1", b"10.0.0.1"),
        ("[2001:db8:1:2:3:4:5:6]:5", bytes.fromhex("20010db800010002")),
        ("2001:db8:1:2:ffff::1", bytes.fromhex("20010db800010002")),
        ("[fe80::1%eth0]:5", bytes.fromhex("fe80000000000000")),
        ("[::ffff:10.0.0.1]:5", b"10.0.0.1"),
        ("/run/kvs.sock:0", b"/run/kvs.sock"),
        ("/run/kvs.sock", b"/run/kvs.sock"),
        ("", b""),
    ],
)
def test_what_an_address_shares_its_place_with(address: str, network: bytes) -> None:
    """Whoever has one address of IPv6 has at least 64 bits of them."""
    assert network_of(address) == network


def test_the_table_of_failures_is_bounded_and_forgets() -> None:
    """Whoever failed longest ago makes room."""
    failures = Failures()
    for number in range(MAX_ADDRESSES + 100):
        failures.add(b"%d" % number, 1, 0.0)
    assert len(failures) == MAX_ADDRESSES
    assert not failures.has(b"99")
    assert failures.has(b"100")
    for number in range(MAX_ADDRESSES):
        failures.add(b"new", 1, FORGET_S + 1 + number / 1e6)
    assert len(failures) == 1
    assert failures.not_before_s(b"new") > FORGET_S + 1 + 3


def test_an_address_that_comes_back_is_as_good_as_new() -> None:
    """After as long as any other is remembered."""
    failures = Failures()
    failures.add(b"a", FREE_FAILURES + 20, 0.0)
    assert failures.not_before_s(b"a") > 0
    failures.add(b"a", 1, FORGET_S + 1)
    assert failures.not_before_s(b"a") == FORGET_S + 1


def test_delays_do_not_overflow() -> None:
    """However often."""
    assert delay_s(0) == delay_s(FREE_FAILURES - 1) == 0
    assert delay_s(10**9) == delay_s(100) == 4
