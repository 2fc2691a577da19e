"""Members of etcd for a benchmark: three on loopback, with their data where TMPDIR points."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from bench.servers import check_installed, die_with_parent, end, free_port, wait_until_accepting

SIZE: Final = 3
HOST: Final = "127.0.0.1"


@contextmanager
def members() -> Iterator[tuple[str, list[int]]]:
    """Start a cluster; return the addresses of its members, as kvs has them, and their processes."""
    check_installed("etcd")
    with tempfile.TemporaryDirectory(prefix="bench-etcd-") as name, ExitStack() as stack:
        clients, peers = ([free_port() for _ in range(SIZE)] for _ in range(2))
        together = ",".join(f"etcd{at}=http://{HOST}:{port}" for at, port in enumerate(peers))
        pids: list[int] = []
        for at in range(SIZE):
            urls = {"client": f"http://{HOST}:{clients[at]}", "peer": f"http://{HOST}:{peers[at]}"}
            command = ["etcd", "--name", f"etcd{at}", "--data-dir", str(Path(name, f"etcd{at}"))]
            command += ["--listen-client-urls", urls["client"], "--advertise-client-urls", urls["client"]]
            command += ["--listen-peer-urls", urls["peer"], "--initial-advertise-peer-urls", urls["peer"]]
            command += ["--initial-cluster", together]
            log = stack.enter_context(Path(name, f"log{at}").open("wb"))
            process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=die_with_parent)  # noqa: PLW1509
            stack.callback(end, process)
            pids.append(process.pid)
        for port in clients:
            wait_until_accepting("etcd", port)
        yield ",".join(f"{HOST}:{port}" for port in clients), pids
