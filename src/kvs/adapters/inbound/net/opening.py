"""Opening a relay: the leader is connected to, and has to show that it leads.

A connection alone shows nothing: a server that has lost the lead accepts it as well, and so does whatever else listens
where the leader should be. So nothing of a client is sent before the leader has admitted the relay: what is refused
until then has certainly not been run, and may be answered.
"""

import asyncio
import json
import socket
from typing import Final, NamedTuple

from kvs.adapters.inbound.net.certificates import ClientTls
from kvs.adapters.inbound.net.relay import ADMITTED
from kvs.adapters.inbound.net.tls import TlsStream
from kvs.adapters.inbound.net.upstream import SMALL_READ_BYTES, dial, secure
from kvs.domain.errors import LimitError
from kvs.lookup import Lookups
from kvs.ports.candidate import Leader

TIMEOUT_S: Final = 2.0

MAX_ANSWER_BYTES: Final = 1 << 10
"""Longest first line of a leader."""

REFUSED: Final = "it closes the connection, as one does that does not lead"
NO_LEADER: Final = "what answers there is no leader"
FULL: Final = "The leader has too many clients already."


class Opened(NamedTuple):
    """A relay that the leader has admitted.

    Attributes:
        sock: Connected to the leader.
        tls: How it is secured; None: it is not.
        received: What has come behind the admission.
    """

    sock: socket.socket
    tls: TlsStream | None
    received: bytes


async def open_relay(leader: Leader, preamble: bytes, lookups: Lookups, tls: ClientTls) -> Opened:
    """Connect to the leader and send the preamble; return once the leader has admitted it.

    A leader of an older version does not tell: it counts as reached when it is connected.

    Raises:
        OSError: It cannot be reached, or not in time; it is not who it should be, or does not lead.
        LimitError: It leads, and has too many clients.
        CommandError: A file with certificates cannot be used.
    """
    async with asyncio.timeout(TIMEOUT_S):  # TimeoutError is an OSError
        sock = await dial(leader.host, leader.port, lookups)
        try:
            stream = await secure(sock, tls.now(), leader.host) if leader.tls else None
            first = preamble if stream is None else stream.seal(preamble)
            await asyncio.get_running_loop().sock_sendall(sock, first)
            received = await _take_admission(sock, stream) if leader.admits else b""
        except BaseException:
            sock.close()
            raise
        return Opened(sock, stream, received)


async def _take_admission(sock: socket.socket, tls: TlsStream | None) -> bytes:
    """Wait until the relay is admitted; return what has come behind that."""
    loop = asyncio.get_running_loop()
    answer = b""
    while b"\n" not in answer:
        data = await loop.sock_recv(sock, SMALL_READ_BYTES)
        ends = not data
        if tls is not None:
            data = tls.receive(data)
            if tls.has_sealed:
                await loop.sock_sendall(sock, tls.take_sealed())
            ends = ends or tls.ended or tls.failure != ""
        answer += data
        if ends and not answer:
            raise OSError(REFUSED)
        if b"\n" not in answer and (ends or len(answer) > MAX_ANSWER_BYTES):
            raise OSError(NO_LEADER)
    line, _, rest = answer.partition(b"\n")
    if line == ADMITTED:
        return rest
    if _is_of_a_full_server(line):
        raise LimitError(FULL)
    raise OSError(NO_LEADER)


def _is_of_a_full_server(line: bytes) -> bool:
    """Return whether this is the reply of a server with too many clients, which it gives before it reads anything."""
    try:
        reply = json.loads(line)
    except ValueError:
        return False
    return isinstance(reply, dict) and reply.get("code") == LimitError.code
