"""Fixtures: clusters of etcd that tests share, and a place in them that a test has to itself."""

from collections.abc import Iterator
from itertools import count
from typing import Final

import pytest

from kvs.adapters.storage.etcd.client.etcd_client import EtcdClient
from tests.support.etcd import Cluster, closing, need_etcd, running_cluster

_numbers: Final = count()


@pytest.fixture(scope="package")
def single() -> Iterator[Cluster]:
    """Return a cluster of one member, which every test leaves as it was."""
    need_etcd()
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="package")
def _three() -> Iterator[Cluster]:
    need_etcd()
    with running_cluster(3) as cluster:
        yield cluster


@pytest.fixture
def three(_three: Cluster) -> Iterator[Cluster]:
    """Return a cluster of three members, for tests that break it: it is repaired before the next one."""
    with _three.lent() as cluster:
        yield cluster


@pytest.fixture
def client(single: Cluster) -> Iterator[EtcdClient]:
    """Return a client of the single member."""
    with closing(single.client) as made:
        yield made


@pytest.fixture
def place() -> bytes:
    """Return a prefix that no other test uses."""
    return b"test-%d/" % next(_numbers)
