"""What a server logs while it cannot use etcd."""

from collections.abc import Iterator
from itertools import cycle
from threading import Event
from typing import TYPE_CHECKING, Final, Never, cast

import pytest
import structlog
from structlog.testing import capture_logs

from kvs.adapters.storage.etcd import follower as follower_module
from kvs.adapters.storage.etcd.client.endpoints import Endpoint
from kvs.adapters.storage.etcd.client.errors import ConnectionLostError, DeadlineExceededError, EtcdError, NotSentError
from kvs.adapters.storage.etcd.complaints import Complaints
from kvs.adapters.storage.etcd.election import Election
from kvs.adapters.storage.etcd.follower import Follower
from kvs.adapters.storage.etcd.layout import Keys, LeaderRecord
from tests.support.etcd_leader import skew, topology

if TYPE_CHECKING:
    from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
    from kvs.adapters.storage.etcd.replica import Replica

MEMBERS: Final = (Endpoint("etcd-1", 2379), Endpoint("etcd-10", 2379), Endpoint("::1", 2379))


@pytest.fixture
def complaints() -> Complaints:
    """Return what has been logged: nothing."""
    return Complaints(MEMBERS)


def test_the_same_trouble_is_logged_once_whichever_member_it_names(complaints: Complaints) -> None:
    """With the name of the first."""
    reasons = [complaints.reason(ConnectionLostError(f"{member}: turned to another member")) for member in MEMBERS]
    assert reasons == ["ConnectionLostError: etcd-1:2379: turned to another member", "", ""]
    assert complaints.reason(NotSentError("the certificate is not for 'etcd-10'"))
    assert not complaints.reason(NotSentError("the certificate is not for 'etcd-1'"))


def test_each_kind_is_logged_though_they_take_turns(complaints: Complaints) -> None:
    """Once: two that alternate are not new each time."""
    errors = [NotSentError("etcd-1:2379: refused"), NotSentError("no answer"), DeadlineExceededError("no answer")]
    assert [bool(complaints.reason(error)) for error in errors * 2] == [True] * 3 + [False] * 3


def test_what_fails_after_it_has_worked_is_another_trouble(complaints: Complaints) -> None:
    """So it is logged again."""
    error = DeadlineExceededError("no answer")
    assert complaints.reason(error) == "DeadlineExceededError: no answer"
    complaints.over()
    assert complaints.reason(error) == "DeadlineExceededError: no answer"


def test_without_members_texts_are_compared_as_they_are() -> None:
    """Nothing is cut out of them."""
    complaints = Complaints()
    assert [bool(complaints.reason(NotSentError(text))) for text in ("a", "b", "a")] == [True, True, False]


def outage() -> Iterator[EtcdError]:
    """Return what a client raises while two of three members stand still, for ever."""
    return cycle(ConnectionLostError(f"{member}: turned to another member") for member in MEMBERS)


class Gone:
    """In place of a client of etcd, or of a replica: it fails as they do in an outage, but for its sixth call.

    Attributes:
        over: Set after so many calls that a flood would be seen.
    """

    def __init__(self) -> None:
        self.over = Event()
        self.errors = outage()
        self.calls = 0

    def advance(self) -> bool:
        """Fail as a replica; or have read all that there is."""
        self.calls += 1
        if self.calls >= 10:
            self.over.set()
        if self.calls == 6:
            return False
        raise next(self.errors)

    def txn(self, *_: object) -> Never:
        """Fail as a client."""
        self.calls += 1
        raise next(self.errors)


def test_a_standby_that_cannot_read_says_so_once_for_each_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are two: in between it has read."""
    monkeypatch.setattr(follower_module, "RETRY_S", 0)
    monkeypatch.setattr(follower_module, "LOOK_S", 0)
    monkeypatch.setattr(Follower, "_announce", lambda *_: None)
    gone = Gone()
    with capture_logs() as logs:
        follower = Follower(cast("Replica", gone), lambda: None, Complaints(MEMBERS), structlog.get_logger())
        assert gone.over.wait(20)
        follower.close()
    assert [event["event"] for event in logs] == ["not_following"] * 2


class _EndedError(Exception):
    """Raised when the election has been tried often enough."""


def test_a_server_that_waits_for_the_lead_says_once_that_etcd_is_away() -> None:
    """Also when it stands anew meanwhile."""
    complaints = Complaints(MEMBERS)
    client = cast("EtcdClient", Gone())
    with capture_logs() as logs:
        for _ in range(2):
            sleeps = iter(range(5))

            def sleep(_: float, sleeps: Iterator[int] = sleeps) -> None:
                if next(sleeps, None) is None:
                    raise _EndedError

            election = Election(
                client,
                Keys(b"kvs/"),
                LeaderRecord("a", "127.0.0.1", 1),
                2,
                skew(),
                topology(),
                sleep,
                lambda _: None,
                complaints,
                structlog.get_logger(),
            )
            with pytest.raises(_EndedError):
                election.win()
    assert [event["event"] for event in logs] == ["etcd_unavailable"]
