"""The engine over etcd keeps the contract, too: with one server, and a cluster of one member."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import pytest

from kvs.adapters.storage.etcd.engine import ETCD
from kvs.ports.storage import Storage
from kvs.testing import DurableStorageContract, open_engine
from tests.support.etcd import need_etcd, running_cluster

VARIABLE: Final = "TEST_ETCD_ENDPOINTS"


@pytest.fixture(scope="module", autouse=True)
def _etcd() -> Iterator[None]:
    """Run a cluster, and tell the processes that cases start where it is."""
    need_etcd()
    with running_cluster() as cluster, pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, cluster.addresses)
        yield


@pytest.mark.one_build
class TestEtcd(DurableStorageContract):
    records = True
    shared = True
    share_of_examples = 0.02  # each opens the engine, and each tick waits for etcd
    walk_steps = 1_000

    def open_storage_in(self, directory: Path) -> AbstractContextManager[Storage]:
        namespace = hashlib.blake2b(bytes(directory), digest_size=8).hexdigest()
        return open_engine(ETCD, endpoints=os.environ[VARIABLE], namespace=namespace, lease_s=2)
