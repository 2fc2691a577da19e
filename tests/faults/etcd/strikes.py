"""What can happen to servers and members. Each is done in full: what it has broken works again, or has a successor."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, TypeAlias

from kvs.adapters.storage.etcd.client.errors import EtcdError
from kvs.adapters.storage.etcd.client.requests import put
from tests.faults.etcd.group import Group, Seat
from tests.faults.strace import stuck_disk
from tests.support.etcd import Cluster, Member, closing
from tests.support.etcd_server import EtcdServer
from tests.support.waiting import polling

Strike: TypeAlias = Callable[[Group, Cluster], None]

BEATS: Final = 6
"""Heartbeats that are awaited where time has to pass: longer than a lease."""


def _signalled(number: signal.Signals) -> Callable[[Seat], None]:
    return lambda seat: seat.server.send_signal(number)


# The leader.


def leader_killed(group: Group, _: Cluster) -> None:
    """The process of the leader ends at once."""
    group.replaced(_signalled(signal.SIGKILL))


def leader_terminated(group: Group, _: Cluster) -> None:
    """It is stopped as an administrator does it."""
    group.replaced(_signalled(signal.SIGTERM))


def leader_stopped(group: Group, _: Cluster) -> None:
    """It stands still until another leads, and goes on."""
    server = group.replaced(_signalled(signal.SIGSTOP))[1]
    with _losing(server):
        server.send_signal(signal.SIGCONT)


def leader_hung(group: Group, _: Cluster) -> None:
    """Its loop does so, while its other threads run."""
    server = group.replaced(_signalled(signal.SIGUSR2))[1]
    with _losing(server):
        server.send_signal(signal.SIGUSR1)


def leader_hung_for_a_moment(group: Group, cluster: Cluster) -> None:
    """Its loop hangs for the time of a heartbeat or two, and it may keep the lead."""
    server = group.leader().server
    server.send_signal(signal.SIGUSR2)
    _wait_for_writes(group, cluster, b"alive", 1)
    server.send_signal(signal.SIGUSR1)


# The network.


def leader_cut_off(group: Group, _: Cluster) -> None:
    """What it has sent arrives when another leads."""
    seat, server = group.replaced(Seat.cut_off)
    with _losing(server):
        seat.join()


def leader_cut_off_for_good(group: Group, _: Cluster) -> None:
    """What it has sent is lost."""
    seat = group.replaced(Seat.cut_off)[0]
    for proxy in seat.to_members:
        proxy.cut()
    seat.join()


def leader_not_answered(group: Group, _: Cluster) -> None:
    """What it sends arrives, and it hears nothing any more."""
    seat = group.replaced(Seat.deafen)[0]
    seat.join()


def answer_lost(group: Group, cluster: Cluster) -> None:
    """An append is applied, and nobody tells the leader."""
    seat = group.leader()
    seat.deafen()
    _wait_for_writes(group, cluster, b"head", 1)
    for proxy in seat.to_members:
        proxy.cut()
    seat.join()


def leader_cut_off_from_clients(group: Group, cluster: Cluster) -> None:
    """They reach it no more, and it keeps the lead."""
    seat = group.leader()
    seat.from_clients.hold()
    _wait_for_writes(group, cluster, b"alive", BEATS)
    seat.from_clients.let_go()


# The members.


def etcd_leader_killed(_: Group, cluster: Cluster) -> None:
    """The members elect another."""
    member = cluster.leader()
    member.kill()
    cluster.leader()
    member.restart()


def etcd_leader_stopped(_: Group, cluster: Cluster) -> None:
    """Its connections stay open, and it answers nothing."""
    with _paused(cluster):
        pass


def etcd_leader_stopped_under_the_leader(group: Group, cluster: Cluster) -> None:
    """The leader reaches no other member."""
    seat = group.leader()
    term = seat.server.term
    member = cluster.leader()
    for proxy in seat.to_members:
        if proxy.target_port != member.client_port:
            proxy.hold()
            proxy.cut()
    with _paused(cluster, member):
        group.leader_after(term)
    seat.join()


def etcd_leader_stuck(group: Group, cluster: Cluster) -> None:
    """It hangs in fdatasync, and goes on answering what it can by itself; all servers are connected to it."""
    member = cluster.leader()
    for seat in group.seats:
        _confine(seat, member)
    _wait_for_writes(group, cluster, b"alive", 1)
    for seat in group.seats:
        _release(seat, cluster)
    with _stuck(cluster, member):
        _wait_for_writes(group, cluster, b"alive", 1)


def etcd_leader_stuck_under_the_leader(group: Group, cluster: Cluster) -> None:
    """The leader reaches no other member."""
    seat = group.leader()
    term = seat.server.term
    member = cluster.leader()
    _confine(seat, member)
    with _stuck(cluster, member):
        group.leader_after(term)
    _release(seat, cluster)


def both_leaders_killed(group: Group, cluster: Cluster) -> None:
    """Of kvs and of etcd, at the same moment."""
    member = cluster.leader()

    def kill(seat: Seat) -> None:
        seat.server.send_signal(signal.SIGKILL)
        member.kill()

    group.replaced(kill)
    member.restart()


def member_gone(_: Group, cluster: Cluster) -> None:
    """For good: until the end of the test."""
    running = [member for member in cluster.members if member.running]
    if len(running) == len(cluster.members):
        running[0].kill()


def majority_gone_for_a_while(_: Group, cluster: Cluster) -> None:
    """Two of three members end, and come back."""
    gone = cluster.members[:2]
    for member in gone:
        member.kill()
    restart(gone)


def etcd_restarted(_: Group, cluster: Cluster) -> None:
    """All members end, and come back."""
    for member in cluster.members:
        member.kill()
    restart(cluster.members)


STRIKES: Final[Sequence[Strike]] = (
    leader_killed,
    leader_terminated,
    leader_stopped,
    leader_hung,
    leader_hung_for_a_moment,
    leader_cut_off,
    leader_cut_off_for_good,
    leader_not_answered,
    answer_lost,
    leader_cut_off_from_clients,
    etcd_leader_killed,
    etcd_leader_stopped,
    etcd_leader_stopped_under_the_leader,
    etcd_leader_stuck,
    etcd_leader_stuck_under_the_leader,
    both_leaders_killed,
    member_gone,
    majority_gone_for_a_while,
    etcd_restarted,
)

STUCK: Final = (etcd_leader_stuck, etcd_leader_stuck_under_the_leader)
"""Those that need strace."""


def restart(members: Sequence[Member]) -> None:
    """Start members again, all at once, as none serves before there is a majority."""
    for member in members:
        member.end()
        member.launch(member.flags)
    for member in members:
        assert member.wait_serving(), member.log.decode(errors="replace")


@contextmanager
def _losing(server: EtcdServer) -> Iterator[None]:
    """Do something, and wait until a server knows that it does not lead."""
    losses = len(server.events("leading"))
    yield
    server.wait_for("lead_lost", losses)


@contextmanager
def _paused(cluster: Cluster, member: Member | None = None) -> Iterator[None]:
    """Pause etcd's leader until the others have one."""
    member = member or cluster.leader()
    others = _others(cluster, member)
    member.pause()
    try:
        with closing(lambda: cluster.client(others)) as client:
            for _ in polling("the others have a leader"):
                with suppress(EtcdError):
                    client.range(b"anything")
                    break
        yield
    finally:
        member.resume()


@contextmanager
def _stuck(cluster: Cluster, member: Member) -> Iterator[None]:
    """Have etcd's leader hang in its next sync, and wait until the others have another leader."""
    others = _others(cluster, member)
    with closing(lambda: cluster.client(others)) as client, stuck_disk(member.pid):
        stuck = client.status(others[0].endpoint).leader
        for _ in polling("the others have another leader"):
            with suppress(EtcdError):
                client.txn([], [put(b"anything", b"")])  # without a write, it does not hang
                if client.status(others[0].endpoint).leader not in (0, stuck):
                    break
        yield


def _others(cluster: Cluster, member: Member) -> list[Member]:
    return [each for each in cluster.members if each is not member and each.running]


def _confine(seat: Seat, member: Member) -> None:
    """Let a server reach one member alone."""
    for proxy in seat.to_members:
        if proxy.target_port != member.client_port:
            proxy.target_port = 0
            proxy.cut()


def _release(seat: Seat, cluster: Cluster) -> None:
    """Let a server reach all members."""
    for proxy, member in zip(seat.to_members, cluster.members, strict=True):
        proxy.target_port = member.client_port


def _wait_for_writes(group: Group, cluster: Cluster, name: bytes, count: int) -> None:
    """Wait until a key of the namespace has been written so many times."""
    key = group.namespace.encode() + b"/" + name
    with closing(cluster.client) as client:
        before: int | None = None
        for _ in polling(f"{name!r} is written"):
            with suppress(EtcdError):
                found = client.range(key).kvs
                version = found[0].version if found else 0
                before = version if before is None else before
                if version >= before + count:
                    return
