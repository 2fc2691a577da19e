"""Records a server that plays the script, and tries every moment at which the machine could have lost power."""

import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from kvs.engine import StorageOpenError
from tests.faults import strace
from tests.faults.disk import Disk, Image, Kept, lay_out
from tests.faults.ledger import History, Progress
from tests.faults.points import scratch_directory
from tests.faults.recording import Event, Reply, SyncBegun, SyncEnded, events_of
from tests.faults.recovery import recover
from tests.faults.server import TIMEOUT_S, Players, ServerProcess
from tests.faults.workload import Script

USED_EACH: Final = 4
"""In one of how many cases what was recovered is used, too."""

UNFINISHED: Final = b"unfinished"
PONG: Final = b'{"status": "Ok", "result": "PONG"}'


@dataclass(frozen=True, slots=True)
class Recording:
    """What a server did.

    Attributes:
        events: What happened to the data directory and what was replied, in order.
        ports: The connection of the script that a client's port belongs to.
    """

    events: list[Event]
    ports: dict[int, int]


def record(
    history: History, script: Script, directory: Path, *flags: str, storage: str, env: Mapping[str, str]
) -> Recording:
    """Run a server for each phase of a script, all on the same data, and record them.

    The first is killed in the midst of a commit, which nobody has acknowledged; the others are stopped.
    """
    events: list[Event] = []
    ports: dict[int, int] = {}
    progress = Progress(history)
    data = directory / "data"
    for number, phase in enumerate(script):
        output = directory / f"recording{number}"
        before = strace.recording_to(output)
        with ServerProcess(data, *flags, before=before, env=env, storage=storage) as server:
            assert server.listens(), server.other_lines
            with Players(server, progress) as players:
                assert players.play([phase])
                ports |= {port: at for at, port in enumerate(players.ports)}
            if number == 0:
                _kill_amid_a_commit(server)
            else:
                assert server.stop() == 0
            events += events_of(strace.parse(output, server.pid), data)
        output.unlink()
    return Recording(events, ports)


def _kill_amid_a_commit(server: ServerProcess) -> None:
    """Have a value stored that is larger than the log has ever been; kill the server when the log begins to grow."""
    log = server.directory / "kvs.db-wal"
    size = log.stat().st_size
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as sock:
        sock.sendall(b"PUT %b %b\n" % (UNFINISHED, bytes(size + (1 << 20)).replace(b"\0", b"x")))
        deadline_s = time.monotonic() + TIMEOUT_S
        while log.stat().st_size == size:
            assert time.monotonic() < deadline_s, "the log does not grow"
        server.kill()
        server.wait_exit()


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """A loss of power.

    Attributes:
        moment: Number of the event before which it happens.
        kept: What the disk has kept of what it was not made to keep, by name.
        variant: Tells cases apart that chance makes different.
    """

    moment: int
    kept: str
    variant: int = 0


def cases_of(recording: Recording, variants: int) -> list[Case]:
    """Return every case.

    The disk is the same from one change to the next, so what is told at the last moment between them covers the others;
    and what it was made to keep is the same up to the end of the next sync.
    """
    cases = []
    moments = [at for at, event in enumerate(recording.events) if not isinstance(event, Reply | SyncBegun)]
    for moment in [*moments, len(recording.events)]:
        if moment == len(recording.events) or isinstance(recording.events[moment], SyncEnded):
            cases.append(Case(moment, Kept.NONE.name))
        cases.append(Case(moment, Kept.ALL.name))
        for kept in (Kept.CALLS, Kept.BLOCKS, Kept.SECTORS):
            cases += [Case(moment, kept.name, variant) for variant in range(variants)]
    return cases


@dataclass(frozen=True, slots=True)
class Crash:
    """What is left when the power is gone.

    Attributes:
        image: The files.
        acknowledged: How many steps of each connection had been acknowledged.
        synced: How many had been when the last sync of the log began that came to its end.
    """

    image: Image
    acknowledged: list[int]
    synced: list[int]


def crashes(recording: Recording, history: History, cases: Sequence[Case]) -> Iterator[tuple[Case, Crash]]:
    """Yield what is left in each case."""
    disk, progress = Disk(), Progress(history)
    rests = dict.fromkeys(recording.ports, b"")
    begun: dict[int, list[int]] = {}
    synced = list(progress.acknowledged)
    waiting = sorted(cases, reverse=True)
    for moment, event in enumerate([*recording.events, None]):
        while waiting and waiting[-1].moment == moment:
            case = waiting.pop()
            yield case, Crash(disk.crash(Kept[case.kept], Random(f"{case}")), list(progress.acknowledged), synced)
        match event:
            case Reply(port, data) if port in recording.ports:
                *lines, rests[port] = (rests[port] + data).split(b"\n")
                for line in lines:
                    if line != PONG:
                        progress.note(recording.ports[port], line)
                continue
            case SyncBegun("kvs.db-wal", number):
                begun[number] = list(progress.acknowledged)
            case SyncEnded(number):
                synced = begun.pop(number, synced)
        if event is not None:
            disk.take(event)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The recovered data of one case, judged.

    Attributes:
        case: The case.
        violation: How the data violate durability ``full``, which keeps every acknowledged commit; None: they do not.
        refusal: Why they were not recovered at all; empty if they were.
        keeps_synced: Whether they are the result of a prefix of the script that has every synced acknowledged step.
        is_prefix: Whether they are the result of any prefix of the script.
    """

    case: Case
    violation: str | None
    refusal: str = ""
    keeps_synced: bool = False
    is_prefix: bool = False


def verdicts(recording: Recording, history: History, cases: Sequence[Case], durability: str) -> Iterator[Verdict]:
    """Recover in every case; in some of them also use the recovered engine."""
    with scratch_directory() as scratch:
        for number, (case, crash) in enumerate(crashes(recording, history, cases)):
            directory = scratch / str(number)
            lay_out(crash.image, directory)
            try:
                data = recover(directory, durability, use=number % USED_EACH == 0)
                data.pop(UNFINISHED, None)  # there if the server was quicker than the kill
            except StorageOpenError as error:
                yield Verdict(case, str(error), refusal=str(error))
            else:
                yield Verdict(
                    case,
                    history.violation(data, crash.acknowledged),
                    keeps_synced=history.is_prefix(data, crash.synced),
                    is_prefix=history.is_prefix(data),
                )
            finally:
                shutil.rmtree(directory, ignore_errors=True)
