"""The way over a socket to hand a line to a real server; the one in this process is ``kvs.testing.drivers``."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO

from kvs.testing.drivers import TIMEOUT_S
from kvs.testing.model import Reply


class SocketDriver:
    """Connections to a server on this machine; starts from an empty data set."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: dict[int, tuple[socket.socket, IO[bytes]]] = {}
        self._cuts = 0
        for key in self.execute(0, "KEYS")["result"]:
            self.execute(0, f"DEL {key}")

    def execute(self, session: int, line: str) -> Reply:
        """See :class:`kvs.testing.drivers.Driver`."""
        if session not in self._streams:
            sock = socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._streams[session] = sock, sock.makefile("rb")
        sock, stream = self._streams[session]
        sock.sendall(line.encode() + b"\n")
        reply: Reply = json.loads(stream.readline())
        return reply

    def disconnect(self, session: int) -> None:
        """See :class:`kvs.testing.drivers.Driver`. By turns with FIN and with RST, as when a client is killed."""
        if session in self._streams:
            sock, stream = self._streams.pop(session)
            self._cuts += 1
            if self._cuts % 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.close()
            sock.close()

    def check(self, open_transactions: int) -> None:
        """See :class:`kvs.testing.drivers.Driver`. Nothing of it can be seen from outside."""

    def close(self) -> None:
        """See :class:`kvs.testing.drivers.Driver`."""
        for session in list(self._streams):
            self.disconnect(session)


@contextmanager
def server_process(*arguments: str, env: Mapping[str, str] | None = None) -> Iterator[int]:
    """Run a real server on a free port; yield the port, then stop it and see it stop cleanly."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KVS_")} | dict(env or {})
    command = [sys.executable, "-m", "kvs", "--port", "0", "--log-format", "json", *arguments]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                event = json.loads(line)
                if event["event"] == "listening":
                    break
            else:
                raise AssertionError(f"the server ended with {process.wait()} before it listened")
            threading.Thread(target=process.stderr.read, daemon=True).start()  # or the pipe fills
            yield event["port"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 0
        finally:
            process.kill()
