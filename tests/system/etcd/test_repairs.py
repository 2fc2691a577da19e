"""Damaged checkpoints are replaced from the leader's memory."""

from contextlib import ExitStack
from contextlib import closing as closed
from itertools import count
from random import Random
from threading import Thread
from typing import TYPE_CHECKING, Final

import pytest

from kvs.adapters.storage.etcd.chunks import decode_index, names_of, read_place
from kvs.adapters.storage.etcd.client.endpoints import namespace_prefix
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import delete
from kvs.adapters.storage.etcd.layout import Checkpoint, Keys, decoded
from kvs.adapters.storage.etcd.repair import Repair
from kvs.adapters.storage.journaled import JournaledStorage
from kvs.domain.values import Key
from tests.support.etcd import HOST, Cluster
from tests.support.etcd_leader import Leader, contents, read, topology
from tests.support.etcd_server import EtcdServer
from tests.support.seeds import seeds

if TYPE_CHECKING:
    from kvs.domain.values import Value

SMALL_JOURNAL: Final = ["max_journal_bytes=1048576"]
VALUE: Final = "x" * 4000

KEYS: Final = 40
"""Together they are large enough for a checkpoint."""

_numbers: Final = count()


def chunks_of(client: EtcdClient, keys: Keys) -> list[bytes]:
    """Return the names of the newest checkpoint's chunks, in the order of their rows."""
    pointer = decoded(keys.checkpoint, client.range(keys.checkpoint).kvs[0].value, Checkpoint)
    chunks = decode_index(read_place(client, keys, pointer.index), "index")
    return [name for chunk in chunks for name in names_of(chunk.place, keys)]


@pytest.mark.parametrize("seed", seeds(3))
def test_a_repair_beside_writes_has_what_is_durable(client: EtcdClient, place: bytes, seed: int) -> None:
    """Whatever changes while memory is read; and nothing is left behind."""
    random = Random(seed)
    model: dict[Key, Value] = {}
    leader = Leader(client, place)
    leader.write(model, [(b"%04d" % number, b"1" * 500) for number in range(2000)])
    leader.checkpoints.write()
    storage = JournaledStorage(leader.memory, leader.journal)
    storage.put_all([*model], [*model.values()])
    checkpoints = leader.checkpoints
    checkpoints._repair = Repair(storage, topology(), leader.steps)
    for _ in range(3):
        client.txn([], [delete(name) for name in chunks_of(client, leader.keys)])
        checkpoints._damage = "planted"
        writing = Thread(target=checkpoints.write)
        writing.start()
        untouched = random.sample(range(2200), 2200)  # each once, or a later write would hide that one is missing
        while writing.is_alive():
            if untouched:
                change(storage, b"%04d" % untouched.pop(), random)
            storage.check()
        writing.join()
        storage.sync()
        assert read(client, place) == contents(leader.memory)
    storage.close()
    checkpoints.write()
    checkpoints.write()
    pointer = leader.pointer()
    assert pointer.former is not None
    indexes = [
        decode_index(read_place(client, leader.keys, each), "") for each in (pointer.index, pointer.former.index)
    ]
    places = [pointer.index, pointer.former.index, *(chunk.place for index in indexes for chunk in index)]
    assert leader.names(leader.keys.chunks) == sorted({name for each in places for name in names_of(each, leader.keys)})
    leader.end()


def change(storage: JournaledStorage, key: Key, random: Random) -> None:
    """Change a key, or all of them, in the next batch or one with those that follow."""
    if random.random() < 0.3:
        storage.delete(key)
    elif random.random() < 0.005:
        storage.clear()
    else:
        storage.put(key, bytes(random.randrange(1000)))
    if random.random() < 0.7:
        storage.sync()


@pytest.mark.parametrize("noticed_by", ["standby", "leader"])
def test_a_damaged_checkpoint_is_replaced(single: Cluster, client: EtcdClient, noticed_by: str) -> None:
    """As soon as a server reads it, or the leader needs a chunk of it, though no other checkpoint has its chunks."""
    namespace = f"repairs-{next(_numbers)}"
    keys = Keys(namespace_prefix(namespace))
    with ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(single, namespace, options=SMALL_JOURNAL))
        assert leader.leads()
        line = stack.enter_context(closed(leader.connect()))
        line.ok("START", *(f"PUT key{number} {VALUE}" for number in range(KEYS)), "COMMIT")
        leader.wait_for("checkpoint_written", keys=KEYS)
        client.txn([], [delete(name) for name in chunks_of(client, keys)])
        standby = EtcdServer(single, namespace, options=SMALL_JOURNAL)
        if noticed_by == "standby":
            stack.enter_context(standby)
            leader.wait_for("checkpoint_damaged", reason=f"{HOST}:{standby.port} cannot read it")
        else:
            line.ok("START", *(f"PUT key{number} {VALUE}" for number in range(KEYS)), "COMMIT")
            leader.wait_for("checkpoint_failed")
        leader.wait_for("checkpoint_written", 2, keys=KEYS)
        if noticed_by == "leader":
            stack.enter_context(standby)
        assert standby.wait_for("following")["keys"] == KEYS
        leader.kill()
        assert standby.leads()
        with closed(standby.connect()) as line:
            assert all(line.get(f"key{number}") == VALUE for number in range(KEYS))
