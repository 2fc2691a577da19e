"""Turns what strace recorded of a server into events: what changed its files, what was synced, what it replied.

A change is an event when its call has returned, a sync is two, at its beginning and its end, and a reply is one when
its call begins, for from then on the client may have it. So the order is never better for the server than it was.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tests.faults.strace import SENDS, Call


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """The data directory was made."""


@dataclass(frozen=True, slots=True)
class Create:
    """A file was opened, and made if there was none."""

    name: str


@dataclass(frozen=True, slots=True)
class Remove:
    """A name was removed."""

    name: str


@dataclass(frozen=True, slots=True)
class Rename:
    """A file got another name."""

    name: str
    new: str


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes were written to a file."""

    name: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file was given a size."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class SyncBegun:
    """A sync began: of a file, of the data directory (``.``), or of the one it is in (``..``)."""

    name: str
    number: int


@dataclass(frozen=True, slots=True)
class SyncEnded:
    """The sync of that number has succeeded."""

    number: int


@dataclass(frozen=True, slots=True)
class Reply:
    """Bytes were sent to the client that has this port."""

    port: int
    data: bytes


Change: TypeAlias = MakeDirectory | Create | Remove | Rename | Write | Truncate
Event: TypeAlias = Change | SyncBegun | SyncEnded | Reply


class UnknownCallError(Exception):
    """Raised for a call that files can be changed with and that is not understood."""


def events_of(calls: Sequence[Call], directory: Path) -> list[Event]:
    """Return what happened to a data directory, and what was replied, in order."""
    placed = [placed for call in calls for placed in _events_of(call, directory)]
    return [event for _, event in sorted(placed, key=lambda one: one[0])]


def _events_of(call: Call, directory: Path) -> Iterator[tuple[int, Event]]:
    """Return the events of a call, and when each happened."""
    if call.name in ("write", *SENDS) and call.target.startswith("TCP:"):
        port = int(call.target.rpartition(":")[2].rstrip("]"))
        yield call.began, Reply(port, call.text if call.result is None else call.text[: max(call.result, 0)])
        return
    name = _name(call.target or call.text.decode(errors="replace"), directory)
    if call.name == "openat":
        name = _name(call.text.decode(errors="replace"), directory)
    if name is None or "(deleted)" in call.arguments or call.result is None or call.result < 0:
        return
    if call.name in ("fsync", "fdatasync"):
        yield call.began, SyncBegun(name, call.began)
        yield call.ended, SyncEnded(call.began)
        return
    change = _change(call, name)
    if change is not None:
        yield call.ended, change


def _change(call: Call, name: str) -> Change | None:
    match call.name:
        case "pwrite64":
            return Write(name, call.figures[1], call.text[: call.result])
        case "ftruncate":
            return Truncate(name, call.figures[0])
        case "unlink":
            return Remove(name)
        case "mkdir" if name == ".":
            return MakeDirectory()
        case "openat" if "O_TRUNC" not in call.arguments:
            return Create(name) if "O_CREAT" in call.arguments else None
    raise UnknownCallError(f"{call.name}({call.arguments[:200]})")


def _name(path: str, directory: Path) -> str | None:
    """Return the name of a file in the directory, ``.`` or ``..``; None if it is elsewhere."""
    found = Path(path)
    if found == directory:
        return "."
    if found == directory.parent:
        return ".."
    return found.name if found.parent == directory else None
