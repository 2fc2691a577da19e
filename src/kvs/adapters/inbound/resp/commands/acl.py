"""ACL: users, and what they may run."""

import secrets
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from kvs.adapters.inbound.protocol.command import ANSWERED, OTHER, RELAYED, SECRET, SLOW_COST, USER, VALUE, everywhere
from kvs.adapters.inbound.resp import acl_rules, replies
from kvs.adapters.inbound.resp.acl_categories import AclCategories
from kvs.adapters.inbound.resp.acl_grants import channels_of, commands_of, keys_of
from kvs.adapters.inbound.resp.acl_rules import NO_GRANT
from kvs.adapters.inbound.resp.command import AFTER_EXEC, REFUSED, Handler, RespCommand
from kvs.adapters.inbound.resp.commands.subcommands import container
from kvs.adapters.inbound.resp.context import ClientContext, check_reply
from kvs.adapters.inbound.resp.wording import NAME_BYTES, excerpt
from kvs.application.passwords import Passwords
from kvs.application.refusals import MAX_ENTRIES, Refusal
from kvs.application.users import Change, Users
from kvs.domain.accounts import NEW, Account, is_name
from kvs.domain.errors import LimitError, UsageError
from kvs.domain.grants import Grant
from kvs.domain.updates import integer
from kvs.ports.session import Session, Steps

Categories: TypeAlias = Callable[[], AclCategories]
"""Returns what commands there are: when the table is made, not all are known."""

Find: TypeAlias = Callable[[ClientContext, list[bytes]], RespCommand | None]
"""Returns the command of a request, None if it is unknown."""

USUAL_ENTRIES: Final = 10
USUAL_BITS: Final = 256
MAX_BITS: Final = 4096
BITS_PER_DIGIT: Final = 4

MAX_PASSWORDS: Final = 16
"""Most chosen passwords in one request: each takes a thread a fifth of a second, and as long for each that is there."""

LIST_COST: Final = 20
"""Units of work to describe a user."""


def _whoami(_: Session, context: ClientContext, __: list[bytes]) -> bytes:
    user = context.peer.user
    return context.protocol.null if user is None else replies.bulk(user.name.encode())


def _users(_: Session, context: ClientContext, __: list[bytes]) -> bytes:
    return replies.bulks([name.encode() for name in context.shared.security.users.names()])


def _list(categories: Categories, session: Session, context: ClientContext, _: list[bytes]) -> Steps[bytes]:
    users = context.shared.security.users
    lines: list[bytes] = []
    for name in users.names():
        user = users.get(name)
        if user is not None:
            lines.append(replies.bulk(acl_rules.line_of(user, categories())))
        session.work.left -= LIST_COST
        if session.work.left <= 0:
            yield
    check_reply(context, lines)
    return replies.array(lines)


def _getuser(categories: Categories, _: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    user = context.shared.security.users.get(_text(arguments[2]))
    if user is None:
        return context.protocol.null
    account = user.account
    root, *selectors = account.grants.grants or (NO_GRANT,)
    flags = [b"on" if account.enabled else b"off", *([b"nopass"] if account.nopass else [])]
    described = [context.protocol.mapping(_fields(selector, categories())) for selector in selectors]
    return context.protocol.mapping(
        [
            (replies.bulk(b"flags"), context.protocol.set_of([replies.bulk(flag) for flag in flags])),
            (replies.bulk(b"passwords"), replies.bulks(acl_rules.secrets_of(account))),
            *_fields(root, categories()),
            (replies.bulk(b"selectors"), replies.array(described)),
        ]
    )


def _fields(grant: Grant, categories: AclCategories) -> list[tuple[bytes, bytes]]:
    return [
        (replies.bulk(name), replies.bulk(b" ".join(rules)))
        for name, rules in (
            (b"commands", commands_of(grant, categories)),
            (b"keys", keys_of(grant)),
            (b"channels", channels_of(grant)),
        )
    ]


def _cat(categories: Categories, _: Session, __: ClientContext, arguments: list[bytes]) -> bytes:
    if len(arguments) > 3:
        raise _unknown(arguments)
    if len(arguments) == 2:
        return replies.bulks(categories().listed)
    names = categories().listed.get(arguments[2].lower())
    if names is None:
        raise UsageError(f"Unknown category '{excerpt(arguments[2])}'")
    return replies.bulks(names)


def _genpass(_: Session, __: ClientContext, arguments: list[bytes]) -> bytes:
    if len(arguments) > 3:
        raise _unknown(arguments)
    bits = USUAL_BITS if len(arguments) == 2 else integer(arguments[2])
    if not 0 < bits <= MAX_BITS:
        raise UsageError(
            "ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096"
        )
    digits = -(-bits // BITS_PER_DIGIT)
    return replies.bulk(secrets.token_hex(-(-digits // 2))[:digits].encode())


def _dryrun(find: Find, _: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    user = context.shared.security.users.get(_text(arguments[2]))
    if user is None:
        raise UsageError(f"User '{excerpt(arguments[2])}' not found")
    request = arguments[3:]
    command = find(context, request)
    if command is None:
        raise UsageError(f"Command '{excerpt(arguments[3])}' not found")
    if not command.takes(len(request)):
        raise UsageError(command.usage)
    name = command.grant_name
    grants, categories = user.grants, command.categories
    if command.is_open or grants.unrestricted:
        return replies.OK
    if not grants.allows_command(name, categories):
        return replies.bulk(b"This user has no permissions to run the '%b' command" % name)
    key = grants.refused(name, categories, command.uses_of(request), command.ranges(request))
    if key is None:
        return replies.OK
    return replies.bulk(b"This user has no permissions to access the '%b' key" % key[:NAME_BYTES])


def _log(session: Session, context: ClientContext, arguments: list[bytes]) -> Steps[bytes]:
    security = context.shared.security
    if len(arguments) > 3:
        raise _unknown(arguments)
    if len(arguments) == 3 and arguments[2].lower() == b"reset":
        security.refusals.clear()
        return replies.OK
    number = USUAL_ENTRIES if len(arguments) == 2 else integer(arguments[2])
    entries = []
    for refusal in security.refusals.newest(min(max(number, 0), MAX_ENTRIES)):
        entries.append(_entry(context, refusal))
        session.work.left -= LIST_COST
        if session.work.left <= 0:
            yield
    check_reply(context, entries)
    return replies.array(entries)


def _entry(context: ClientContext, refusal: Refusal) -> bytes:
    age_s = b"%.3f" % max(0.0, context.shared.clock() - refusal.created_s)
    texts = {
        b"reason": refusal.reason,
        b"context": refusal.context,
        b"object": refusal.object,
        b"username": refusal.username,
    }
    return context.protocol.mapping(
        [
            (replies.bulk(b"count"), replies.number(refusal.count)),
            *[(replies.bulk(name), replies.bulk(text.encode(errors="replace"))) for name, text in texts.items()],
            (replies.bulk(b"age-seconds"), context.protocol.double(age_s)),
            (replies.bulk(b"client-info"), replies.bulk(refusal.client.encode())),
        ]
    )


def _save(_: Session, context: ClientContext, __: list[bytes]) -> bytes:
    if not context.shared.security.users.is_saved:
        raise UsageError("ACL SAVE needs the setting users_file: without it, changes hold until the server stops")
    return replies.OK  # each change has been saved before it took effect


def _load(_: Session, __: ClientContext, ___: list[bytes]) -> bytes:
    raise UsageError("ACL LOAD is not supported: send SIGHUP to the server, which reads its users file again")


# Changes. They wait for a thread, that hashes passwords, and for another, that saves users.


def _setuser(categories: Categories, _: Session, context: ClientContext, arguments: list[bytes]) -> Steps[bytes]:
    name = _text(arguments[2])
    if not is_name(name):
        raise UsageError("Usernames can't contain spaces or null characters")
    rules = acl_rules.merged(arguments[3:])
    security = context.shared.security
    user = security.users.get(name)
    account = NEW if user is None else user.account
    acl_rules.changed(account, rules, categories(), None)
    passwords = Passwords()
    added, removed = acl_rules.chosen(rules, b">"), acl_rules.chosen(rules, b"<")
    if added or removed:
        if len({*added, *removed}) > MAX_PASSWORDS:
            raise LimitError(f"ACL SETUSER takes at most {MAX_PASSWORDS} passwords")
        passwords = yield from security.hash_passwords(context.peer, account, added, removed)

    def alter(account: Account) -> Account:
        return acl_rules.changed(account, rules, categories(), passwords)

    yield from _saved(context, lambda users, done: users.apply(name, alter, done))
    return replies.OK


def _deluser(_: Session, context: ClientContext, arguments: list[bytes]) -> Steps[bytes]:
    names = [_text(name) for name in arguments[2:]]
    if "default" in names:
        raise UsageError("The 'default' user cannot be removed")
    change = yield from _saved(context, lambda users, done: users.remove(names, done))
    return replies.number(len(change.changed))


def _saved(context: ClientContext, begin: Callable[[Users, Callable[[Change], None]], Change]) -> Steps[Change]:
    """Begin a change of users, and return it when it has taken effect.

    Raises:
        KvsError: It has not.
    """
    peer = context.peer
    peer.alters_users = True  # so that this client learns how it has ended, even if it has removed itself
    try:
        change = begin(context.shared.security.users, lambda _: peer.go_on())
        if not change.finished:
            peer.checking = True
            try:
                while not change.finished:
                    yield
            finally:
                peer.checking = False
                change.forget()
    finally:
        peer.alters_users = False
    user = peer.user
    if user is not None and not user.enabled:
        context.closing = True
    if change.error is not None:
        raise change.error
    return change


def _text(name: bytes) -> str:
    return name.decode(errors="surrogateescape")


def _unknown(arguments: list[bytes]) -> UsageError:
    name = excerpt(arguments[1], NAME_BYTES)
    return UsageError(f"unknown subcommand or wrong number of arguments for '{name}'. Try ACL HELP.")


def _subcommand(
    name: str,
    run: Handler,
    arguments: tuple[str, ...] = (OTHER,),
    repeated: int = 1,
    multi_policy: int = AFTER_EXEC,
    on_standby: int = ANSWERED,
) -> RespCommand:
    return RespCommand(
        f"acl|{name}",
        run,
        arguments,
        repeated,
        cost=SLOW_COST,
        multi_policy=multi_policy,
        is_local=everywhere,
        on_loop=True,
        on_standby=on_standby,
    )


def command(categories: Categories, find: Find) -> RespCommand:
    """Return ACL, given what commands there are."""
    return container(
        "acl",
        [
            _subcommand("cat", partial(_cat, categories)),
            _subcommand("deluser", _deluser, (OTHER, USER), multi_policy=REFUSED, on_standby=RELAYED),
            _subcommand("dryrun", partial(_dryrun, find), (OTHER, USER, OTHER, VALUE)),
            _subcommand("genpass", _genpass),
            _subcommand("getuser", partial(_getuser, categories), (OTHER, USER)),
            _subcommand("list", partial(_list, categories)),
            _subcommand("load", _load),
            _subcommand("log", _log),
            _subcommand("save", _save),
            _subcommand(
                "setuser",
                partial(_setuser, categories),
                (OTHER, USER, SECRET),
                multi_policy=REFUSED,
                on_standby=RELAYED,
            ),
            _subcommand("users", _users),
            _subcommand("whoami", _whoami),
        ],
    )
