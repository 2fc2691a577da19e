"""Users in etcd: all servers share them, and no change is lost."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from kvs.adapters.storage.etcd.client.endpoints import namespace_prefix
from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from kvs.adapters.storage.etcd.client.requests import delete, put
from kvs.adapters.storage.etcd.layout import MAX_VALUE_BYTES, Keys, LayoutError
from kvs.adapters.storage.etcd.users import EtcdUsers
from kvs.adapters.users.document import parse, render
from kvs.application.secret_hashes import hash_token
from kvs.domain.accounts import Account
from kvs.domain.grants import READ, Grant, Grants
from kvs.ports.users import UsersNotSavedError
from tests.support.etcd import HOST, Cluster, running_cluster
from tests.support.etcd_server import EtcdServer
from tests.support.resp_wire import OK as DONE
from tests.support.resp_wire import Wire
from tests.support.waiting import polling

TOM: Final = Account(enabled=True, tokens=("0" * 64,), grants=Grants(Grant(READ, (b"a:",))))
ANN: Final = replace(TOM, enabled=False)

_numbers: Final = count()


@pytest.fixture
def namespace() -> str:
    """Return a namespace that no other test uses."""
    return f"users-{next(_numbers)}"


@pytest.fixture
def keys(namespace: str) -> Keys:
    """Return the names of keys there."""
    return Keys(namespace_prefix(namespace))


@pytest.fixture
def other_client(single: Cluster) -> Iterator[EtcdClient]:
    """Yield the client of another server."""
    with closing(single.client()) as made:
        yield made


def test_at_first_there_are_none(client: EtcdClient, keys: Keys) -> None:
    """However often one looks."""
    users = EtcdUsers(client, keys)
    for _ in range(2):
        users.look()
        assert users.newest is None


def test_what_is_offered_is_put_there_if_there_is_nothing(
    client: EtcdClient, other_client: EtcdClient, keys: Keys
) -> None:
    """The first one who looks puts it there, and the others see it."""
    first, second = EtcdUsers(client, keys), EtcdUsers(other_client, keys)
    first.offer({"tom": TOM})
    second.offer({"ann": ANN})
    first.look()
    second.look()
    assert first.newest is not None
    assert first.newest == second.newest
    assert first.newest[0] == {"tom": TOM}


def test_a_change_is_seen_by_others(client: EtcdClient, other_client: EtcdClient, keys: Keys) -> None:
    """And they can change it in turn."""
    first, second = EtcdUsers(client, keys), EtcdUsers(other_client, keys)
    revision = first.save({"tom": TOM}, 0)
    assert first.newest == ({"tom": TOM}, revision)
    first.look()
    assert first.newest == ({"tom": TOM}, revision)
    second.look()
    assert second.newest == first.newest
    later = second.save({"tom": TOM, "ann": ANN}, revision)
    assert later > revision
    first.look()
    assert first.newest == ({"tom": TOM, "ann": ANN}, later)


def test_no_change_is_lost(client: EtcdClient, other_client: EtcdClient, keys: Keys) -> None:
    """One that is made of what is no longer there is refused."""
    first, second = EtcdUsers(client, keys), EtcdUsers(other_client, keys)
    revision = first.save({"tom": TOM}, 0)
    for base in (0, revision - 1, revision + 1):
        with pytest.raises(UsersNotSavedError, match="Another server has changed users at the same time"):
            second.save({"ann": ANN}, base)
    second.look()
    assert second.newest == ({"tom": TOM}, revision)


def test_one_who_has_deleted_the_key_by_hand_changes_nothing(client: EtcdClient, keys: Keys) -> None:
    """What was known goes on to count, and nobody gets in who did not before."""
    users = EtcdUsers(client, keys)
    revision = users.save({"tom": TOM}, 0)
    client.txn([], [delete(keys.users)])
    users.look()
    assert users.newest == ({"tom": TOM}, revision)


@pytest.mark.parametrize("value", [b"\xff", b"[users.a]\nenabled = 1", b"format = 2"])
def test_what_is_not_a_list_of_users(client: EtcdClient, keys: Keys, value: bytes) -> None:
    """Is an error, and no reason to let everybody in."""
    users = EtcdUsers(client, keys)
    revision = users.save({"tom": TOM}, 0)
    client.txn([], [put(keys.users, value)])
    with pytest.raises(LayoutError, match="/users: "):
        users.look()
    assert users.newest == ({"tom": TOM}, revision)


def test_too_many_users(client: EtcdClient, keys: Keys) -> None:
    """What does not fit into a value is refused."""
    wide = Account(grants=Grants(*[Grant(READ, tuple(b"%d" % n + b"x" * 1000 for n in range(100)))] * 20))
    assert len(render({"a": wide})) > MAX_VALUE_BYTES
    with pytest.raises(UsersNotSavedError, match="more than 1 MiB"):
        EtcdUsers(client, keys).save({"a": wide}, 0)


def test_without_etcd_nothing_changes(namespace: str) -> None:
    """And it is not said that nothing has been changed there."""
    with running_cluster() as cluster:
        client = cluster.client()
        cluster.members[0].kill()
        with closing(client), pytest.raises(UsersNotSavedError, match="has not confirmed"):
            EtcdUsers(client, Keys(namespace_prefix(namespace))).save({"tom": TOM}, 0)


def written(directory: Path, name: str, text: str) -> str:
    """Write a users file; return its path."""
    path = directory / name
    path.touch(0o600)
    path.write_text(text)
    return str(path)


def test_servers_share_the_users_of_the_first(
    client: EtcdClient, single: Cluster, namespace: str, keys: Keys, tmp_path: Path
) -> None:
    """Whose file has any; that of another is not used, which is told once."""
    first = written(tmp_path, "first", render({"tom": TOM}))
    second = written(tmp_path, "second", render({"ann": ANN}))
    with ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(single, namespace, "--users-file", first))
        assert leader.leads()
        assert set(parse(client.range(keys.users).kvs[0].value.decode(), None)) == {"default", "tom"}
        standby = stack.enter_context(EtcdServer(single, namespace, "--users-file", second))
        for _ in polling("the standby tells that its file is not used"):
            if standby.events("users_file_unused"):
                break
        assert not leader.events("users_file_unused")
        assert set(parse(client.range(keys.users).kvs[0].value.decode(), None)) == {"default", "tom"}


def test_a_server_that_cannot_read_the_users_does_not_serve(
    client: EtcdClient, single: Cluster, namespace: str, keys: Keys
) -> None:
    """It would not know whom to let in."""
    client.txn([], [put(keys.users, b"format = 2")])
    with EtcdServer(single, namespace) as server:
        assert server.wait_exit() == 1
        assert "/users: it is not of format 1" in "".join(server.other_lines)


def test_users_that_are_damaged_meanwhile(
    client: EtcdClient, single: Cluster, namespace: str, keys: Keys, tmp_path: Path
) -> None:
    """A server goes on with those it knew, and says why; once they are mended, they count again."""
    with EtcdServer(single, namespace, "--users-file", written(tmp_path, "users", render({"tom": TOM}))) as server:
        assert server.leads()
        good = client.range(keys.users).kvs[0].value
        client.txn([], [put(keys.users, b"format = 2")])
        assert "/users: it is not of format 1" in server.wait_for("users_unreadable")["reason"]
        with server.connect() as asking:
            assert asking.ask("GET a")["code"] == "unauthenticated"
        client.txn([], [put(keys.users, b"\xff")])
        assert "utf-8" in server.wait_for("users_unreadable", 2)["reason"]
        client.txn([], [put(keys.users, good.replace(b"0" * 64, hash_token(b"tomato").encode()))])
        for _ in polling("they count again"):
            with Wire((HOST, server.port)) as wire:
                if wire.ask("AUTH", "tom", "tomato") == DONE:
                    break


def test_a_change_holds_on_all_servers(single: Cluster, namespace: str, tmp_path: Path) -> None:
    """Made on the leader, it holds on a standby, and for the next leader."""
    password = tmp_path / "password"
    password.touch(0o600)
    password.write_text("secret")
    flags = ("--password-file", str(password))
    with ExitStack() as stack:
        leader = stack.enter_context(EtcdServer(single, namespace, *flags))
        assert leader.leads()
        standby = stack.enter_context(EtcdServer(single, namespace, *flags))
        standby.stands_by()
        with Wire((HOST, leader.port)) as wire:
            assert wire.ask("AUTH", "secret") == DONE
            assert wire.ask("ACL", "SETUSER", "tom", "on", ">tomato", "+@read", "+@connection", "%R~a:*") == DONE
            assert wire.ask("SET", "a:1", "x") == DONE
        for _ in polling("the standby knows the user"):
            with Wire((HOST, standby.port)) as wire:
                if wire.ask("AUTH", "tom", "tomato") == DONE:
                    assert wire.ask("GET", "a:1") == b"x"
                    assert wire.ask("ACL", "WHOAMI") == b"tom"
                    break
        with Wire((HOST, standby.port)) as relayed, Wire((HOST, leader.port)) as wire:
            assert relayed.ask("AUTH", "tom", "tomato") == DONE
            assert relayed.ask("GET", "a:1") == b"x"
            assert wire.ask("AUTH", "secret") == DONE
            assert wire.ask("ACL", "DELUSER", "tom") == 1
            relayed.rest()
        for _ in polling("the standby knows that the user has gone"):
            with Wire((HOST, standby.port)) as wire:
                if wire.ask("AUTH", "tom", "tomato") != DONE:
                    break
