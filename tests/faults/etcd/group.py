"""Servers of one namespace, each kept running, and each behind proxies of its own to the members of etcd."""

import signal
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

from tests.support.consistency.connections import Address
from tests.support.etcd import Cluster
from tests.support.etcd_server import HOST, EtcdServer
from tests.support.launcher import KVS
from tests.support.proxy import Proxy
from tests.support.waiting import TIMEOUT_S, polling

LOOK_S: Final = 0.05


class Seat:
    """A place for a server: when its process ends, another begins, as a supervisor has it.

    Args:
        cluster: Where the data are.
        namespace: Of the keys.
        command: What runs kvs.
        options: Options of the engine.

    Attributes:
        to_members: The proxies to the members, in their order.
        from_clients: The proxy of its clients.
        servers: All processes so far; the last is that of now.
    """

    def __init__(self, cluster: Cluster, namespace: str, command: Sequence[str], options: Sequence[str]) -> None:
        self.to_members = [Proxy(member.client_port) for member in cluster.members]
        self.from_clients = Proxy()
        self.servers: list[EtcdServer] = []
        self._cluster = cluster
        self._namespace = namespace
        self._command = command
        self._options = options

    @property
    def server(self) -> EtcdServer:
        """The process of now."""
        return self.servers[-1]

    def start(self) -> None:
        """Start a process."""
        endpoints = ",".join(f"{HOST}:{proxy.port}" for proxy in self.to_members)
        server = EtcdServer(
            self._cluster, self._namespace, options=self._options, endpoints=endpoints, command=self._command
        )
        server.start()
        self.servers.append(server)

    def replace(self, command: Sequence[str]) -> None:
        """Have what runs kvs replaced, stop the process in an orderly way, and wait until the next one stands by."""
        self._command = command
        former = self.server
        former.send_signal(signal.SIGTERM)
        for _ in polling("another process stands by"):
            if self.server is not former and self.server.events("standing_by"):
                break

    def cut_off(self) -> None:
        """Let nothing through between this server and etcd."""
        for proxy in self.to_members:
            proxy.hold()

    def deafen(self) -> None:
        """Let nothing through that etcd answers to this server."""
        for proxy in self.to_members:
            proxy.hold(requests=False)

    def join(self) -> None:
        """Let through everything, also what was held back."""
        for proxy in (*self.to_members, self.from_clients):
            proxy.let_go()

    def close(self) -> None:
        """End everything."""
        self.server.end()
        for proxy in (*self.to_members, self.from_clients):
            proxy.close()


class Group:
    """The servers; see the module docstring. Use it as a context manager.

    Args:
        cluster: Where the data are.
        namespace: Of the keys, which no other test uses.
        size: The number of servers.
        command: What runs kvs.
        options: Options of the engine.
        through_proxies: Whether clients reach servers through a proxy.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        size: int = 3,
        command: Sequence[str] = KVS,
        *,
        options: Sequence[str] = (),
        through_proxies: bool = False,
    ) -> None:
        self.namespace: Final = namespace
        self.seats: Final = [Seat(cluster, namespace, command, options) for _ in range(size)]
        self._through_proxies = through_proxies
        self._ending = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)

    def __enter__(self) -> Self:
        for seat in self.seats:
            seat.start()
        self._supervisor.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ending.set()
        self._supervisor.join(TIMEOUT_S)
        for seat in self.seats:
            seat.close()

    def addresses(self) -> list[Address]:
        """Return where clients reach the servers, if one leads: those that stand by relay clients to it."""
        found: list[Address] = []
        if self._last_leader() is None:
            return found
        for seat in self.seats:
            listening = seat.servers[-1].events("standing_by") if seat.servers else []
            if listening and self._through_proxies:
                seat.from_clients.target_port = int(listening[0]["port"])
                found.append((HOST, seat.from_clients.port))
            elif listening:
                found.append((HOST, int(listening[0]["port"])))
        return found

    def leader(self) -> Seat:
        """Wait until a server leads, and return it."""
        return self.leader_after(0)

    def leader_after(self, term: int) -> Seat:
        """Wait until a server leads in a later term, and return it."""
        for _ in polling(f"a server leads after term {term}"):
            seat = self._last_leader()
            if seat is not None and seat.server.term > term:
                return seat
        raise AssertionError

    def replaced(self, strike: Callable[[Seat], None]) -> tuple[Seat, EtcdServer]:
        """Do something to the leader, wait until another leads, and return where the former one is, and its process."""
        seat = self.leader()
        server, term = seat.server, seat.server.term
        strike(seat)
        self.leader_after(term)
        return seat, server

    def _last_leader(self) -> Seat | None:
        serving = [seat for seat in self.seats if seat.server.term and seat.server.exit_code is None]
        return max(serving, key=lambda seat: seat.server.term, default=None)

    def _supervise(self) -> None:
        while not self._ending.wait(LOOK_S):
            for seat in self.seats:
                if seat.server.exit_code is not None:
                    seat.server.end()
                    seat.start()
