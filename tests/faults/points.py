"""The points at which a fault can meet the server: every system call that changes its files or makes changes last.

They fall into five *parts*. ``creation`` is a start without any files, one commit and the stop; ``recovery`` is a start
with what a killed server has left, one commit and the stop; ``upgrade`` is a start with what a killed server of version
0.1.0 has left, one commit and the stop; ``loop`` and ``compaction`` are the two threads while the script is played, the
loop with the stop behind it. How many calls there are is learnt from a recording of each.
"""

import random
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from kvs.domain.keyspace import stored_key
from kvs.engine import StorageOpenError
from tests.faults import strace
from tests.faults.ledger import Data, History, Progress, difference
from tests.faults.recovery import recover
from tests.faults.server import TIMEOUT_S, Players, ServerProcess
from tests.faults.strace import Fault
from tests.faults.workload import KEYS, Script, write_script
from tests.support.former_format import write_former

Part: TypeAlias = Literal["creation", "recovery", "upgrade", "journal", "compaction"]
"""The first three are of the main thread, the others are threads."""

WORKERS: Final = 2
MARGIN: Final = 1.05
"""How many more points than were counted are tried: from run to run compaction meets the journal at another place."""

PROBE: Final = b"probe"
SCRIPT: Final[Script] = write_script()
HISTORY: Final = History(SCRIPT)

FORMER_ENTRIES: Final = [(key, key * 200) for key in (*KEYS, *(b"\xff" * count + b"k" for count in range(1, 20)))]
FORMER_JOURNAL: Final = [*((key, key * 2) for key in KEYS[::3]), (KEYS[1], None), (b"\xffk", None), (b"\xff\0", b"v")]
"""Keys that begin with a byte 0xFF are renamed by the upgrade."""


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """Yield a directory in memory, where a sync costs nothing: a kill keeps what the system has been given."""
    memory = Path("/dev/shm")  # noqa: S108  # made unique below
    with tempfile.TemporaryDirectory(prefix="kvs-", dir=memory if memory.is_dir() else None) as name:
        yield Path(name).resolve()


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """One system call of a run."""

    part: Part
    call: str
    number: int

    def __str__(self) -> str:
        return f"{self.call} {self.number} of {self.part}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a server that was to meet a fault.

    Attributes:
        directory: Its data directory.
        listened: Whether it got so far.
        answered: Whether it has answered everything it was sent.
        exit_code: Its exit code.
        acknowledged: What it has acknowledged of the script, in this run or, if this was a recovery, in the one before.
        upgraded: What the directory held before, if this was an upgrade.
        probed: Whether it has acknowledged the probe.
        failures: Events that tell of errors.
        lines: What it said besides events.
    """

    directory: Path
    listened: bool
    answered: bool
    exit_code: int
    acknowledged: list[int]
    upgraded: Data | None
    probed: bool
    failures: list[dict[str, Any]]
    lines: list[str]

    @property
    def gave_up(self) -> bool:
        """Whether it ended because its engine failed, even if it was being asked to stop at that moment."""
        return any(failure["event"] == "sync_failed" for failure in self.failures)

    def violation(self) -> str | None:
        """Recover the directory; return how its data violate a promise, or None."""
        try:
            data = recover(self.directory, use=True)
        except StorageOpenError as error:
            return str(error)
        if data.pop(PROBE, None) is None and self.probed:
            return "the probe was acknowledged and is lost"
        if self.upgraded is not None:
            return difference(data, self.upgraded)
        return HISTORY.violation(data, self.acknowledged)


class Stage:
    """Where runs take place: a directory for all of them, and what a killed server has left, to recover from."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._left = directory / "left"
        progress = Progress(HISTORY)
        with ServerProcess(self._left) as server:
            assert server.listens()
            with Players(server, progress) as players:
                assert players.play(SCRIPT)
        self._acknowledged_before = progress.acknowledged
        self._former = directory / "former"
        former = write_former(self._former, FORMER_ENTRIES, FORMER_JOURNAL, killed=True)
        self._former_data: Data = {stored_key(key): value for key, value in former.items()}
        self._counts: dict[Part, Counter[str]] = {
            "creation": self._record("creation", play=False)[0],
            "recovery": self._record("recovery", play=False)[0],
            "upgrade": self._record("upgrade", play=False)[0],
        }
        _, self._counts["journal"], self._counts["compaction"] = self._record("creation", play=True)

    def points(self) -> list[Point]:
        """Return all of them."""
        return [
            Point(part, call, number)
            for part, calls in self._counts.items()
            for call, count in calls.items()
            for number in range(1, int(count * (MARGIN if part in ("journal", "compaction") else 1)) + 1)
        ]

    def counted(self) -> str:
        """Return how many points there are in each part, for people."""
        return ", ".join(f"{calls.total()} in {part}" for part, calls in self._counts.items())

    def meet(self, point: Point, effect: str, *, lasting: bool = False) -> Outcome:
        """Run a server that meets a fault at a point; stop it if nothing ends it before."""
        fault = Fault(point.call, point.number, effect, lasting)
        directory = self._new_directory(point.part)
        plays = point.part in ("journal", "compaction")
        before = [] if plays else strace.launch_with(fault, directory)
        progress = Progress(HISTORY)
        answered = probed = False
        with ServerProcess(directory, before=before) as server, ExitStack() as stack:
            listened = server.listens()
            if listened and plays:
                stack.enter_context(strace.attached(fault, directory, server.thread(point.part)))
                with Players(server, progress) as players:
                    answered = players.play(SCRIPT)
            elif listened:
                answered = probed = _probe(server)
            ends_itself = listened and (not answered or bool(server.events("compaction_failed")))
            exit_code = server.wait_exit() if ends_itself or not listened else server.stop()
            return Outcome(
                directory,
                listened,
                answered,
                exit_code,
                self._acknowledged_before if point.part == "recovery" else progress.acknowledged,
                self._former_data if point.part == "upgrade" else None,
                probed,
                server.failures(),
                server.other_lines,
            )

    def _new_directory(self, part: Part) -> Path:
        directory = Path(tempfile.mkdtemp(dir=self._directory)) / "data"
        if part == "recovery":
            shutil.copytree(self._left, directory)
        elif part == "upgrade":
            shutil.copytree(self._former, directory)
        return directory

    def _record(self, part: Part, *, play: bool) -> list[Counter[str]]:
        """Record a run without faults; return how many calls of each name each thread made."""
        directory = self._new_directory(part)
        recording = directory.parent / "recording"
        with ServerProcess(directory, before=strace.recording_to(recording)) as server:
            assert server.listens()
            if play:
                with Players(server, Progress(HISTORY)) as players:
                    assert players.play(SCRIPT)
            else:
                assert _probe(server)
            assert server.stop() == 0
            return strace.count_calls(strace.parse(recording, server.pid), directory, listening=play)


def _probe(server: ServerProcess) -> bool:
    """Have a key stored that is not in the script; return whether that was acknowledged."""
    try:
        with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as sock, sock.makefile("rb") as replies:
            sock.sendall(b"PUT %b value\n" % PROBE)
            return replies.readline() == b'{"status": "Ok"}\n'
    except ConnectionError:
        return False


def sampled(points: list[Point], count: int, seed: int) -> list[Point]:
    """Return some of the points: one of each kind of call in each part, and as many of all as are wanted."""
    chance = random.Random(seed)
    chance.shuffle(points)
    kinds = {(point.part, point.call): point for point in points}
    rest = [point for point in points if point not in kinds.values()]
    return [*kinds.values(), *rest][:count]


def each(points: Sequence[Point], check: Callable[[Point], str | None]) -> None:
    """Check points, some at a time.

    Raises:
        AssertionError: Something is wrong at some of them; it names them all.
    """
    with ThreadPoolExecutor(WORKERS) as workers:
        wrong = [f"{point}: {told}" for point, told in zip(points, workers.map(check, points), strict=True) if told]
    assert not wrong, "\n".join(wrong)
