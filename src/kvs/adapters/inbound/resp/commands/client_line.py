"""A client's line in CLIENT LIST: the fields of Redis 7.0 in its order, then those of kvs."""

from typing import Final

from kvs.adapters.inbound.protocol.clients import ClientDescription
from kvs.application.users import DEFAULT_NAME

UNIX_SOCKET: Final = ":0"
"""What follows the path of a socket in the file system, where others have a port."""


def client_line(client: ClientDescription, now_s: float) -> bytes:
    """Return the line. Fields about features that kvs lacks, such as databases, are 0."""
    connection = client.connection
    session, info = connection.session, connection.client_info()
    peer = connection.peer
    user = DEFAULT_NAME if peer.user is None else peer.user.name
    held_bytes = connection.held_bytes() + session.held_bytes + client.unsent_bytes
    flags = (info.flags + "U" * client.address.endswith(UNIX_SOCKET)) or "N"
    line = (  # one f-string takes a third of the time, and there may be 10,000
        f"id={session.id} addr={client.address} laddr={client.local_address} fd={client.fd} name={info.name}"
        f" age={int(now_s - client.connected_s)} idle={int(now_s - client.last_input_s)} flags={flags}"
        f" db=0 sub={info.channels} psub={info.patterns} ssub=0 multi={info.queue_length} qbuf={info.input_bytes}"
        f" qbuf-free=0 argv-mem={info.arguments_bytes} multi-mem={info.queue_bytes} rbs=0 rbp=0 obl={info.output_bytes}"
        f" oll={1 if client.unsent_bytes else 0} omem={client.unsent_bytes} tot-mem={held_bytes} events={client.events}"
        f" cmd={info.last_command} user={user} redir={info.redirection} resp={info.version} depth={session.depth}"
        f" tot-cmds={connection.requests} lib-name={info.library} lib-ver={info.library_version}\n"
    )
    return line.encode()
