"""Users as rules of ACL SETUSER, in Redis's syntax as far as prefixes can express it.

A user has a first grant, which Redis calls the root permissions, and one for each selector.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, final

from kvs.adapters.inbound.resp.acl_categories import AclCategories
from kvs.adapters.inbound.resp.acl_grants import GrantDraft, RuleError, channels_of, commands_of, keys_of
from kvs.adapters.inbound.resp.wording import as_text
from kvs.application.passwords import Passwords
from kvs.application.secret_hashes import hash_token, is_token
from kvs.application.users import User
from kvs.domain.accounts import Account
from kvs.domain.errors import UsageError
from kvs.domain.grants import Grant, Grants

MAX_RULES: Final = 1024
"""Most rules of one request."""

CHOSEN: Final = b"(scrypt)"
"""Stands for the hash of a chosen password, which is shown to nobody."""

NO_HASH: Final = "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
NO_PASSWORD: Final = "The password you are trying to remove from the user does not exist"  # noqa: S105  # a text
EMPTY_PASSWORD: Final = "The password is empty"  # noqa: S105  # likewise

NO_GRANT: Final = Grant(0)

_HASH: Final = re.compile(rb"[0-9a-f]{64}")


def merged(words: Sequence[bytes]) -> list[bytes]:
    """Return rules with each selector as one of them: it may have come in several words.

    Raises:
        UsageError: A selector has no end, or there are too many rules.
    """
    if sum([1 + word.count(b" ") for word in words]) > MAX_RULES:  # a selector may be one word
        raise UsageError(f"ACL SETUSER takes at most {MAX_RULES} rules")
    rules: list[bytes] = []
    selector: list[bytes] = []
    for word in words:
        if not selector and word[:1] != b"(":
            rules.append(word)
            continue
        selector.append(word)
        if word[-1:] == b")":
            rules.append(b" ".join(selector))
            selector = []
    if selector:
        raise UsageError(f"Unmatched parenthesis in acl selector starting at '{as_text(selector[0])}'.")
    return rules


def chosen(rules: Sequence[bytes], sign: bytes) -> list[bytes]:
    """Return the chosen passwords, not the tokens, of rules that begin with a sign: ``>`` adds, ``<`` removes."""
    return [rule[1:] for rule in rules if rule[:1] == sign and not is_token(rule[1:])]


def changed(
    account: Account, rules: Sequence[bytes], categories: AclCategories, passwords: Passwords | None
) -> Account:
    """Return a user as rules change it.

    Args:
        account: The user as it is.
        rules: The rules, see :func:`merged`.
        categories: What commands there are.
        passwords: What has been found out of their passwords; None: nothing yet, so the result is of no use but to see
            whether the rules fit.

    Raises:
        UsageError: A rule is wrong, or does not fit.
    """
    draft = _AccountDraft(account, categories, passwords)
    for rule in rules:
        try:
            draft.apply(rule)
        except RuleError as error:
            shown = rule[:1] if rule[:1] in b"><" else rule  # what follows is a secret
            raise UsageError(f"Error in ACL SETUSER modifier '{as_text(shown)}': {error}") from None
    return draft.account()


@final
class _AccountDraft:
    def __init__(self, account: Account, categories: AclCategories, passwords: Passwords | None) -> None:
        self._categories = categories
        self._found = passwords
        self._before = account
        self._enabled = account.enabled
        self._nopass = account.nopass
        self._passwords = list(account.passwords)
        self._tokens = list(account.tokens)
        grants = account.grants.grants
        self._root = GrantDraft(grants[0] if grants else NO_GRANT, categories)
        self._selectors = list(grants[1:])

    def account(self) -> Account:
        """Return the user."""
        return replace(
            self._before,
            enabled=self._enabled,
            nopass=self._nopass,
            passwords=tuple(self._passwords),
            tokens=tuple(self._tokens),
            grants=Grants(self._root.grant(), *self._selectors),
        )

    def apply(self, rule: bytes) -> None:
        word = rule.lower()
        sign, rest = rule[:1], rule[1:]
        if word in (b"on", b"off"):
            self._enabled = word == b"on"
        elif word in (b"nopass", b"resetpass"):
            self._forget_secrets(nopass=word == b"nopass")
        elif word == b"reset":
            self._enabled = False
            self._forget_secrets(nopass=False)
            self._root = GrantDraft(NO_GRANT, self._categories)
            self._selectors = []
        elif word == b"clearselectors":
            self._selectors = []
        elif sign == b"(":
            selector = GrantDraft(NO_GRANT, self._categories)
            for each in filter(None, rule[1:-1].split(b" ")):
                selector.apply(each)
            self._selectors.append(selector.grant())
        elif sign in (b"#", b"!"):
            if _HASH.fullmatch(rest) is None:
                raise RuleError(NO_HASH)
            self._change_token(rest.decode(), added=sign == b"#")
        elif sign in (b">", b"<") and is_token(rest):
            self._change_token(hash_token(rest), added=sign == b">")
        elif sign == b">":
            if not rest:
                raise RuleError(EMPTY_PASSWORD)
            self._add_password(rest)
        elif sign == b"<":
            self._remove_password(rest)
        else:
            self._root.apply(rule)

    def _forget_secrets(self, *, nopass: bool) -> None:
        self._nopass = nopass
        self._passwords.clear()
        self._tokens.clear()

    def _change_token(self, token: str, *, added: bool) -> None:
        if added:
            self._nopass = False
            if token not in self._tokens:
                self._tokens.append(token)
        elif token in self._tokens:
            self._tokens.remove(token)
        else:
            raise RuleError(NO_PASSWORD)

    def _add_password(self, password: bytes) -> None:
        self._nopass = False
        if self._found is None:
            return
        present = self._found.present.get(password, "")
        text = present if present in self._passwords else self._found.hashes[password]
        if text not in self._passwords:
            self._passwords.append(text)

    def _remove_password(self, password: bytes) -> None:
        if self._found is None:
            return
        for text in (self._found.present.get(password, ""), self._found.hashes.get(password, "")):
            if text in self._passwords:
                self._passwords.remove(text)
                return
        raise RuleError(NO_PASSWORD)


def secrets_of(account: Account) -> list[bytes]:
    """Return what is shown of a user's secrets."""
    return [token.encode() for token in account.tokens] + [CHOSEN for _ in account.passwords]


def selector_of(grant: Grant, categories: AclCategories) -> list[bytes]:
    """Return rules for a grant, without those about a user."""
    return [*keys_of(grant), *(channels_of(grant) or [b"resetchannels"]), *commands_of(grant, categories)]


def line_of(user: User, categories: AclCategories) -> bytes:
    """Return the line of ACL LIST for a user."""
    account = user.account
    root, *selectors = account.grants.grants or (NO_GRANT,)
    words = [b"user", user.name.encode(), b"on" if account.enabled else b"off"]
    words += [b"nopass"] if account.nopass else [b"#" + shown for shown in secrets_of(account)]
    words += selector_of(root, categories)
    words += [b"(" + b" ".join(selector_of(selector, categories)) + b")" for selector in selectors]
    return b" ".join(words)
