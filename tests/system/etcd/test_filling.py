"""``kvs load --into-empty-namespace``: all of a dump, or nothing, before any server serves."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final, cast

import pytest

from kvs.adapters.storage.etcd.client.endpoints import namespace_prefix
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import put
from kvs.adapters.storage.etcd.filling import EmptyNamespace
from kvs.adapters.storage.etcd.layout import Keys
from kvs.adapters.storage.etcd.lead import Lead
from kvs.dump.format import HEADER, entry_line, trailer_line
from kvs.engine import StorageOpenError
from kvs.logs import make_logger
from kvs.ports.candidate import LeadLostError
from tests.support.dumps import Run, dump_of, run_kvs, told
from tests.support.etcd import HOST, Cluster
from tests.support.etcd_leader import KilledError, MortalClient, read
from tests.support.etcd_server import EtcdServer

DATA: Final = {b"%05d" % number: b"v" * 5_000 for number in range(500)} | {b"\xff": b"", b"large": bytes(2_000_000)}
LITTLE: Final = {b"%d" % number: b"v" * 50_000 for number in range(8)}
QUOTA_BYTES: Final = 2 << 30
LEASE_S: Final = 30
WITH_A_DEADLINE: Final = b'{"key":"gone","value":"1","deadline_ms":1}\n'

_numbers: Final = count()


@pytest.fixture
def namespace() -> str:
    """Return a namespace that no other test uses."""
    return f"filling-{next(_numbers)}"


def load(cluster: Cluster, namespace: str, dump: bytes, *more: str) -> Run:
    """Run the command."""
    options = [f"endpoints={cluster.addresses}", f"namespace={namespace}"]
    given = [word for each in options for word in ("--storage-option", each)]
    return run_kvs("load", "--into-empty-namespace", "--storage", "etcd", *given, *more, given=dump)


def test_everything_is_there_when_the_first_server_leads(single: Cluster, namespace: str) -> None:
    """What has expired is not; and servers go on from there, one after the other."""
    dump = dump_of(DATA)[: -len(trailer_line(len(DATA)))] + WITH_A_DEADLINE + trailer_line(len(DATA) + 1)
    ran = load(single, namespace, dump)
    assert (ran.returncode, ran.stderr) == (0, b"kvs: loaded 502 entries; skipped 1 that had expired\n")
    for turn in range(2):
        with EtcdServer(single, namespace) as server:
            assert server.leads()
            assert server.wait_for("leading")["keys"] == len(DATA) + turn
            with closing(server.connect()) as client:
                assert client.get("00042") == "v" * 5000
                client.ok("PUT later 1")


def test_what_is_not_empty_is_left_alone(single: Cluster, client: EtcdClient, namespace: str) -> None:
    """Whether it has a checkpoint or entries of a journal only."""
    prefix = namespace_prefix(namespace)
    assert load(single, namespace, dump_of({b"a": b"1"})).returncode == 0
    before = client.range(prefix, prefix + b"\xff").kvs
    ran = load(single, namespace, dump_of({b"b": b"1"}))
    assert f"etcd: {namespace}/: is not empty; nothing was changed" in told(ran)
    after = client.range(prefix, prefix + b"\xff").kvs
    assert {each.key: each.value for each in before if not each.key.endswith(b"alive")} == {
        each.key: each.value for each in after if not each.key.endswith(b"alive")
    }
    with EtcdServer(single, namespace + "-entries") as server:
        assert server.leads()
        with closing(server.connect()) as line:
            line.ok("PUT a 1")
        assert server.stop() == 0
    assert "is not empty" in told(load(single, namespace + "-entries", dump_of({b"b": b"1"})))


def test_where_a_server_leads_nothing_is_loaded(single: Cluster, namespace: str) -> None:
    """It is named."""
    with EtcdServer(single, namespace) as server:
        assert server.leads()
        assert f"the server {HOST}:{server.port} leads there" in told(load(single, namespace, dump_of({b"a": b"1"})))
        with closing(server.connect()) as client:
            assert client.get("a") is None


@pytest.mark.parametrize(
    ("more", "dump", "said"),
    [
        ((), HEADER + entry_line(b"a", b"1") + b"{}\n", "line 3"),
        ((), dump_of({b"a": b"1"})[:-5], "line 3"),
        (("--max-value-bytes", "10"), dump_of({b"a": b"1" * 11}), "max_value_bytes is 10"),
        (("--storage-option", "quota_bytes=1MiB"), dump_of(DATA), "there must be room for 4 times that"),
    ],
    ids=["line", "cut", "long", "much"],
)
def test_what_is_wrong_in_a_pipe_leaves_the_namespace_empty(
    single: Cluster, client: EtcdClient, namespace: str, more: tuple[str, ...], dump: bytes, said: str
) -> None:
    """Though it is found in the middle of it."""
    message = told(load(single, namespace, dump, *more))
    assert said in message
    assert "nothing was loaded" in message
    assert read(client, namespace_prefix(namespace)) == {}
    assert load(single, namespace, dump_of({b"a": b"1"})).returncode == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--storage", "sqlite"), "only 'etcd' has namespaces, not 'sqlite'"),
        (("--storage", "etcd", "--port", "4000"), "--port names another target"),
        (("--storage", "etcd", "--data-dir", "x"), "--data-dir names another target"),
        (("--storage", "etcd", "--storage-option", "namespace=a/b"), "storage.etcd.namespace"),
    ],
)
def test_wrong_flags_are_refused(flags: tuple[str, ...], said: str) -> None:
    """Before etcd is asked."""
    assert said in told(run_kvs("load", "--into-empty-namespace", *flags), 2)


@pytest.mark.parametrize("command", ["dump", "load"])
def test_a_namespace_is_no_data_directory(tmp_path: Path, command: str) -> None:
    """And no command waits for the lead."""
    ran = run_kvs(command, "--storage", "etcd", "--data-dir", str(tmp_path))
    assert "engine 'etcd' keeps nothing in a data directory" in told(ran, 2)


class Filler:
    """Fills a namespace in this process.

    Args:
        client: Calls etcd.
        place: The namespace, as a prefix of keys.
        mortal: Makes the calls, if it is another.
    """

    def __init__(self, client: EtcdClient, place: bytes, mortal: MortalClient | None = None) -> None:
        self.keys = Keys(place)
        self.client = client
        lease = client.grant(LEASE_S).id
        term = client.txn([], [put(self.keys.leader, b"{}", lease)]).header.revision
        self.lead = Lead(self.keys, "a", term, lease, LEASE_S)
        log = make_logger("warning", "json", sys.stderr)
        self.namespace = EmptyNamespace(cast("Any", mortal or client), self.keys, self.lead, 1, QUOTA_BYTES, log)

    def fill(self, data: Mapping[bytes, bytes] = DATA) -> None:
        """Fill it."""
        for key, value in data.items():
            self.namespace.put(key, value)
        self.namespace.finish()

    def end(self) -> None:
        """End as a process does that is killed, and whose lease has ended."""
        self.client.revoke(self.lead.lease)


@pytest.fixture(params=[False, True], ids=["before", "after"])
def after(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Return whether a call is made at which the process is killed."""
    return request.param  # type: ignore[no-any-return]


def test_who_is_killed_at_any_step_has_stored_all_or_nothing(client: EtcdClient, place: bytes, after: bool) -> None:
    """And what it has left behind is gone when another has filled it."""
    ends: list[int] = []
    for calls in count(1):  # the first is the look whether it is empty
        here = place + b"%d/" % calls
        filler = Filler(client, here, MortalClient(client, calls, after=after))
        with suppress(KilledError):
            filler.fill(LITTLE)
            break
        filler.end()
        found = read(client, here)
        assert found in ({}, LITTLE)
        ends.append(len(found))
        if not found:
            filler = Filler(client, here)
            filler.fill(LITTLE)
            filler.end()
            assert read(client, here) == LITTLE
            left = client.range(filler.keys.chunks, filler.keys.end(filler.keys.chunks), keys_only=True).kvs
            assert {int(each.key.split(b"/")[-2]) for each in left} == {filler.lead.term}
    assert ends == sorted(ends)
    assert ends.count(0) >= 3
    assert ends.count(len(LITTLE)) >= 2


def test_who_has_lost_the_lead_stores_nothing(client: EtcdClient, place: bytes) -> None:
    """Another one has it."""
    filler = Filler(client, place)
    filler.end()
    other = Filler(client, place)
    with pytest.raises(LeadLostError, match="another server has taken it"):
        filler.fill()
    assert read(client, place) == {}
    other.fill()
    with pytest.raises(StorageOpenError, match="is not empty"):
        Filler(client, place)
