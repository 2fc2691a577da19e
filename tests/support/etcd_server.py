"""A server of kvs whose data are in etcd."""

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from kvs.adapters.storage.etcd.client.endpoints import namespace_prefix
from kvs.adapters.storage.etcd.client.requests import delete
from kvs.adapters.storage.etcd.layout import Keys
from tests.support.etcd import Cluster, Member, closing
from tests.support.launcher import KVS, LoggedProcess
from tests.support.line_client import Client


class EtcdServer(LoggedProcess):
    """A ``python -m kvs`` process. Use it as a context manager: it is killed on every way out.

    Args:
        cluster: Where its data are.
        namespace: Of the keys.
        flags: Further flags.
        options: Options of the engine, as ``name=value``.
        members: The members it knows; all by default.
        endpoints: Where it reaches them, if not directly.
        command: What runs kvs.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        *flags: str,
        options: Sequence[str] = (),
        members: Sequence[Member] = (),
        endpoints: str = "",
        command: Sequence[str] = KVS,
    ) -> None:
        endpoints = endpoints or ",".join(str(member.endpoint) for member in members or cluster.members)
        given = [f"endpoints={endpoints}", f"namespace={namespace}", *options]
        flags = ("--storage", "etcd", *(word for each in given for word in ("--storage-option", each)), *flags)
        super().__init__([*command, "--port", "0", "--log-format", "json", *flags])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.end()

    def leads(self) -> bool:
        """Wait until it serves; return False if it ends before."""
        return self.wait_for_any(("listening",)) is not None

    def stands_by(self) -> None:
        """Wait until it knows that another leads."""
        self.wait_for("standby")

    @property
    def port(self) -> int:
        """Where it listens, whether it leads or stands by."""
        return int(self.wait_for("standing_by")["port"])

    @property
    def term(self) -> int:
        """The term in which it serves; 0: it does not lead now."""
        leading, serving = self.events("leading"), self.events("listening")
        if len(leading) == len(serving) > len(self.events("lead_lost")):
            return int(leading[-1]["term"])
        return 0

    def connect(self) -> Client:
        """Return a client, which the caller closes."""
        return Client(HOST, self.port)


def vacate(cluster: Cluster, namespace: str) -> None:
    """Take the lead from whoever has it, as the end of its lease does."""
    with closing(cluster.client) as client:
        client.txn([], [delete(Keys(namespace_prefix(namespace)).leader)])


HOST: Final = "127.0.0.1"
