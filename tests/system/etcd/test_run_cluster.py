"""``make run-cluster``, without make: three members of etcd and three servers."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.etcd import HOST, free_block, need_etcd
from tests.support.harness import OK
from tests.support.line_client import Client

PROGRAM = (sys.executable, str(Path(__file__).parents[3] / "tools" / "cluster.py"))


@pytest.fixture
def cluster() -> Iterator["subprocess.Popen[str]"]:
    """Yield the running program."""
    need_etcd()
    command = [*PROGRAM, str(free_block(23))]
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
    other_process, other = leader(cluster)
    assert (other_process != process, other != port) == (True, True)
    with closing(Client(HOST, other)) as client:
        assert client.get("key") == "value"


@pytest.mark.parametrize("argument", ["abc", "0", "65514", "-1", "4001 4002"])
def test_a_first_port_that_is_none(argument: str) -> None:
    """One line, and nothing is started."""
    ran = subprocess.run([*PROGRAM, *argument.split()], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    reason = f"give no argument, or the first port, from 1 to 65513; not {argument}"
    assert ran.stderr == f"tools/cluster.py: {reason}\n"


def test_ports_that_others_use() -> None:
    """Of servers or of members: without this, all would be started again and again."""
    port = free_block(23)
    for used in (port + 2, port + 10, port + 22):
        with socket.create_server((HOST, used)):
            ran = subprocess.run([*PROGRAM, str(port)], capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert ran.stderr == f"tools/cluster.py: port {used}: Address already in use; give another first port\n"
