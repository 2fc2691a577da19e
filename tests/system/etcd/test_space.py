"""An etcd whose quota is reached, and gets room again."""

import signal
from contextlib import closing as closed
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final

import pytest
import structlog

from kvs.adapters.storage.etcd import space as space_module
from kvs.adapters.storage.etcd.client.answers import Alarm, TxnResult
from kvs.adapters.storage.etcd.client.errors import DeadlineExceededError, EtcdError, NoSpaceError, UnknownOutcomeError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import NOSPACE, absent, delete, prefix_end, put
from kvs.adapters.storage.etcd.space import Space
from tests.support.etcd import Cluster, closing, need_etcd, running_cluster
from tests.support.etcd_leader import Leader
from tests.support.etcd_server import EtcdServer
from tests.support.harness import OK
from tests.support.line_client import Client
from tests.support.waiting import polling

VALUE = bytes(200_000)
IN_FLIGHT = 8


def test_a_full_etcd_says_so_and_has_room_again_after_compaction_and_defragmentation(place: bytes) -> None:
    """What was answered with it may have been applied: only reading tells. Deletes are still possible."""
    need_etcd()
    with running_cluster(flags=["--quota-backend-bytes", str(8 << 20)]) as cluster, closing(cluster.client) as client:
        told: SimpleQueue[tuple[bytes, TxnResult | EtcdError]] = SimpleQueue()
        full: dict[bytes, EtcdError] = {}
        done: set[bytes] = set()
        for number in range(200):
            key = place + b"%03d" % number
            client.submit_txn(
                [absent(key)],
                [put(key, VALUE)],
                [],
                lambda outcome, key=key: told.put((key, outcome)),  # type: ignore[misc]
            )
            if number >= IN_FLIGHT:
                told_key, outcome = told.get(timeout=30)
                if isinstance(outcome, EtcdError):
                    full[told_key] = outcome
                else:
                    done.add(told_key)
            if len(full) > IN_FLIGHT:
                break
        assert {type(error) for error in full.values()} == {NoSpaceError}
        assert all(isinstance(error, UnknownOutcomeError) for error in full.values())
        (alarm,) = client.alarms()
        assert alarm == Alarm(client.members()[0].id, NOSPACE)
        assert client.status(cluster.endpoints[0]).errors

        there = {found.key for found in client.range(place, prefix_end(place), keys_only=True).kvs}
        assert done <= there
        print(f"{len(there - done)} of those answered with NOSPACE were applied")  # noqa: T201

        assert client.txn([], [delete(place, prefix_end(place))]).succeeded
        client.compact(client.range(place).header.revision, physical=True)
        client.defragment(cluster.endpoints[0], timeout_s=30)
        with pytest.raises(NoSpaceError):  # the alarm is still up
            client.txn([], [put(place, b"")])
        assert client.disarm(alarm) == (alarm,)
        assert client.alarms() == ()
        assert client.txn([], [put(place, b"")]).succeeded


QUOTA_BYTES: Final = 16 << 20
QUOTA_FLAGS: Final = ("--quota-backend-bytes", str(QUOTA_BYTES))
TEXT: Final = "x" * 5000


def server_on(cluster: Cluster, *options: str) -> EtcdServer:
    """Return a server that knows the quota."""
    given = (f"quota_bytes={QUOTA_BYTES}", f"max_journal_bytes={1 << 20}", *options)
    return EtcdServer(cluster, "kvs", "--drain-timeout-s", "1", options=given)


def accepted(client: Client, *lines: str) -> int:
    """Send commands together; return how many are accepted: the others are refused as there is no space."""
    client.send(*lines)
    replies = client.replies(len(lines))
    assert all(reply == OK or (reply.get("code") == "limit" and "etcd is full" in reply["mesg"]) for reply in replies)
    return replies.count(OK)


def fill(client: EtcdClient) -> None:
    """Put what is none of the server's until etcd takes no more."""
    for number in range(1000):  # etcd looks at the size of its file a few times a second
        try:
            client.txn([], [put(b"other/%d" % number, VALUE)])
        except NoSpaceError:
            return
    raise AssertionError


def in_etcd(cluster: Cluster) -> tuple[int, tuple[str, ...]]:
    """Return the size of the member's file, and its alarms."""
    with closing(cluster.client) as client:
        status = client.status(cluster.endpoints[0])
        return status.db_size_bytes, status.errors


def test_commits_of_many_times_the_quota_fit() -> None:
    """The journal is cut, and its history forgotten; if etcd is short of space for a moment, writes are refused."""
    need_etcd()
    with running_cluster(flags=QUOTA_FLAGS) as cluster, server_on(cluster) as server:
        assert server.leads()
        with closed(server.connect()) as client:
            written = 0
            for _ in polling("everything is accepted"):
                lines = [f"PUT key{number} {TEXT}" for number in range(100)]
                written += accepted(client, *lines) * len(TEXT)
                if written > 3 * QUOTA_BYTES:
                    break
            client.ok("PUT last 1")
            assert client.info("server")["checkpoint_entry"] > 0
            size, alarms = in_etcd(cluster)
            assert size <= QUOTA_BYTES
            assert alarms == ()
        server.kill()
        server.end()
    print(f"{written} bytes in {len(server.events('checkpoint_written'))} checkpoints; etcd has {size}")  # noqa: T201


def test_writes_are_refused_before_etcd_is_full_and_deletes_make_room() -> None:
    """Deletes are accepted, and what they free is given back, without any other commit."""
    need_etcd()
    with running_cluster(flags=QUOTA_FLAGS) as cluster, server_on(cluster) as server:
        assert server.leads()
        with closed(server.connect()) as client:
            count = refused = 0
            for _ in polling("writes are refused"):
                there = accepted(client, *(f"PUT key{count + number} {TEXT}" for number in range(50)))
                count += there
                refused += 50 - there
                if refused > 1000:
                    break
            assert server.events("etcd_full")
            while keys := client.ask("KEYS")["result"]:
                client.ok(*(f"DEL {key}" for key in keys))
            for _ in polling("writes are accepted"):
                if accepted(client, f"PUT more {TEXT}"):
                    break
            assert in_etcd(cluster)[1] == ()


def test_a_leader_survives_an_etcd_that_somebody_else_has_filled() -> None:
    """A commit under way waits, and is acknowledged once there is room, which the leader makes of what is deleted."""
    need_etcd()
    with running_cluster(flags=QUOTA_FLAGS) as cluster, server_on(cluster) as server, closing(cluster.client) as other:
        assert server.leads()
        with closed(server.connect()) as client:
            client.ok("PUT key 1")
            fill(other)
            client.send("PUT key 2")
            server.wait_for("etcd_full")
            assert other.txn([], [delete(b"other/", b"other0")]).succeeded
            server.wait_for("etcd_has_room")
            first = client.reply()
            assert first in (OK, first | {"code": "limit"})
            client.ok("PUT key 3")
            assert client.ask("GET key")["result"] == "3"
            assert in_etcd(cluster)[1] == ()
        assert server.exit_code is None


def test_a_server_that_ends_waits_for_no_room() -> None:
    """Not longer than for any commit, if nobody makes room: with ``compact=none`` that is an operator's task."""
    need_etcd()
    options = ("compact=none", "commit_timeout_s=1")
    with running_cluster(flags=QUOTA_FLAGS) as cluster, server_on(cluster, *options) as server:
        assert server.leads()
        with closed(server.connect()) as client, closing(cluster.client) as other:
            fill(other)
            client.send("PUT key 2")
            server.wait_for("etcd_full")
            assert other.txn([], [delete(b"other/", b"other0")]).succeeded
            server.send_signal(signal.SIGTERM)
            assert server.wait_exit() in (0, 1)
            assert [reply["code"] for reply in client.rest()] in ([], ["limit"], ["outcome_unknown"])
        assert in_etcd(cluster)[1] != ()


def space_of(leader: Leader) -> Space:
    """Return what looks after the space, without its thread."""
    log = structlog.get_logger()
    return Space(leader.steps, leader.checkpoints, QUOTA_BYTES, lambda _: None, log, compacts=True)


@pytest.mark.parametrize("failing", ["compact", "defragment"])
def test_what_makes_room_is_done_again_if_it_fails(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when it takes too long, or its member has been restarted; another time it works."""
    need_etcd()
    monkeypatch.setattr(space_module, "FIRST_RECOVERY_S", 0.0)
    monkeypatch.setattr(space_module, "LONGEST_RECOVERY_S", 0.0)
    with running_cluster(flags=QUOTA_FLAGS) as cluster, closing(cluster.client) as client:
        leader = Leader(client, b"kvs/")
        fill(client)
        client.txn([], [delete(b"other/", b"other0")])
        real = getattr(client, failing)
        failures: list[object] = []

        def fail_once(*args: Any, **options: Any) -> object:
            if failures:
                return real(*args, **options)
            failures.append(args)
            if failing == "compact":
                real(*args, **options)
            raise DeadlineExceededError("planted")

        monkeypatch.setattr(client, failing, fail_once)
        space = space_of(leader)
        for _ in polling("etcd has room"):
            with suppress(DeadlineExceededError):
                space.look()
            if not client.alarms():
                break
        assert failures
        leader.end()


def test_who_leads_no_more_forgets_no_history(client: EtcdClient, place: bytes) -> None:
    """A successor may be reading it."""
    leader = Leader(client, place)
    space = space_of(leader)
    leader.end()
    client.txn([], [put(place + b"other", b"")])
    leader.checkpoints.forgettable = client.range(place).header.revision
    client.txn([], [put(place + b"other", b"")])
    space._compacted_s -= 1000
    space.look()
    assert leader.lead.lost
    assert client.range(place + b"other", revision=leader.checkpoints.forgettable - 1) is not None
