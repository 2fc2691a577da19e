"""The figures of a server's requests: calls, time and errors, by command. INFO and LATENCY HISTOGRAM show them.

Commands are counted under their names in small letters, which the protocols share: GET of either is ``get``.
"""

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Final, final

from kvs.ports.histogram import Histogram, bucket_of

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler


NS_PER_S: Final = 1e9

SAMPLE_S: Final = 0.5
"""Shortest time between two samples of the number of calls."""


@final
class CommandFigures:
    """The figures of a command.

    Attributes:
        calls: How often it was run to its end.
        total_ns: How long that took, without the time in which others were served.
        failed: How many of the calls were answered with an error.
        refused: How often it was not run: for its arguments, or for the state of the client or the server.
        durations: How long each call took.
    """

    __slots__ = ("calls", "durations", "failed", "refused", "total_ns")

    def __init__(self) -> None:
        self.calls: i64 = 0
        self.total_ns: i64 = 0
        self.failed: i64 = 0
        self.refused: i64 = 0
        self.durations = Histogram()

    def add(self, calls: "i64", each_ns: "i64", bucket: "i64") -> None:
        """Count calls of the same duration; ``bucket`` is its :func:`bucket_of`."""
        self.calls += calls
        self.total_ns += calls * each_ns
        self.durations.add(bucket, calls)

    def clear(self) -> None:
        """Count from 0 again."""
        self.calls = 0
        self.total_ns = 0
        self.failed = 0
        self.refused = 0
        self.durations.clear()


@final
class Statistics:
    """The figures of all commands.

    Args:
        timer: Monotonic seconds, to measure requests.

    Attributes:
        timer: See above.
        lock: Held where something is counted by a worker or by the loop beside workers; None if there are none.
        errors: Number of errors by code, in capitals.
        commands_per_s: Commands run per second, between the last two samples.
    """

    def __init__(self, timer: Callable[[], float]) -> None:
        self.timer = timer
        self.lock: Lock | None = None
        self.errors: dict[bytes, int] = {}
        self.commands_per_s = 0.0
        self._commands: dict[bytes, CommandFigures] = {}
        self._sampled_s = -1.0
        self._sampled_calls = 0

    def use_workers(self) -> None:
        """Be safe for several threads."""
        self.lock = Lock()

    def of(self, name: bytes) -> CommandFigures:
        """Return the figures of a command, by its name in any case."""
        figures = self._commands.get(name)
        if figures is None:
            lower = name.lower()
            figures = CommandFigures() if lower == name else self.of(lower)
            self._commands[name] = figures  # under this very object, which is found without comparing bytes
        return figures

    def ran(self, name: bytes, duration_ns: "i64", error: bytes) -> None:
        """Count a call, and the code of the error that answered it, if any."""
        if self.lock is None:
            self._count(name, duration_ns, error)
        else:
            with self.lock:
                self._count(name, duration_ns, error)

    def _count(self, name: bytes, duration_ns: "i64", error: bytes) -> None:
        figures = self.of(name)
        figures.add(1, duration_ns, bucket_of(duration_ns))
        if error:
            figures.failed += 1
            self._count_error(error)

    def refused(self, name: bytes, error: bytes) -> None:
        """Count a request that was not run; of one without a name only the error."""
        if self.lock is None:
            self._refuse(name, error)
        else:
            with self.lock:
                self._refuse(name, error)

    def _refuse(self, name: bytes, error: bytes) -> None:
        if name:
            self.of(name).refused += 1
        if error:
            self._count_error(error)

    def failed(self, figures: CommandFigures, error: bytes) -> None:
        """Count an error that answered one of the calls that are counted together."""
        if self.lock is None:
            figures.failed += 1
            self._count_error(error)
        else:
            with self.lock:
                figures.failed += 1
                self._count_error(error)

    def _count_error(self, error: bytes) -> None:
        self.errors[error] = self.errors.get(error, 0) + 1

    def by_name(self) -> dict[bytes, CommandFigures]:
        """Return the figures of the commands that have any, by name in small letters."""
        return {
            name: figures
            for name, figures in sorted(self._commands.items())
            if name.islower() and (figures.calls or figures.refused)
        }

    def calls(self) -> int:
        """Return the number of calls of all commands."""
        total = 0
        for name, figures in list(self._commands.items()):
            if name.islower():
                total += figures.calls
        return total

    def sample(self, now_s: float) -> None:
        """Note how many commands have been run, if some time has passed since the last sample."""
        if 0 <= self._sampled_s <= now_s < self._sampled_s + SAMPLE_S:
            return
        calls = self.calls()
        if now_s > self._sampled_s >= 0:
            self.commands_per_s = max(0, calls - self._sampled_calls) / (now_s - self._sampled_s)
        self._sampled_s, self._sampled_calls = now_s, calls

    def reset(self) -> None:
        """Count from 0 again."""
        for figures in list(self._commands.values()):
            figures.clear()
        self.errors = {}
        self.commands_per_s = 0.0
        self._sampled_s = -1.0
