"""What the status page shows, as JSON."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from kvs.adapters.inbound.net.collector import Collected, OpenTransaction
from kvs.adapters.inbound.protocol.slow_log import SlowCommand
from kvs.application.conflict_keys import ConflictKey
from kvs.application.figures import Reading, for_info
from kvs.ports.histogram import Counts

LONGEST: Final = 200
"""Characters shown of a key, a name or an argument."""


def encode(collected: Collected | None, figures: Reading, about: Mapping[str, object]) -> bytes:
    """Return what the page shows.

    Args:
        collected: What the loop has collected; None: no server runs.
        figures: The same figures, or what there is of them.
        about: What is not about the server, but about this client.
    """
    shown: dict[str, Any] = {
        **about,
        "figures": for_info(figures),
        "commands": _commands(figures),
        "append": _counts(figures.get("append_ns")),
        "errors": figures.get("errors", {}),
        "aborts": figures.get("aborts_by_reason", {}),
    }
    if collected is not None:
        shown |= {
            "unix_s": collected.unix_s,
            "seen_s": collected.seen_s,
            "transactions": [_transaction(each) for each in collected.transactions],
            "conflict_keys": [_conflict_key(each) for each in collected.conflict_keys],
            "slow_commands": [_slow_command(each) for each in collected.slow_commands],
        }
    return orjson.dumps(shown)


def printable(data: bytes) -> str:
    """Return bytes as text that looks like what it is: what cannot be seen, or turns text around, is escaped."""
    text = data.decode("utf-8", "backslashreplace")
    cut = text[:LONGEST]
    shown = cut if cut.isprintable() else "".join([each if each.isprintable() else _escape(each) for each in cut])
    return shown + "…" if len(text) > LONGEST else shown


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _commands(figures: Reading) -> list[dict[str, Any]]:
    durations, failed = figures.get("command_ns"), figures.get("commands_failed")
    if not isinstance(durations, dict) or not isinstance(failed, dict):
        return []
    return [{"name": name, "failed": failed.get(name, 0), **_counts(counts)} for name, counts in durations.items()]


def _counts(counts: object) -> dict[str, Any]:
    """Return a distribution: its buckets that are not empty, by number, and the sum."""
    if not isinstance(counts, Counts):
        return {}
    return {"buckets": [[at, count] for at, count in enumerate(counts.buckets) if count], "total": counts.total}


def _transaction(each: OpenTransaction) -> dict[str, Any]:
    return {
        "session": each.session,
        "age_s": round(each.age_s, 3),
        "depth": each.depth,
        "bytes": each.held_bytes,
        "address": printable(each.address.encode()),
        "name": printable(each.name),
        "user": printable(each.user.encode()),
    }


def _conflict_key(each: ConflictKey) -> dict[str, Any]:
    return {
        "key": printable(each.key),
        "is_prefix": each.is_prefix,
        "conflicts": each.conflicts,
        "excess": each.excess,
    }


def _slow_command(each: SlowCommand) -> dict[str, Any]:
    return {
        "unix_s": each.unix_s,
        "duration_us": each.duration_us,
        "arguments": [printable(argument) for argument in each.arguments],
        "address": printable(each.address),
        "name": printable(each.name),
    }
