"""Members of etcd for a benchmark: three on loopback, with their data where TMPDIR points."""

import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from bench.errors import BenchError
from bench.servers import EVENT_TIMEOUT_S, check_installed, die_with_parent, end, free_port, wait_until_accepting

SIZE: Final = 3
HOST: Final = "127.0.0.1"


class Members:
    """A cluster of etcd.

    Args:
        directory: For data and logs.

    Attributes:
        ports: Where clients reach the members.
    """

    def __init__(self, directory: Path) -> None:
        self.ports: Final = [free_port() for _ in range(SIZE)]
        self._peers: Final = [free_port() for _ in range(SIZE)]
        self._directory = directory
        self._processes = [self._start(at) for at in range(SIZE)]

    @property
    def endpoints(self) -> str:
        """The addresses of the members, as kvs has them."""
        return ",".join(f"{HOST}:{port}" for port in self.ports)

    @property
    def pids(self) -> list[int]:
        """The processes of the members."""
        return [process.pid for process in self._processes]

    def leader(self) -> int:
        """Wait until a member leads, and return its place."""
        deadline_s = time.monotonic() + EVENT_TIMEOUT_S
        while time.monotonic() < deadline_s:
            for at, port in enumerate(self.ports):
                with suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=1) as response:
                    if b"\netcd_server_is_leader 1\n" in response.read():
                        return at
            time.sleep(0.05)
        raise BenchError("no member of etcd leads")

    def kill(self, at: int) -> None:
        """End a member at once."""
        self._processes[at].kill()
        self._processes[at].wait()

    def restart(self) -> None:
        """Start the members that have been killed, with the data they had."""
        for at, process in enumerate(self._processes):
            if process.poll() is not None:
                self._processes[at] = self._start(at)
                wait_until_accepting("etcd", self.ports[at])

    def close(self) -> None:
        """End all members."""
        for process in self._processes:
            end(process)

    def _start(self, at: int) -> "subprocess.Popen[bytes]":
        client, peer = f"http://{HOST}:{self.ports[at]}", f"http://{HOST}:{self._peers[at]}"
        together = ",".join(f"etcd{each}=http://{HOST}:{port}" for each, port in enumerate(self._peers))
        command = ["etcd", "--name", f"etcd{at}", "--data-dir", str(self._directory / f"etcd{at}")]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", together]
        with (self._directory / f"log{at}").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=die_with_parent)  # noqa: PLW1509


@contextmanager
def members() -> Iterator[Members]:
    """Start a cluster, and end it on every way out."""
    check_installed("etcd")
    with tempfile.TemporaryDirectory(prefix="bench-etcd-") as directory, closing(Members(Path(directory))) as cluster:
        for port in cluster.ports:
            wait_until_accepting("etcd", port)
        yield cluster
