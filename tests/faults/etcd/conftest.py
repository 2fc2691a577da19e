"""A cluster of etcd that the tests share, and repair."""

from collections.abc import Iterator
from itertools import count
from typing import Final

import pytest

from tests.support.etcd import Cluster, need_etcd, running_cluster

_numbers: Final = count()


@pytest.fixture(scope="package")
def _three() -> Iterator[Cluster]:
    need_etcd()
    with running_cluster(3) as cluster:
        yield cluster


@pytest.fixture
def three(_three: Cluster) -> Iterator[Cluster]:
    """Return a cluster of three members that all serve."""
    with _three.lent() as cluster:
        yield cluster


@pytest.fixture
def namespace() -> str:
    """Return a namespace that no other test uses."""
    return f"faults-{next(_numbers)}"
