"""Makes what the protocols ask about who may do what."""

from collections.abc import Callable

from kvs.adapters.inbound.protocol.clients import ClientRegistry
from kvs.adapters.inbound.protocol.security import Security
from kvs.adapters.inbound.resp.commands.client_line import client_line
from kvs.application.authentication import Authenticator
from kvs.application.refusals import Refusals
from kvs.application.users import Users


def access(
    users: Users,
    authenticator: Authenticator,
    refusals: Refusals,
    clients: ClientRegistry,
    clock: Callable[[], float],
) -> Security:
    """Return what the protocols ask; refusals tell who the client was as CLIENT LIST does."""

    def describe(number: int) -> str:
        client = clients.describe(number)
        return "" if client is None else client_line(client, clock()).decode().rstrip()

    return Security(users, authenticator, refusals, describe)
