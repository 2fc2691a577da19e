"""TLS with certificates of clients, users, passwords and tokens."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvs.adapters.storage.etcd.client.endpoints import Endpoint, tls_context
from kvs.adapters.storage.etcd.client.errors import AccessDeniedError, EtcdError, NotSentError, RefusedError
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import get, put
from kvs.adapters.storage.etcd.client.wire import bytes_field
from tests.support.etcd import (
    ROOT_PASSWORD,
    Certificates,
    Cluster,
    call_admin,
    closing,
    need_etcd,
    read_only_role,
    running_cluster,
)
from tests.support.etcd_stub import Peer, Stub
from tests.support.waiting import TIMEOUT_S

PASSWORD = "pässword, 100 % of it"  # noqa: S105


@pytest.fixture(scope="module")
def secured() -> Iterator[Cluster]:
    """Return a member that wants certificates, and users who tell their names; tokens live for a second."""
    need_etcd()
    flags = ["--auth-token-ttl", "1", "--bcrypt-cost", "4", "--log-level", "debug"]  # 3.5 tells of tokens there only
    with running_cluster(tls=True, flags=flags) as cluster:
        cluster.enable_auth({"kvs": PASSWORD})
        yield cluster


@pytest.fixture
def client(secured: Cluster) -> Iterator[EtcdClient]:
    """Return a client that has told its name."""
    with closing(lambda: secured.client(user="kvs", password=PASSWORD)) as made:
        yield made


def test_calls_and_watches_are_made_with_a_token(client: EtcdClient, place: bytes) -> None:
    """Which is asked for first."""
    watch = client.watch(place)
    revision = client.txn([], [put(place, b"x" * 1_000_000)]).header.revision
    changes = watch.next(TIMEOUT_S)
    watch.close()
    assert changes is not None
    assert changes.revision == revision
    assert client.range(place).kvs[0].value == b"x" * 1_000_000


def test_a_token_that_has_expired_is_renewed_unnoticed(client: EtcdClient, secured: Cluster, place: bytes) -> None:
    """By calls of either kind, and by watches."""
    for use in (lambda: client.txn([], [put(place, b"")]), lambda: client.watch(place).close()):
        use()
        token = client._auth.token
        secured.members[0].forget_log()
        while secured.members[0].wait_for("deleted a simple token", token=token)["token"] != token:
            pass
        use()
        assert client._auth.token != token


def test_a_change_of_users_is_met_by_another_token(client: EtcdClient, secured: Cluster, place: bytes) -> None:
    """It ends the tokens of that user."""
    client.range(place)
    token = client._auth.token
    with closing(lambda: secured.client(user="root", password=ROOT_PASSWORD)) as root:
        said = bytes_field(1, b"kvs") + bytes_field(2, PASSWORD.encode())
        call_admin(root, "UserChangePassword", said)
        assert client.txn([], [get(place)]).succeeded
        assert client._auth.token != token
        read_only_role(root, "reader", "r", b"readable/")
    with closing(lambda: secured.client(user="reader", password="r")) as reader:  # noqa: S106
        assert not reader.range(b"readable/a").kvs
        with pytest.raises(AccessDeniedError, match="permission denied"):
            reader.txn([], [put(b"readable/a", b"")])
        with pytest.raises(AccessDeniedError, match="permission denied"):
            reader.watch(place)


@pytest.mark.parametrize(
    ("user", "password"), [("kvs", "wrong"), ("nobody", PASSWORD), ("", "")], ids=["password", "user", "none"]
)
def test_who_is_not_known_is_denied(secured: Cluster, place: bytes, user: str, password: str) -> None:
    """Calls and watches."""
    with closing(lambda: secured.client(user=user, password=password)) as client:
        with pytest.raises(AccessDeniedError):
            client.txn([], [put(place, b"")])
        with pytest.raises(AccessDeniedError):
            client.watch(place)


def test_who_has_no_certificate_is_not_served(secured: Cluster, place: bytes) -> None:
    """The member closes the connection."""
    with closing(lambda: secured.client(with_certificate=False)) as client, pytest.raises(EtcdError):
        client.range(place, timeout_s=1)


def refused_certificate(client: EtcdClient) -> None:
    """See a client refuse the certificate that it is shown."""
    with closing(lambda: client), pytest.raises(NotSentError, match="certificate verify failed"):
        client.range(b"a", timeout_s=1)


def test_a_member_with_a_certificate_of_somebody_else_is_sent_nothing(secured: Cluster, tmp_path: Path) -> None:
    """Neither one of another authority, nor one of another name."""
    others = tls_context(Certificates(tmp_path).ca_file)
    refused_certificate(EtcdClient(secured.endpoints, tls=lambda: others))
    assert secured.certificates is not None
    ours = tls_context(secured.certificates.ca_file)
    elsewhere = Endpoint("localhost", secured.endpoints[0].port)  # the certificate is one of an address
    refused_certificate(EtcdClient((elsewhere,), tls=lambda: ours))


def test_a_member_without_tls_is_sent_nothing_by_who_wants_tls(single: Cluster, tmp_path: Path) -> None:
    """And the other way round there is no answer."""
    tls = tls_context(Certificates(tmp_path).ca_file)
    with closing(lambda: EtcdClient(single.endpoints, tls=lambda: tls)) as client, pytest.raises(NotSentError):
        client.range(b"a", timeout_s=1)


def test_who_speaks_without_tls_to_a_member_that_wants_it_gets_an_error(secured: Cluster) -> None:
    """Not an answer."""
    with closing(lambda: EtcdClient(secured.endpoints)) as client, pytest.raises(EtcdError):
        client.range(b"a", timeout_s=1)


def test_a_user_where_there_are_none_is_an_error(single: Cluster) -> None:
    """Or nobody would notice that everybody may do everything."""
    client = single.client(user="kvs", password=PASSWORD)
    with closing(lambda: client), pytest.raises(RefusedError, match="authentication is not enabled"):
        client.range(b"a")


def test_who_sends_without_an_end_holds_nothing_up_over_tls(tmp_path: Path) -> None:
    """What waits within the cipher is as bounded as what waits in the socket."""
    need_etcd()
    certificates = Certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.member_cert, certificates.key_of(certificates.member_cert))
    context.set_alpn_protocols(["h2"])

    def flood(peer: Peer, _: int, __: str) -> None:
        peer.flood()

    trusted = tls_context(certificates.ca_file)
    with (
        Stub(flood, tls=context) as stub,
        closing(lambda: EtcdClient([stub.endpoint], tls=lambda: trusted)) as client,
        pytest.raises(EtcdError),
    ):
        client.range(b"x", timeout_s=2.0)
    assert stub.calls.get(timeout=TIMEOUT_S)
