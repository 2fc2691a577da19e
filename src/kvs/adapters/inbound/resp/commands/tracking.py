"""CLIENT TRACKING: tells a client of changes to what it has read, so that it can keep it."""

from typing import Final

from kvs.adapters.inbound.protocol.prefixes import MAX_LENGTHS
from kvs.adapters.inbound.protocol.tracking import KEYS_PER_UNIT
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.adapters.inbound.resp.replies import RESP3
from kvs.adapters.inbound.resp.tracking import ClientTracking
from kvs.adapters.inbound.resp.wording import excerpt
from kvs.domain.errors import LimitError, UsageError
from kvs.domain.grants import READ
from kvs.domain.updates import integer
from kvs.domain.values import Key
from kvs.ports.session import Session, Steps

MAX_PREFIXES: Final = 1024
"""Prefixes of one client."""


def tracking(session: Session, context: ClientContext, arguments: list[bytes]) -> Steps[bytes]:
    """Run CLIENT TRACKING."""
    options: set[bytes] = set()
    prefixes: list[Key] = []
    redirected = False
    words = iter(arguments[3:])
    for word in words:
        option = word.lower()
        value = next(words, None) if option in (b"redirect", b"prefix") else b""
        if value is None or option not in (b"redirect", b"prefix", b"bcast", b"optin", b"optout", b"noloop"):
            raise UsageError("syntax error")
        if option == b"prefix":
            prefixes.append(value)
        elif option == b"redirect":
            redirected = _check_redirection(context, value, redirected=redirected)
        else:
            options.add(option)
    mode = arguments[2].lower()
    if mode == b"off":
        context.end_tracking()
    elif mode == b"on":
        if context.shared.tracking.is_full:
            raise LimitError("The clients together hold max_clients_bytes or more; CLIENT TRACKING ON would need some.")
        _check_options(context, options, prefixes)
        if redirected or context.protocol is not RESP3:
            raise UsageError("CLIENT TRACKING needs RESP3 (HELLO 3), and no REDIRECT: there is no pub/sub to send by")
        yield from _check_prefixes(session, context, prefixes)
        _begin(session, context, options, prefixes)
    else:
        raise UsageError("syntax error")
    return replies.OK


def bcast_ranges(arguments: list[bytes]) -> list[tuple[int, Key]]:
    """Return the ranges of keys of whose changes CLIENT TRACKING sends messages without a read: those of BCAST."""
    prefixes: list[Key] = []
    broadcasts = False
    words = iter(arguments[3:])
    for word in words:
        option = word.lower()
        value = next(words, b"") if option in (b"redirect", b"prefix") else b""
        if option == b"prefix":
            prefixes.append(value)
        broadcasts = broadcasts or option == b"bcast"
    return [(READ, prefix) for prefix in prefixes or [b""]] if broadcasts else []


def caching(_: Session, context: ClientContext, arguments: list[bytes]) -> bytes:
    """Run CLIENT CACHING."""
    tracked = context.tracking
    if tracked is None:
        raise UsageError(
            "CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
        )
    word = arguments[2].lower()
    if word == b"yes" and not tracked.opts_in:
        raise UsageError("CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
    if word == b"no" and not tracked.opts_out:
        raise UsageError("CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
    if word not in (b"yes", b"no"):
        raise UsageError("syntax error")
    tracked.is_exception = True
    return replies.OK


def getredir(_: Session, context: ClientContext, __: list[bytes]) -> bytes:
    """Run CLIENT GETREDIR."""
    return replies.number(redirection(context))


def trackinginfo(_: Session, context: ClientContext, __: list[bytes]) -> bytes:
    """Run CLIENT TRACKINGINFO."""
    tracked = context.tracking
    flags = [b"off"]
    prefixes: list[Key] = []
    if tracked is not None:
        prefixes = tracked.tracker.prefixes
        given = tracked.is_exception
        shown = {
            b"on": True,
            b"bcast": tracked.tracker.is_broadcast,
            b"optin": tracked.opts_in,
            b"caching-yes": tracked.opts_in and given,
            b"optout": tracked.opts_out,
            b"caching-no": tracked.opts_out and given,
            b"noloop": tracked.tracker.skips_own,
        }
        flags = [flag for flag, is_set in shown.items() if is_set]
    return context.protocol.mapping(
        [
            (replies.bulk(b"flags"), context.protocol.set_of([replies.bulk(flag) for flag in flags])),
            (replies.bulk(b"redirect"), replies.number(redirection(context))),
            (replies.bulk(b"prefixes"), replies.bulks(prefixes)),
        ]
    )


def redirection(context: ClientContext) -> int:
    """Return which client gets the messages: 0 for the one itself, -1 if there are none."""
    return -1 if context.tracking is None else 0


def _check_redirection(context: ClientContext, value: bytes, *, redirected: bool) -> bool:
    if redirected:
        raise UsageError("A client can only redirect to a single other client")
    number = integer(value)
    if context.shared.clients.describe(number) is None:
        raise UsageError("The client ID you want redirect to does not exist")
    return True


def _check_options(context: ClientContext, options: set[bytes], prefixes: list[Key]) -> None:
    """Check whether options agree with each other, and with those given before."""
    broadcasts, before = b"bcast" in options, context.tracking
    if prefixes and not broadcasts:
        raise UsageError("PREFIX option requires BCAST mode to be enabled")
    if before is not None and before.tracker.is_broadcast != broadcasts:
        raise UsageError(
            "You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it "
            "with a different mode."
        )
    if broadcasts and options & {b"optin", b"optout"}:
        raise UsageError("OPTIN and OPTOUT are not compatible with BCAST")
    if {b"optin", b"optout"} <= options:
        raise UsageError("You can't specify both OPTIN mode and OPTOUT mode")
    if before is not None and ((b"optin" in options and before.opts_out) or (b"optout" in options and before.opts_in)):
        raise UsageError(
            "You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it "
            "with a different mode."
        )


def _check_prefixes(session: Session, context: ClientContext, prefixes: list[Key]) -> Steps[None]:
    """Check that no prefix is one of another."""
    existing = [] if context.tracking is None else context.tracking.tracker.prefixes
    if len(existing) + len(prefixes) > MAX_PREFIXES:
        raise UsageError(f"a client can have at most {MAX_PREFIXES} prefixes")
    if not context.shared.tracking.prefixes.have_room(prefixes):
        raise LimitError(f"The prefixes of all clients would have more than {MAX_LENGTHS} different lengths.")
    for at, prefix in enumerate(prefixes):
        if len(prefix) > context.limits.max_key_bytes:
            raise UsageError(f"The prefix has {len(prefix)} bytes; max_key_bytes is {context.limits.max_key_bytes}.")
        for other in existing:
            if _overlap(prefix, other):
                raise UsageError(_overlapping(prefix, f"an existing prefix '{excerpt(other)}'"))
        for other in prefixes[at + 1 :]:
            if _overlap(prefix, other):
                raise UsageError(_overlapping(prefix, f"another provided prefix '{excerpt(other)}'"))
        session.work.left -= (len(existing) + len(prefixes)) // KEYS_PER_UNIT
        if session.work.left <= 0:
            yield


def _overlap(one: Key, other: Key) -> bool:
    return one.startswith(other) or other.startswith(one)


def _overlapping(prefix: Key, what: str) -> str:
    return f"Prefix '{excerpt(prefix)}' overlaps with {what}. Prefixes for a single client must not overlap."


def _begin(session: Session, context: ClientContext, options: set[bytes], prefixes: list[Key]) -> None:
    tracked = context.tracking
    if tracked is None:
        tracked = context.tracking = ClientTracking(session.id)
    tracker = tracked.tracker
    tracker.is_broadcast = b"bcast" in options
    tracker.skips_own = b"noloop" in options
    tracked.opts_in = b"optin" in options
    tracked.opts_out = b"optout" in options
    context.shared.tracking.add(tracker, (prefixes or [b""]) if tracker.is_broadcast else [])
