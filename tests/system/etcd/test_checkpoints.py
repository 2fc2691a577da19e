"""Checkpoints: the journal is cut, nothing is lost, and nothing is left behind, wherever a leader is killed."""

from collections import Counter
from collections.abc import Callable
from contextlib import closing as closed
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from msgspec.structs import replace

from kvs.adapters.storage.etcd import checkpoints as checkpoints_module
from kvs.adapters.storage.etcd.chunks import Chunk, decode_index, encode_index, names_of, read_place
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import delete, put
from kvs.adapters.storage.etcd.entry import digest_of
from kvs.adapters.storage.etcd.layout import MAX_VALUE_BYTES, LayoutError, Place, encoded
from kvs.adapters.storage.etcd.steps import StoppedError
from kvs.domain.values import Key, Value
from kvs.ports.candidate import LeadLostError
from tests.support.etcd import Cluster, closing, need_etcd, running_cluster
from tests.support.etcd_leader import KilledError, Leader, MortalClient, new_replica, read
from tests.support.etcd_server import EtcdServer
from tests.support.seeds import SEED, seeds
from tests.support.waiting import polling

if TYPE_CHECKING:
    from kvs.adapters.storage.journal_writer import Row

VALUE: Final = bytes(20_000)
LARGE: Final = bytes(MAX_VALUE_BYTES + 1)

Model = dict[Key, Value]


def chunks_of(leader: Leader, index: Place) -> list[Chunk]:
    """Return the chunks that an index lists."""
    return decode_index(read_place(leader.client, leader.keys, index), "index")


def check_nothing_is_left(leader: Leader) -> None:
    """Check that there are the two newest checkpoints, the journal behind the older, and nothing else."""
    pointer = leader.pointer()
    indexes = [pointer.index, *([pointer.former.index] if pointer.former else [])]
    places = {*indexes, *(chunk.place for index in indexes for chunk in chunks_of(leader, index))}
    assert leader.names(leader.keys.chunks) == sorted(name for each in places for name in names_of(each, leader.keys))
    first = 1 if pointer.former is None else pointer.former.number + 1
    last = leader.journal.head.number
    assert leader.names(leader.keys.entries) == [leader.keys.entry(number) for number in range(first, last + 1)]
    numbers = {int(name.split(b"/")[-3]) for name in leader.names(leader.keys.parts)}
    assert numbers <= set(range(first, last + 1))


def test_checkpoints_hold_what_the_journal_had(client: EtcdClient, place: bytes) -> None:
    """With everything that rows may be; two generations stay, and chunks that nothing has changed stay as they are."""
    leader, model = Leader(client, place), Model()
    leader.write(model, [(b"%03d" % number, VALUE) for number in range(40)])
    leader.checkpoints.write()
    check_nothing_is_left(leader)
    former = chunks_of(leader, leader.pointer().index)
    leader.write(model, [(b"000", None), (b"000/new", LARGE), (b"001", b"")])
    leader.checkpoints.write()
    check_nothing_is_left(leader)
    assert set(former[2:]) <= set(chunks_of(leader, leader.pointer().index))
    former_one = leader.pointer().former
    assert former_one is not None
    assert former_one.number == 1
    assert leader.backlog.size == 0
    assert read(client, place) == model
    leader.write(model, [(b"behind", b"1")])
    assert read(client, place) == model
    leader.end()

    leader = Leader(client, place)
    assert leader.data == model
    leader.write(model, [(b"later", b"2")], clears=True)
    leader.write(model, [(b"last", b"3")])
    leader.checkpoints.write()
    check_nothing_is_left(leader)
    assert read(client, place) == model == {b"later": b"2", b"last": b"3"}
    leader.write(model, [], clears=True)
    leader.checkpoints.write()
    leader.checkpoints.write()  # with nothing new
    check_nothing_is_left(leader)
    assert read(client, place) == model == {}
    leader.end()


@pytest.mark.parametrize("seed", seeds(3))
def test_checkpoints_at_random_hold_what_the_journal_had(client: EtcdClient, place: bytes, seed: int) -> None:
    """With a new leader now and then, which has what was there."""
    random, model = Random(seed), Model()
    leader = Leader(client, place)
    for _ in range(60):
        action = random.random()
        if action < 0.1:
            leader.end()
            leader = Leader(client, place)
            assert leader.data == model
        elif action < 0.3:
            leader.checkpoints.write()
            check_nothing_is_left(leader)
            assert read(client, place) == model
        else:
            keys = [b"%d" % random.randrange(60) for _ in range(random.randrange(12))]
            rows: list[Row] = [(key, random.choice((None, b"", VALUE, VALUE, key))) for key in keys]
            leader.write(model, rows, clears=action > 0.97)
    assert read(client, place) == model
    leader.end()


@pytest.mark.parametrize("after", [False, True])
def test_a_leader_that_is_killed_at_any_step_loses_nothing_and_leaves_nothing(
    client: EtcdClient, place: bytes, after: bool
) -> None:
    """Before a call reaches etcd, and before its answer is known. The next leader's first checkpoint tidies up."""
    calls, finished = 0, False
    while not finished:
        here, model = place + b"%d/" % calls, Model()
        leader = Leader(client, here)
        leader.write(model, [(b"%03d" % number, VALUE) for number in range(20)])
        leader.checkpoints.write()
        leader.write(model, [(b"000", b"1"), (b"large", LARGE)])
        leader.checkpoints.write()
        leader.end()
        leader = Leader(client, here, MortalClient(client, calls, after=after))
        leader.write(model, [(b"001", None), (b"019", b"3")])
        try:
            leader.checkpoints.write()
            finished = True
        except KilledError:
            pass
        leader.end()

        leader = Leader(client, here)
        assert leader.data == model
        leader.write(model, [(b"002", b"4"), (b"large", None)])
        leader.checkpoints.write()
        check_nothing_is_left(leader)
        assert read(client, here) == model
        leader.end()
        client.txn([], [delete(here, here + b"\xff")])
        calls += 1
    assert calls > 8


def test_whatever_etcd_forgets_meanwhile_is_read_again(client: EtcdClient, place: bytes) -> None:
    """Another user may compact it at any time."""
    leader, model = Leader(client, place), Model()
    leader.write(model, [(b"%03d" % number, VALUE) for number in range(20)])
    leader.checkpoints.write()

    class Compacting:
        """A client beside which somebody compacts, once."""

        def __init__(self) -> None:
            self.ranges = 0

        def txn(self, *args: Any) -> Any:
            return client.txn(*args)

        def range(self, *args: Any, **kwargs: Any) -> Any:
            self.ranges += 1
            if self.ranges == 2:
                client.compact(client.txn([], [put(leader.keys.alive, b"")]).header.revision)
            return client.range(*args, **kwargs)

    compacting = Compacting()
    assert read(cast("EtcdClient", compacting), place) == model
    assert compacting.ranges == 4  # the list and its chunks, twice
    leader.end()


def test_checkpoints_go_on_when_etcd_is_back(place: bytes) -> None:
    """The thread makes one when nothing has been written for a while, however long etcd was away."""
    need_etcd()
    with running_cluster() as cluster, closing(cluster.client) as client:
        leader = Leader(client, place, idle_s=0.0)
        leader.checkpoints.start()
        leader.append([(b"a", b"1")])
        assert leader.checkpoints.written.wait(30)
        leader.checkpoints.written.clear()
        cluster.members[0].kill()
        cluster.members[0].end()
        leader.backlog.add([(b"b", b"2")], leader.journal.head, 0, 1)  # as an entry just before would have done
        assert not leader.checkpoints.written.is_set()
        cluster.members[0].restart()
        assert leader.checkpoints.written.wait(60)
        leader.checkpoints.stop()
        assert not leader.lead.lost
        assert read(client, place) == {b"a": b"1", b"b": b"2"}
        leader.end()


def test_a_server_that_is_killed_beside_checkpoints_has_lost_nothing(single: Cluster, place: bytes) -> None:
    """The next one has all that was acknowledged, and goes on with checkpoints."""
    namespace = f"checkpoints-{place.decode().rstrip('/')}"
    acknowledged: dict[str, str] = {}
    random = Random(SEED)
    for _ in range(3):
        with EtcdServer(single, namespace, options=["max_journal_bytes=1048576"]) as server:
            assert server.leads()
            with closed(server.connect()) as client:
                for key, value in acknowledged.items():
                    assert client.ask(f"GET {key}")["result"] == value
                enough = random.randrange(2, 6)
                for number in count():
                    lines = {f"key{random.randrange(500)}": f"{number}-{'x' * 2000}" for _ in range(40)}
                    client.ok(*(f"PUT {key} {value}" for key, value in lines.items()))
                    acknowledged |= lines
                    if len(server.events("checkpoint_written")) >= enough:
                        break
            server.kill()


def test_who_has_lost_the_lead_writes_no_checkpoint(client: EtcdClient, place: bytes) -> None:
    """Neither a chunk, nor the pointer, nor a cut; nor does its late append count."""
    former, model = Leader(client, place), Model()
    former.write(model, [(b"a", b"1")])
    former.end()
    leader = Leader(client, place)
    with pytest.raises(StoppedError):
        former.checkpoints.write()
    with pytest.raises(LeadLostError):
        former.append([(b"a", b"2")])
    assert former.lead.lost
    assert not leader.names(leader.keys.chunks)
    assert not client.range(leader.keys.checkpoint).kvs
    assert read(client, place) == model
    leader.end()


def test_a_pointer_that_something_else_has_changed_ends_the_lead(client: EtcdClient, place: bytes) -> None:
    """As after a restored backup: nothing is written over it."""
    leader, model = Leader(client, place), Model()
    leader.write(model, [(b"a", b"1")])
    leader.checkpoints.write()
    leader.write(model, [(b"a", b"2")])
    foreign = encoded(leader.pointer().index)
    client.txn([], [put(leader.keys.checkpoint, foreign)])
    with pytest.raises(StoppedError):
        leader.checkpoints.write()
    assert "were changed by something else" in leader.lead.lost
    assert client.range(leader.keys.checkpoint).kvs[0].value == foreign
    leader.end()


def _first_chunk(leader: Leader) -> bytes:
    return next(names_of(chunks_of(leader, leader.pointer().index)[0].place, leader.keys))


def _replace(leader: Leader, key: bytes, old: bytes, new: bytes) -> None:
    """Replace a part of a value."""
    (found,) = leader.client.range(key).kvs
    assert old in found.value
    leader.client.txn([], [put(key, found.value.replace(old, new, 1))])


def _lose_chunk(leader: Leader) -> None:
    leader.client.txn([], [delete(_first_chunk(leader))])


def _damage_chunk(leader: Leader) -> None:
    _replace(leader, _first_chunk(leader), b"000", b"00x")


def _lose_index(leader: Leader) -> None:
    leader.client.txn([], [delete(next(names_of(leader.pointer().index, leader.keys)))])


def _lose_entry(leader: Leader) -> None:
    leader.client.txn([], [delete(leader.keys.entry(2))])


def _lose_part(leader: Leader) -> None:
    leader.client.txn([], [delete(leader.names(leader.keys.parts)[-1])])


def _lose_last_entry(leader: Leader) -> None:
    leader.client.txn([], [delete(leader.keys.entry(3))])


def _damage_pointer(leader: Leader) -> None:
    _replace(leader, leader.keys.checkpoint, b"{", b"[")


def _miscount_keys(leader: Leader) -> None:
    _replace(leader, leader.keys.checkpoint, b'"keys":20', b'"keys":21')


def _raise_format(leader: Leader) -> None:
    _replace(leader, leader.keys.checkpoint, b'"format":1', b'"format":2')


def _swap_chunks(leader: Leader) -> None:
    pointer = leader.pointer()
    chunks = chunks_of(leader, pointer.index)
    index = encode_index([*chunks[1:], chunks[0]])
    (name,) = names_of(pointer.index, leader.keys)
    place = replace(pointer.index, digest=digest_of(index))
    leader.client.txn([], [put(name, index), put(leader.keys.checkpoint, encoded(replace(pointer, index=place)))])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_swap_chunks, "checkpoint: lists chunks that are not in order"),
        (_lose_chunk, "chunk/.*: has 1 pieces, and there are 0"),
        (_damage_chunk, "chunk/.*: is damaged: its digest"),
        (_lose_index, "chunk/.*: has 1 pieces, and there are 0"),
        (_damage_pointer, "checkpoint: is not written by kvs"),
        (_miscount_keys, "checkpoint: says 21 keys, and there are 20"),
        (_raise_format, "checkpoint: has format 2; this version of kvs knows format 1"),
        (_lose_entry, "journal/0*3: does not follow entry 1"),
        (_lose_part, "journal/0*3: has 2 parts, and there are 1"),
        (_lose_last_entry, "the journal ends with entry 2, and its head is 3"),
    ],
)
def test_what_is_missing_or_damaged_is_named(
    client: EtcdClient, place: bytes, damage: Callable[[Leader], None], said: str
) -> None:
    """And nothing is served."""
    leader, model = Leader(client, place), Model()
    leader.write(model, [(b"%03d" % number, VALUE) for number in range(20)])
    leader.checkpoints.write()
    leader.write(model, [(b"a", b"1")])
    leader.write(model, [(b"large", LARGE)])
    assert read(client, place) == model
    damage(leader)
    with pytest.raises(LayoutError, match=said):
        read(client, place)
    leader.end()


@pytest.mark.parametrize(
    ("damage", "warm"),
    [(_lose_chunk, False), (_damage_chunk, False), (_swap_chunks, False), (_lose_index, False), (_lose_index, True)],
)
def test_a_damaged_checkpoint_is_done_without(
    client: EtcdClient, place: bytes, damage: Callable[[Leader], None], warm: bool
) -> None:
    """The one before is read, and the journal behind that; the next checkpoint is whole again."""
    leader, model = Leader(client, place), Model()
    leader.write(model, [(b"%03d" % number, VALUE) for number in range(20)])
    leader.checkpoints.write()
    leader.write(model, [(b"%03d" % number, VALUE[1:]) for number in range(0, 20, 2)])
    leader.write(model, [(b"001", None)])
    leader.checkpoints.write()
    leader.write(model, [(b"behind", LARGE)])
    replica = new_replica(client, place)
    if warm:
        replica.catch_up(1, lambda: None)
    damage(leader)
    leader.end()

    successor = Leader(client, place, replica=replica)
    assert successor.data == model
    successor.write(model, [(b"000", b"")])
    successor.checkpoints.write()
    assert read(client, place) == model
    successor.checkpoints.write()
    check_nothing_is_left(successor)
    successor.end()


def test_a_checkpoint_that_cannot_be_written_leaves_nothing_and_the_data_can_be_saved(
    client: EtcdClient, place: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk of the former one is missing: the leader serves until the journal is full, and then says why."""
    monkeypatch.setattr(checkpoints_module, "DAMAGED_PAUSE_S", 0.0)
    leader, model = Leader(client, place, idle_s=0.0), Model()
    leader.write(model, [(b"%03d" % number, VALUE) for number in range(40)])
    leader.checkpoints.write()
    chunks = chunks_of(leader, leader.pointer().index)
    client.txn([], [delete(next(names_of(chunks[-1].place, leader.keys)))])
    before = leader.names(leader.keys.chunks)
    leader.write(model, [(b"000", b"1"), (b"039", b"2")])
    told = Counter[str]()
    real = leader.steps.warn

    def warn(error: Exception) -> None:
        told[str(error)] += 1
        real(error)

    monkeypatch.setattr(leader.steps, "warn", warn)
    leader.checkpoints.start()
    for _ in polling("it has been tried several times"):
        if told.total() > 2:
            break
    leader.checkpoints.stop()
    left = set(leader.names(leader.keys.chunks)) - set(before)
    assert len(left) <= 1  # of the attempt that was stopped, for the next leader to find
    leader.write(model, [(b"full", bytes(leader.backlog._max_bytes))])
    with pytest.raises(LeadLostError, match=r"the journal is full, and no checkpoint can be written: .*has 1 pieces"):
        leader.write(model, [(b"more", b"")])
    leader.end()
