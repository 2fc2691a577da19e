"""Users and their grants, as the protocols ask for them.

Grants are asked when a request arrives, and again when it takes effect: for what MULTI has queued by EXEC, for what a
transaction has written by the outermost COMMIT, in both cases only if they have changed meanwhile. A command that takes
long goes on with the grants that it began with.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

from kvs.adapters.inbound.protocol.messages import quoted
from kvs.application.authentication import UNKNOWN, Authenticator
from kvs.application.passwords import PasswordJob, Passwords
from kvs.application.refusals import Refusals
from kvs.application.secret_hashes import DEFAULT, Parameters
from kvs.application.users import User, Users
from kvs.domain.accounts import Account
from kvs.domain.errors import ForbiddenError, LimitError, UnauthenticatedError, UsageError, WrongSecretError
from kvs.ports.session import Session, Steps

if TYPE_CHECKING:
    from kvs.adapters.inbound.protocol.command import Command, Reply, WholeReply
    from kvs.adapters.inbound.protocol.peer import Peer
    from kvs.domain.values import Key

STRANGER_ARGUMENTS: Final = 10
"""Most arguments of a request of a client that has not authenticated, as in Redis."""

STRANGER_REQUEST_BYTES: Final = 16 << 10
"""Longest request of such a client."""

STRANGER_OUTPUT_BYTES: Final = 64 << 10
"""Output for such a client, unless it reads it."""

MAX_SHOWN_PREFIXES: Final = 8
"""How many of a user's prefixes a refusal names."""

PREFIXES_PER_UNIT: Final = 256
"""Prefixes with which a key is compared per unit of work."""

KEYS_PER_UNIT: Final = 4
"""Keys of a write set that are compared with grants per unit of work."""

TOP_LEVEL: Final = "toplevel"
IN_MULTI: Final = "multi"
"""Where a request is refused, in Redis's words."""


def nobody(_: int) -> str:
    """Return nothing: nobody knows how to describe a client."""
    return ""


@final
class Security:
    """What users may run.

    Concurrency: secrets are checked on the loop only; workers may ask for grants.

    Attributes:
        users: Who there is.
        authenticator: Checks secrets.
        refusals: What has been refused.
        describe: Returns a client as CLIENT LIST has it, given the number of its session.
        parameters: What the hash of a new password costs.
    """

    def __init__(
        self,
        users: Users,
        authenticator: Authenticator,
        refusals: Refusals,
        describe: Callable[[int], str] = nobody,
        parameters: Parameters = DEFAULT,
    ) -> None:
        self.users: Final = users
        self.authenticator: Final = authenticator
        self.refusals: Final = refusals
        self.describe: Final = describe
        self.parameters: Final = parameters

    def first_user(self) -> User | None:
        """Return who a client is that has not authenticated; None if it has to."""
        default = self.users.default
        return default if default.enabled and default.nopass else None

    def user_to_relay(self, peer: "Peer") -> str:
        """Return the name by which another server knows a client; empty if it has not authenticated."""
        user = peer.user
        return "" if user is None or user is self.first_user() else user.name

    def restored_user(self, name: str) -> User | None:
        """Return who a client is that has authenticated at another server; None if it has to again."""
        if not name:
            return self.first_user()
        user = self.users.get(name)
        return user if user is not None and user.enabled else None

    def check(self, command: "Command", request: "list[bytes]", peer: "Peer", session: Session) -> None:
        """Check the grants for a request.

        Args:
            command: Its command.
            request: The request.
            peer: Whose it is.
            session: The client's session, whose work this is.

        Raises:
            UnauthenticatedError: The client has to authenticate first.
            ForbiddenError: The user has no grant for it.
        """
        user = peer.user
        if command.is_open:
            return
        if user is None:
            raise unauthenticated()
        if session.depth == 0:
            peer.generation = user.generation
        if not user.grants.unrestricted:
            session.work.left -= len(request) * user.grants.size // PREFIXES_PER_UNIT
            self._check_grants(user, command, request, peer, TOP_LEVEL)

    def check_again(self, command: "Command", request: "list[bytes]", peer: "Peer") -> None:
        """Check the grants for a request that has been queued, and takes effect only now.

        Raises:
            ForbiddenError: The user has no grant for it any more.
        """
        user = peer.user
        if user is None:
            raise unauthenticated()
        if not (user.grants.unrestricted or command.is_open):
            self._check_grants(user, command, request, peer, IN_MULTI)

    def must_check_writes(self, command: "Command", peer: "Peer", session: Session) -> bool:
        """Return whether a command is a COMMIT of what may have been written under other grants than the present."""
        user = peer.user
        if not command.ends_transaction or session.depth != 1 or user is None or user.grants.unrestricted:
            return False
        return peer.generation != user.generation

    def run_after_check(self, run: "Callable[[], Reply]", peer: "Peer", session: Session) -> "Steps[WholeReply]":
        """Run a COMMIT if the grants allow all that is pending; else the transaction stays open.

        Args:
            run: Runs it.
            peer: Whose it is.
            session: The client's session.

        Raises:
            ForbiddenError: They do not.
        """
        user = peer.user
        work = session.work
        while user is not None and peer.generation != user.generation:
            generation, grants = user.generation, user.grants
            if session.clears_all and not grants.may_write(b""):
                raise self._refused_key(user, peer, TOP_LEVEL, b"", is_range=True)
            for at, key in enumerate(session.written_keys()):
                if not grants.may_write(key):
                    raise self._refused_key(user, peer, TOP_LEVEL, key)
                if at % KEYS_PER_UNIT == 0:
                    work.left -= 1
                    if work.left <= 0:
                        yield
            peer.generation = generation
        reply = run()
        if isinstance(reply, (bytes, list)):
            return reply
        return (yield from reply)

    def log_in(self, session: Session, peer: "Peer", name: bytes, secret: bytes, command: str) -> Steps[None]:
        """Authenticate a client. It is not served until that is done, which may take a while.

        Args:
            session: The client's session.
            peer: Who becomes the user.
            name: The user's name, as the client gives it.
            secret: The secret that it gives.
            command: The command by which it does so.

        Raises:
            UsageError: A transaction is open, or keys are watched.
            WrongSecretError: The user or the secret is wrong.
        """
        if session.holds_snapshot:
            raise UsageError("AUTH inside a transaction, or while keys are watched; end that first.")
        text = name.decode(errors="surrogateescape")
        attempt = self.authenticator.check(text, secret, peer.address, lambda _: peer.go_on())
        if not attempt.finished:
            peer.checking = True
            try:
                while not attempt.finished:
                    yield
            finally:
                peer.checking = False
                self.authenticator.cancel(attempt)
        if attempt.user is None:
            # What is nobody's name may be a secret in the wrong place.
            shown = UNKNOWN if self.users.get(text) is None else text
            self.refusals.add("auth", TOP_LEVEL, command, shown, self.describe(peer.number))
            raise WrongSecretError
        peer.become(attempt.user)
        peer.announce()

    def hash_passwords(
        self, peer: "Peer", account: Account, added: list[bytes], removed: list[bytes]
    ) -> Steps[Passwords]:
        """Return what has to be known to add passwords to a user, and to remove others. A thread finds it out.

        Raises:
            LimitError: There is no thread, or no memory.
        """
        job = PasswordJob(account.passwords, added, removed, self.parameters)

        def done() -> None:
            job.finished = True
            peer.go_on()

        try:
            self.authenticator.run(job.run, done)
        except RuntimeError as error:
            raise LimitError(f"The passwords cannot be hashed: {error}.") from None
        peer.checking = True
        try:
            while not job.finished:
                yield
        finally:
            peer.checking = False
        if job.failed:
            raise LimitError("The passwords cannot be hashed: there is no memory.")
        return job.found

    def _check_grants(self, user: User, command: "Command", request: "list[bytes]", peer: "Peer", context: str) -> None:
        grants, name, categories = user.grants, command.grant_name, command.categories
        if not grants.allows_command(name, categories):
            self.refusals.add("command", context, name.decode(), user.name, self.describe(peer.number))
            raise ForbiddenError("command", f"this user has no permissions to run the '{name.decode()}' command")
        if not command.takes(len(request)):
            return  # it is refused for that
        keys, ranges = command.uses_of(request), command.ranges(request)
        key = grants.refused(name, categories, keys, ranges)
        if key is not None:
            raise self._refused_key(user, peer, context, key, is_range=not keys)

    def _refused_key(
        self, user: User, peer: "Peer", context: str, key: "Key", *, is_range: bool = False
    ) -> ForbiddenError:
        """Note a refusal for a key, or for a range of keys, and return the error."""
        self.refusals.add("key", context, key.decode(errors="backslashreplace"), user.name, self.describe(peer.number))
        prefixes = user.grants.prefixes()
        shown = ", ".join([quoted(prefix) for prefix in prefixes[:MAX_SHOWN_PREFIXES]])
        more = ", ..." if len(prefixes) > MAX_SHOWN_PREFIXES else ""
        hint = f"There are grants for keys that begin with {shown}{more}." if shown else ""
        if is_range:
            return ForbiddenError("key", "this user has no permissions to access all keys of this range", hint)
        return ForbiddenError("key", "this user has no permissions to access one of the keys used as arguments", hint)


def unauthenticated() -> UnauthenticatedError:
    """Return the error for a client that has to authenticate. It tells nothing else."""
    return UnauthenticatedError("Authenticate first: AUTH user secret.")
