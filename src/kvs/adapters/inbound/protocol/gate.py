"""The gate, which checks every request before it runs, in any protocol.

Conditions on all commands are checked only here. Fast paths bypass the gate, and are entered only while it would accept
every request (:meth:`Gate.is_open`), and for clients that may do everything; they check the lengths of keys and values
themselves.
"""

from typing import final

from kvs.adapters.inbound.protocol.audit import Audit
from kvs.adapters.inbound.protocol.command import KEY, PREFIX, VALUE, Command
from kvs.adapters.inbound.protocol.errors import UnauditedError
from kvs.adapters.inbound.protocol.peer import Peer
from kvs.adapters.inbound.protocol.security import Security
from kvs.application.memory_budget import MemoryBudget
from kvs.domain.errors import ClientsFullError, KvsError, TooLargeError, UsageError
from kvs.ports.session import Session


@final
class Gate:
    """Checks requests against the command's declaration, the user's grants and the limits.

    Args:
        max_key_bytes: Longest key.
        max_value_bytes: Longest value.
        budget: Memory budget of all clients.
        security: Knows what users may run.
        audit: The audit log; None: there is none.
    """

    def __init__(
        self,
        max_key_bytes: int,
        max_value_bytes: int,
        budget: MemoryBudget,
        security: Security,
        audit: Audit | None = None,
    ) -> None:
        self._max_key_bytes = max_key_bytes
        self._max_value_bytes = max_value_bytes
        self._max_short_bytes = min(max_key_bytes, max_value_bytes)
        self._budget = budget
        self.security = security
        self._audit = audit

    def is_open(self) -> bool:
        """Return whether requests are refused for their arguments only."""
        return not self._budget.exhausted()

    def check(self, command: Command, request: list[bytes], peer: Peer, session: Session) -> None:
        """Check a request.

        Args:
            command: Its command.
            request: The request.
            peer: Whose it is.
            session: The client's session.

        Raises:
            UnauthenticatedError: The client has to authenticate first.
            ForbiddenError: The user has no grant for it.
            UsageError: It has the wrong number of arguments, or an empty key.
            ClientsFullError: The clients together hold too much memory.
            TooLargeError: A key or a value is too long.
            UnauditedError: It must be in the audit log, which cannot be written.
        """
        if not peer.is_unrestricted:
            self.security.check(command, request, peer, session)
        if not command.takes(len(request)):
            raise UsageError(command.usage)
        if not command.runs_when_full and self._budget.exhausted():
            raise self.refusal()
        if self._audit is not None:
            trouble = self._audit.trouble(command, request)
            if trouble:
                raise UnauditedError(f"The audit log cannot be written ({trouble}), and audit_required is set.")
        if command.arguments:
            short = self._max_short_bytes
            for at, argument in enumerate(request):
                if at and not 0 < len(argument) <= short:
                    self._check_argument(command, at, argument)

    def refusal(self) -> ClientsFullError:
        """Return the error for a request that is refused over the memory budget."""
        return ClientsFullError(self._budget.limit_bytes)

    def key_error(self, key: bytes, empty: str) -> KvsError:
        """Return the error for a key that is empty or too long."""
        if not key:
            return UsageError(empty)
        return TooLargeError(f"The key has {len(key)} bytes; max_key_bytes is {self._max_key_bytes}.")

    def value_error(self, value: bytes) -> TooLargeError:
        """Return the error for a value that is too long."""
        return TooLargeError(f"The value has {len(value)} bytes; max_value_bytes is {self._max_value_bytes}.")

    def _check_argument(self, command: Command, at: int, argument: bytes) -> None:
        kind = command.kind_of(at)
        if kind is KEY and not 0 < len(argument) <= self._max_key_bytes:
            raise self.key_error(argument, command.empty_key)
        if kind is PREFIX and len(argument) > self._max_key_bytes:
            raise self.key_error(argument, command.empty_key)
        if kind is VALUE and len(argument) > self._max_value_bytes:
            raise self.value_error(argument)
