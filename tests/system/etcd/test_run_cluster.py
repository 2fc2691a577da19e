"""``make run-cluster``, without make: three members of etcd and three servers."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.etcd import HOST, free_block, need_etcd
from tests.support.harness import OK
from tests.support.line_client import Client

ROOT = Path(__file__).parents[3]


@pytest.fixture
def cluster() -> Iterator["subprocess.Popen[str]"]:
    """Yield the running program."""
    need_etcd()
    command = [sys.executable, str(ROOT / "tools" / "cluster.py"), str(free_block(23))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0


def leader(cluster: "subprocess.Popen[str]") -> tuple[int, int]:
    """Wait until a server listens; return its process and its port."""
    assert cluster.stdout is not None
    for line in cluster.stdout:
        found = re.match(r"kvs\d, process (\d+): listening port=(\d+)", line)
        if found:
            return int(found[1]), int(found[2])
    raise AssertionError("no server listens")


def test_one_takes_over_from_another(cluster: "subprocess.Popen[str]") -> None:
    """And what was acknowledged is there."""
    process, port = leader(cluster)
    with closing(Client(HOST, port)) as client:
        assert client.ask("PUT key value") == OK
    subprocess.run(["kill", "-9", str(process)], check=True)
    other_process, other = leader(cluster)  # or the same port: it is started again, and stands as the others do
    assert other_process != process
    with closing(Client(HOST, other)) as client:
        assert client.get("key") == "value"
