"""Users as a document in TOML: the users file, and what servers share."""

import tomllib
from collections.abc import Collection, Mapping
from typing import Any, Final, Literal

import msgspec

from kvs.application import secret_hashes
from kvs.application.users import MAX_USERS
from kvs.domain.accounts import Account, check_account
from kvs.domain.errors import KvsError
from kvs.domain.grants import CATEGORY_NAMES, EVERY_CATEGORY, EVERY_KEY, Grant, Grants
from kvs.toml import toml_string

FORMAT: Final = 1
MAX_BYTES: Final = 4 << 20
MAX_ERRORS: Final = 10
"""Maximum number of mistakes that one error lists."""

EVERY: Final = "@all"

_HEADER: Final = f"""\
# The users of kvs, written by kvs: comments and order are not kept.

format = {FORMAT}
"""


class DocumentError(Exception):
    """Raised when a document is not one of users; the message lists what is wrong, and quotes no secret."""


class _Bytes(msgspec.Struct, forbid_unknown_fields=True):
    hex: str


class _Grant(msgspec.Struct, forbid_unknown_fields=True):
    allow: list[str] = []
    deny: list[str] = []
    keys: list[str | _Bytes] = []
    read: list[str | _Bytes] = []
    write: list[str | _Bytes] = []
    all_keys: bool | Literal["read", "write"] = False


class _User(msgspec.Struct, forbid_unknown_fields=True):
    enabled: bool = True
    nopass: bool = False
    passwords: list[str] = []
    tokens: list[str] = []
    grants: list[_Grant] = []


def parse(text: str, commands: Collection[bytes] | None) -> dict[str, Account]:
    """Return the users of a document.

    Args:
        text: The document.
        commands: Names of all commands, in lower case; None: any name is taken.

    Raises:
        DocumentError: It is not TOML, or something in it is wrong.
    """
    try:
        contents = tomllib.loads(text.replace("\r\n", "\n"))
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"it is not TOML: {error}") from None
    users = contents.pop("users", {})
    version = contents.pop("format", FORMAT)
    if contents:
        raise DocumentError(f"there is {next(iter(contents))!r} beside format and users")
    if version != FORMAT or not isinstance(users, dict):
        raise DocumentError(f"it is not of format {FORMAT}, with a table [users.NAME] for each user")
    if len(users) > MAX_USERS:
        raise DocumentError(f"it has more than {MAX_USERS} users")
    accounts: dict[str, Account] = {}
    mistakes: list[str] = []
    for name, table in users.items():
        try:
            accounts[name] = _account(table, commands)
            check_account(name, accounts[name])
        except (ValueError, KvsError) as error:
            mistakes.append(f"user {name!r}: {error}")
    if mistakes:
        more = f"; and {len(mistakes) - MAX_ERRORS} more" if len(mistakes) > MAX_ERRORS else ""
        raise DocumentError("; ".join(mistakes[:MAX_ERRORS]) + more)
    return accounts


def render(accounts: Mapping[str, Account]) -> str:
    """Return the document of users."""
    return _HEADER + "".join(line for name in sorted(accounts) for line in _user_lines(name, accounts[name]))


# From the document.


def _account(table: Any, commands: Collection[bytes] | None) -> Account:
    try:
        user = msgspec.convert(table, _User)
    except msgspec.ValidationError as error:
        raise ValueError(str(error).replace(" - at `$.", " at `").replace(" - at `$`", "")) from None
    for number, text in enumerate(user.passwords, 1):
        try:
            secret_hashes.parse(text)
        except ValueError as error:
            raise ValueError(f"password {number}: {error}") from None
    for number, text in enumerate(user.tokens, 1):
        if not secret_hashes.is_token_hash(text):
            raise ValueError(f"token {number}: it is not the SHA-256 of a token, as `kvs users token` prints it")
    grants: list[Grant] = []
    for number, grant in enumerate(user.grants, 1):
        try:
            grants.append(_grant(grant, commands))
        except ValueError as error:
            raise ValueError(f"grant {number}: {error}") from None
    return Account(user.enabled, user.nopass, tuple(user.passwords), tuple(user.tokens), Grants(*grants))


def _grant(grant: _Grant, commands: Collection[bytes] | None) -> Grant:
    categories, added = _commands(grant.allow, commands)
    denied, removed = _commands(grant.deny, commands)
    if added & removed:
        raise ValueError(f"{min(added & removed).decode()!r} is both allowed and denied")
    both = [_prefix(each) for each in grant.keys]
    reads = (*both, *[_prefix(each) for each in grant.read])
    writes = (*both, *[_prefix(each) for each in grant.write])
    if (reads and grant.all_keys in (True, "read")) or (writes and grant.all_keys in (True, "write")):
        raise ValueError("it has all keys, and some")
    if grant.all_keys in (True, "read"):
        reads = EVERY_KEY
    if grant.all_keys in (True, "write"):
        writes = EVERY_KEY
    return Grant(categories & ~denied, reads, writes, added, removed)


def _commands(names: list[str], commands: Collection[bytes] | None) -> tuple[int, frozenset[bytes]]:
    categories, single = 0, set()
    for name in names:
        if name == EVERY:
            categories = EVERY_CATEGORY
        elif name.startswith("@"):
            if name[1:] not in CATEGORY_NAMES:
                known = ", ".join(f"@{each}" for each in ("all", *CATEGORY_NAMES))
                raise ValueError(f"there is no category {name!r}; there are {known}")
            categories |= CATEGORY_NAMES[name[1:]]
        else:
            command = name.lower().encode()
            if commands is not None and command not in commands:
                raise ValueError(f"there is no command {name!r}")
            single.add(command)
    return categories, frozenset(single)


def _prefix(given: str | _Bytes) -> bytes:
    prefix = given.encode() if isinstance(given, str) else bytes.fromhex(given.hex)
    if not prefix:
        raise ValueError("a prefix is empty; all_keys = true is a grant on all keys")
    if isinstance(given, str) and "*" in given:
        raise ValueError(f"{given!r} is a pattern; a prefix stands for all keys that begin with it")
    return prefix


# To the document.


def _user_lines(name: str, account: Account) -> list[str]:
    table = f"users.{toml_string(name)}"
    lines = [f"\n[{table}]\n", f"enabled = {_boolean(account.enabled)}\n"]
    if account.nopass:
        lines.append("nopass = true\n")
    for key, texts in (("passwords", account.passwords), ("tokens", account.tokens)):
        if texts:
            lines.append(f"{key} = {_strings(texts)}\n")
    for grant in account.grants.grants:
        lines += [f"\n[[{table}.grants]]\n", *_grant_lines(grant)]
    return lines


def _grant_lines(grant: Grant) -> list[str]:
    allow = [f"@{name}" for name, bit in CATEGORY_NAMES.items() if grant.categories & bit]
    if grant.categories == EVERY_CATEGORY:
        allow = [EVERY]
    lines = [f"allow = {_strings([*allow, *_names(grant.added)])}\n"]
    if grant.removed:
        lines.append(f"deny = {_strings(_names(grant.removed))}\n")
    reads, writes = grant.reads, grant.writes
    if EVERY_KEY in (reads, writes):
        lines.append(
            f"all_keys = {'true' if reads == writes else toml_string('read' if reads == EVERY_KEY else 'write')}\n"
        )
        reads, writes = (() if each == EVERY_KEY else each for each in (reads, writes))
    written = frozenset(writes)
    both = {prefix: None for prefix in reads if prefix in written}
    parts = (
        ("keys", both),
        ("read", [prefix for prefix in reads if prefix not in both]),
        ("write", [prefix for prefix in writes if prefix not in both]),
    )
    return lines + [f"{key} = [{', '.join(map(_prefix_text, found))}]\n" for key, found in parts if found]


def _names(commands: frozenset[bytes]) -> list[str]:
    return sorted(command.decode() for command in commands)


def _prefix_text(prefix: bytes) -> str:
    try:
        text = prefix.decode()
    except UnicodeDecodeError:
        text = ""
    plain = bool(text) and "*" not in text
    return toml_string(text) if plain else f'{{ hex = "{prefix.hex()}" }}'


def _strings(texts: Collection[str]) -> str:
    return f"[{', '.join(map(toml_string, texts))}]"


def _boolean(value: bool) -> str:  # noqa: FBT001  # what is written is what it is
    return "true" if value else "false"
