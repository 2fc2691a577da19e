"""ioredis finds the leader through any server, and the next one when it is gone."""

import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.interop.conftest import node_packages, program
from tests.support.etcd import Cluster
from tests.support.etcd_server import EtcdServer
from tests.support.waiting import TIMEOUT_S

__all__ = ["node_packages"]

SCRIPT: Final = Path(__file__).parents[2] / "interop" / "node_sentinel.js"


def test_ioredis_finds_the_next_leader(node_packages: Path, single: Cluster) -> None:
    """By itself, though the first is killed."""
    with ExitStack() as stack:
        options = ["sentinel_name=data"]
        leader = stack.enter_context(EtcdServer(single, "sentinel-node", options=options))
        assert leader.leads()
        standby = stack.enter_context(EtcdServer(single, "sentinel-node", options=options))
        standby.stands_by()
        command = [program("node"), str(SCRIPT), str(node_packages), f"{standby.port},{leader.port}"]
        process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        assert int(process.stdout.readline()) == leader.port
        leader.kill()
        assert leader.wait_exit() < 0
        said, _ = process.communicate("go on\n", timeout=TIMEOUT_S)
        assert (process.returncode, int(said)) == (0, standby.port)
