"""What is saved of a user."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from kvs.domain.errors import LimitError, UsageError
from kvs.domain.grants import EVERYTHING, MAX_GRANTS, MAX_PREFIXES, NOTHING, Grants

MAX_NAME_BYTES: Final = 128
SIGNS_OF_SECRETS: Final = "><#!"
"""First characters of rules of ACL SETUSER with a secret, which somebody may give in place of a name."""

MAX_SECRETS: Final = 16
"""Maximum number of passwords, and of tokens, of one user: enough to exchange them one by one."""


@final
@dataclass(frozen=True)
class Account:
    """A user as it is saved.

    Attributes:
        enabled: Whether anyone may authenticate as this user.
        nopass: Any secret is right. Passwords and tokens are then empty.
        passwords: Hashes of chosen passwords, see :mod:`kvs.application.secret_hashes`.
        tokens: SHA-256 of generated tokens, in lower-case hexadecimal digits.
        grants: What the user may run.
    """

    enabled: bool = False
    nopass: bool = False
    passwords: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    grants: Grants = NOTHING


NEW: Final = Account()
"""A user as ACL SETUSER makes it: off, without a secret, and with nothing allowed."""

OPEN: Final = Account(enabled=True, nopass=True, grants=EVERYTHING)
"""The default user unless something else is set: it needs no secret, and everything is allowed."""

Accounts: TypeAlias = Mapping[str, Account]
"""Users by name."""


def is_name(name: str) -> bool:
    """Return whether a text can be a user's name: printable characters without spaces, and no rule with a secret."""
    if not name or len(name) > MAX_NAME_BYTES or len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        return False
    return name.isprintable() and " " not in name and name[0] not in SIGNS_OF_SECRETS


def check_account(name: str, account: Account) -> None:
    """Check what a change, a file or another server has made of a user.

    Raises:
        UsageError: The name is not allowed, or the secrets contradict each other.
        LimitError: There is too much of something.
    """
    if not is_name(name):
        raise UsageError(
            f"A user's name has 1 to {MAX_NAME_BYTES} bytes of printable characters, no spaces, and none of "
            f"{SIGNS_OF_SECRETS} at its beginning."
        )
    if account.nopass and (account.passwords or account.tokens):
        raise UsageError(f"User {name!r} needs no secret, and has one.")
    if len(account.passwords) > MAX_SECRETS or len(account.tokens) > MAX_SECRETS:
        raise LimitError(f"User {name!r} has more than {MAX_SECRETS} passwords or tokens.")
    if len(account.grants.grants) > MAX_GRANTS or account.grants.size > MAX_PREFIXES:
        raise LimitError(f"User {name!r} has more than {MAX_GRANTS} grants, or more than {MAX_PREFIXES} prefixes.")
