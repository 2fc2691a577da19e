"""What a server that stands by has in memory: what is stored, and nothing else, whatever happens meanwhile."""

from collections.abc import Callable
from contextlib import closing
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
import structlog
from structlog.testing import capture_logs

from kvs.adapters.storage.etcd import replica as replica_module
from kvs.adapters.storage.etcd.client.errors import UnavailableError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import delete, put
from kvs.adapters.storage.etcd.complaints import Complaints
from kvs.adapters.storage.etcd.entry import Header, _decode_header, digest_of
from kvs.adapters.storage.etcd.follower import Follower
from kvs.adapters.storage.etcd.layout import MAX_VALUE_BYTES, Head, LayoutError, encoded
from kvs.adapters.storage.etcd.replica import Replica
from kvs.domain.values import Key, Record, Value
from tests.support.etcd_leader import Leader, contents, new_replica, read
from tests.support.seeds import seeds
from tests.support.waiting import polling

if TYPE_CHECKING:
    from kvs.adapters.storage.journal_writer import Row

VALUE: Final = bytes(20_000)
LARGE: Final = bytes(MAX_VALUE_BYTES + 1)

Model = dict[Key, Value]


class Counting:
    """A client whose calls are counted, and may be met by something else.

    Args:
        client: Makes the calls.
        met: Called before each, with its number and the first key that is read.
    """

    def __init__(self, client: EtcdClient, met: Callable[[int, bytes], None]) -> None:
        self.calls = 0
        self._client = client
        self._met = met

    def range(self, *args: Any, **kwargs: Any) -> Any:
        self._count(args[0])
        return self._client.range(*args, **kwargs)

    def txn(self, *args: Any) -> Any:
        self._count(b"")
        return self._client.txn(*args)

    def _count(self, first: bytes) -> None:
        self.calls += 1
        self._met(self.calls, first)


def make_pass(replica: Replica) -> None:
    """Make one, or what is left of it."""
    while replica.advance():
        pass


def fill(leader: Leader) -> Model:
    """Write a checkpoint of two chunks, and entries behind it."""
    model = Model()
    leader.write(model, [(b"%03d" % number, VALUE) for number in range(20)])
    leader.checkpoints.write()
    leader.write(model, [(b"000", None), (b"large", LARGE)])
    leader.write(model, [(b"record", Record(b"r", 5))])
    return model


def cut_journal(leader: Leader, model: Model) -> None:
    """Write until nothing of what there was is left in the journal."""
    for number in range(2):
        leader.write(model, [(b"cut", b"%d" % number)])
        leader.checkpoints.write()


@pytest.mark.parametrize("seed", seeds(4))
def test_a_replica_has_what_is_stored_at_every_pass(client: EtcdClient, place: bytes, seed: int) -> None:
    """Of leaders that come and go, some of which it is, and whose checkpoints then lack nothing."""
    random, model = Random(seed), Model()
    leader, replica = Leader(client, place), new_replica(client, place)
    for _ in range(100):
        action = random.random()
        if action < 0.1:
            leader.end()
            if action < 0.05:
                leader, replica = Leader(client, place, replica=replica), new_replica(client, place)
            else:
                leader = Leader(client, place)
            assert leader.data == model
        elif action < 0.25:
            leader.checkpoints.write()
            assert read(client, place) == model
        elif action < 0.4:
            replica.catch_up(client.range(leader.keys.head).header.revision, lambda: None)
            assert contents(replica.memory) == model
            assert replica.head == leader.journal.head
        elif action < 0.5:
            replica.advance()
        else:
            keys = [b"%d" % random.randrange(60) for _ in range(random.randrange(12))]
            values = (None, b"", VALUE, VALUE, b"r" if action < 0.9 else LARGE)
            rows: list[Row] = [(key, random.choice(values)) for key in keys]
            leader.write(model, rows, clears=action > 0.95)
    leader.end()
    leader = Leader(client, place, replica=replica)
    leader.checkpoints.write()
    assert leader.data == read(client, place) == model
    leader.end()


def test_who_has_followed_reads_the_rest_and_nothing_else(client: EtcdClient, place: bytes) -> None:
    """No chunk again, and no entry."""
    leader = Leader(client, place)
    model = fill(leader)
    seen: list[bytes] = []
    counting = Counting(client, lambda _, first: seen.append(first))
    replica = new_replica(cast("EtcdClient", counting), place)
    make_pass(replica)
    seen.clear()
    leader.write(model, [(b"rest", b"1")])
    leader.checkpoints.write()
    leader.write(model, [(b"rest", b"2")])
    leader.end()
    successor = Leader(client, place, replica=replica)
    assert successor.data == model
    first = leader.keys.entry(4)
    chunks = [name for name in seen if name.startswith(leader.keys.chunks)]
    assert [name for name in seen if name not in (b"", *chunks)] == [first]
    assert len(chunks) == 1  # the list of them
    assert successor.backlog.gathering.earlier == [{b"rest": b"2"}]
    successor.end()


def test_a_pass_that_was_stopped_is_finished_and_followed_by_another(client: EtcdClient, place: bytes) -> None:
    """Wherever that was: what has been written since is there as well."""
    leader = Leader(client, place)
    model, finished = fill(leader), False
    for steps in count(1):
        replica = new_replica(client, place)
        finished = not all(replica.advance() for _ in range(steps))
        leader.write(model, [(b"since", b"%d" % steps)])
        if steps % 5 == 0:
            cut_journal(leader, model)
        revision = client.range(leader.keys.head).header.revision
        replica.catch_up(revision, lambda: None)
        assert replica.revision >= revision
        assert contents(replica.memory) == model
        if finished:
            break
    assert steps > 5
    leader.end()


@pytest.mark.parametrize("warm", [False, True])
def test_a_call_that_fails_leaves_nothing_half_done(client: EtcdClient, place: bytes, warm: bool) -> None:
    """Whichever it is, the next pass has all."""
    leader = Leader(client, place)
    model = fill(leader)
    for failing in count(1):
        armed = not warm

        def meet(number: int, _: bytes) -> None:
            if armed and number == failing:  # noqa: B023  # it is called in this turn
                raise UnavailableError("planted")

        counting = Counting(client, meet)
        replica = new_replica(cast("EtcdClient", counting), place)
        if warm:
            make_pass(replica)
            counting.calls, armed = 0, True
            leader.write(model, [(b"large", LARGE)])
            leader.write(model, [(b"since", b"%d" % failing)], clears=failing == 2)
        try:
            make_pass(replica)
            break
        except UnavailableError:
            make_pass(replica)
        assert contents(replica.memory) == model
    assert contents(replica.memory) == model
    assert failing > 3
    leader.end()


def test_a_journal_that_was_cut_meanwhile_is_a_gap(client: EtcdClient, place: bytes) -> None:
    """The checkpoint is read again; and what was not there any more is gone here, too."""
    leader = Leader(client, place)
    model = fill(leader)
    replica = new_replica(client, place)
    make_pass(replica)
    leader.write(model, [(b"record", None)])
    cut_journal(leader, model)
    with capture_logs() as logs:
        make_pass(replica)
    assert contents(replica.memory) == model
    (event,) = logs
    assert event["event"] == "replica_discarded"
    assert "does not follow entry 3" in event["reason"] or "journal ends with entry 3" in event["reason"]
    leader.end()


def test_without_the_chain_a_gap_is_not_seen(client: EtcdClient, place: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """So this is what it is for: what was acknowledged is not there."""

    def decode(entry: bytes, _head: Head, _where: str) -> Header:
        return _decode_header(entry)

    leader = Leader(client, place)
    model = fill(leader)
    replica = new_replica(client, place)
    make_pass(replica)
    leader.write(model, [(b"in the gap", b"1")])
    cut_journal(leader, model)
    leader.write(model, [(b"behind", b"1")])
    monkeypatch.setattr(replica_module, "decode_entry", decode)
    make_pass(replica)
    assert {*model} - {*contents(replica.memory)} == {b"in the gap"}
    leader.end()


def test_what_is_ahead_of_the_journal_or_beside_it_is_thrown_away(client: EtcdClient, place: bytes) -> None:
    """As after a restored backup: the end is before what is here, or the same number has another digest."""
    leader, model = Leader(client, place), Model()
    leader.write(model, [(b"a", b"1")])
    head, before = leader.journal.head, dict(model)
    leader.write(model, [(b"b", b"1")])
    (other,) = client.range(leader.keys.entry(2)).kvs
    replica = new_replica(client, place)
    make_pass(replica)
    assert contents(replica.memory) == model
    client.txn([], [put(leader.keys.head, encoded(head)), delete(leader.keys.entry(2))])
    make_pass(replica)
    assert contents(replica.memory) == before

    changed = other.value.replace(b"\xc4\x01b", b"\xc4\x01c")
    for entry, value in ((other.value, {b"a": b"1", b"b": b"1"}), (changed, {b"a": b"1", b"c": b"1"})):
        end = Head(2, digest_of(entry))
        client.txn([], [put(leader.keys.entry(2), entry), put(leader.keys.head, encoded(end))])
        make_pass(replica)
        assert contents(replica.memory) == value
    leader.end()


def test_damage_is_told_and_not_served(client: EtcdClient, place: bytes) -> None:
    """And when it is mended, the next pass has all."""
    leader = Leader(client, place)
    model = fill(leader)
    replica = new_replica(client, place)
    make_pass(replica)
    leader.write(model, [(b"a", b"1")])
    leader.write(model, [(b"b", b"1")])
    (entry,) = client.range(leader.keys.entry(4)).kvs
    client.txn([], [delete(leader.keys.entry(4))])
    for _ in range(2):
        with pytest.raises(LayoutError, match=r"journal/0*5: does not follow entry 3"):
            make_pass(replica)
    client.txn([], [put(entry.key, entry.value)])
    make_pass(replica)
    assert contents(replica.memory) == model
    leader.end()


def test_a_revision_that_is_forgotten_meanwhile_costs_a_pass(client: EtcdClient, place: bytes) -> None:
    """What was applied stays: no chunk is read again."""
    leader = Leader(client, place)
    model = fill(leader)
    compacts = False
    seen: list[bytes] = []

    def meet(_: int, first: bytes) -> None:
        nonlocal compacts
        seen.append(first)
        if compacts and first.startswith(leader.keys.parts):
            compacts = False
            client.compact(client.txn([], [put(leader.keys.alive, b"{}")]).header.revision)

    replica = new_replica(cast("EtcdClient", Counting(client, meet)), place)
    make_pass(replica)
    for number in range(3):
        leader.write(model, [(b"small", b"%d" % number)])
    leader.write(model, [(b"large", LARGE)])
    seen.clear()
    compacts = True
    replica.catch_up(client.range(leader.keys.head).header.revision, lambda: None)
    assert contents(replica.memory) == model
    assert seen.count(b"") == 2
    assert not [name for name in seen if name.startswith(leader.keys.chunks)]
    assert leader.keys.entry(7) in seen
    leader.end()


def following(replica: Replica, passed: Callable[[], None]) -> Follower:
    """Return what keeps a replica up to date."""
    return Follower(replica, passed, Complaints(), structlog.get_logger())


def test_a_follower_keeps_up_and_ends_in_the_middle_of_a_pass(client: EtcdClient, place: bytes) -> None:
    """It goes on when something is damaged and mended; its thread ends with it, and the pass is finished by others."""
    leader = Leader(client, place)
    model = fill(leader)
    heads: list[int] = []
    replica = new_replica(client, place)
    with (
        capture_logs() as logs,
        closing(following(replica, lambda: heads.append(replica.head.number))) as follower,
    ):
        for _ in polling("it follows"):
            if heads and heads[-1] == leader.journal.head.number:
                break
        leader.write(model, [(b"a", b"1")])
        leader.write(model, [(b"a", b"2")])
        for _ in polling("it has what is new"):
            if heads[-1] == leader.journal.head.number:
                break
        head = encoded(leader.journal.head)
        client.txn([], [put(leader.keys.head, b"?")])
        for _ in polling("it complains"):
            if any(event["event"] == "not_following" for event in logs):
                break
        client.txn([], [put(leader.keys.head, head)])
        passes = len(heads)
        for _ in polling("it goes on"):
            if len(heads) > passes:
                break
    assert not follower._runner.is_alive()
    (event,) = (event for event in logs if event["event"] == "following")
    assert (event["keys"], event["journal_entries"]) == (21, 3)

    for _ in range(5):
        replica = new_replica(client, place)
        following(replica, lambda: None).close()
        replica.catch_up(client.range(leader.keys.head).header.revision, lambda: None)
        assert contents(replica.memory) == model
    leader.end()
