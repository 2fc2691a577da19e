"""The port of engines of which several servers have one data set, and one of them leads.

A server that stands by *waits* for the lead, and relays its clients to the leader meanwhile; once it leads, it serves
with the engine's storage, until it loses the lead, and then waits again.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from mypy_extensions import mypyc_attr

from kvs.ports.storage import Storage
from kvs.ports.topology import Topology

if TYPE_CHECKING:
    from kvs.ports.users import SharedUsers


class LeadLostError(Exception):
    """Raised by a storage when this server does not lead any more: another may have changed everything."""


class Leader(NamedTuple):
    """Who leads.

    Attributes:
        host: Where other servers reach it.
        port: The port there.
        term: Its term, an increasing number.
        tls: Whether it requires TLS there.
        admits: Whether it tells a standby that a relay is admitted; older versions do not.
    """

    host: str
    port: int
    term: int
    tls: bool = False
    admits: bool = False


@mypyc_attr(allow_interpreted_subclasses=True)
class Candidate(ABC):
    """A server that may come to lead.

    Args:
        topology: The servers, as far as this one knows them.

    Attributes:
        users: The users that the servers share, known before :attr:`leader` and :attr:`storage`; None: they share none.
        secret: What the servers of one data set have in common, and nobody else knows. Set once :meth:`wait` has
            reached the others.
        term: The term of this server's lead, once :meth:`wait` has returned.
        wall_clock: Seconds since 1970; may be set before :meth:`wait`.
        clock: Monotonic seconds, likewise. For the server's time, not for rights.
    """

    def __init__(self, topology: Topology) -> None:
        self.topology: Final = topology
        self.users: SharedUsers | None = None
        self.secret = ""
        self.term = 0
        self.wall_clock: Callable[[], float] = time.time
        self.clock: Callable[[], float] = time.monotonic

    @property
    @abstractmethod
    def leader(self) -> Leader | None:
        """Who leads, as far as is known; None: nobody, or it is not known. Must not block."""

    @abstractmethod
    def when_leader_changes(self, changed: Callable[[], None]) -> None:
        """Have a function called, by any thread, whenever :attr:`leader` may be another."""

    @abstractmethod
    def wait(self) -> None:
        """Wait until this server leads and has the data, or until :meth:`stop`. By a thread of its own.

        Raises:
            CommandError: It can never lead, such as for want of access.
        """

    @abstractmethod
    def stop(self) -> None:
        """Have :meth:`wait` return. By any thread."""

    @property
    @abstractmethod
    def storage(self) -> Storage | None:
        """The storage of this server's lead; None before it leads."""

    def cut_off(self) -> None:  # noqa: B027  # nothing to do, by default
        """Give up unconfirmed commits; their clients get ``outcome_unknown``. Called by the loop."""

    @abstractmethod
    def close(self) -> None:
        """Give the lead up, if it is held, and release everything."""

    @abstractmethod
    def again(self) -> "Candidate":
        """Return a candidate for the next turn of this server, when this one is closed.

        It knows nothing of the data, but it goes on where a server that starts would give up, such as without access.
        """
