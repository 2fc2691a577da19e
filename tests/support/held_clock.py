"""A clock that stands still until a test moves it, for other processes: for kvs, and for programs in C.

As a script it runs kvs by such a clock: ``held_clock.py CLOCK FLAGS...``.
"""

import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path
from struct import Struct
from typing import Final

from dependency_injector import providers

import kvs.bootstrap
from kvs.__main__ import main

SOURCE: Final = Path(__file__).with_suffix(".c")
_MS: Final = Struct("=q")


class HeldClock:
    """A clock in a file.

    Args:
        path: The file; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("a+b") as file:
            file.truncate(_MS.size)
            self._memory = mmap.mmap(file.fileno(), _MS.size)

    def now_ms(self) -> int:
        """Return milliseconds since 1970."""
        now_ms: int = _MS.unpack(self._memory)[0]
        return now_ms

    def set(self, now_ms: int) -> None:
        """Set it."""
        self._memory[:] = _MS.pack(now_ms)

    def move(self, by_ms: int) -> None:
        """Let so much time pass."""
        self.set(self.now_ms() + by_ms)

    def close(self) -> None:
        """Leave the file to others."""
        self._memory.close()

    def preloaded(self, directory: Path) -> dict[str, str]:
        """Return the environment of a program in C that goes by this clock; its timers do not. Needs a C compiler."""
        library = directory / "held_clock.so"
        compiler = shutil.which("cc")
        assert compiler is not None
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
        return {**os.environ, "LD_PRELOAD": str(library), "HELD_CLOCK": str(self.path)}


def _run(clock: HeldClock) -> None:
    """Run kvs with the arguments of this process."""
    held = providers.Object(lambda: (clock.now_ms() + 0.5) / 1000)  # within the millisecond, whatever is rounded
    kvs.bootstrap.Container.clock.override(held)
    kvs.bootstrap.Container.wall_clock.override(held)
    main()


if __name__ == "__main__":
    _run(HeldClock(Path(sys.argv.pop(1))))
