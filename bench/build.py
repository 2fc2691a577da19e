"""Compile the two C programs, the load generator and the echo server."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

from bench.errors import BenchError

HERE: Final = Path(__file__).parent
OUTPUT: Final = HERE / "build"
FLAGS: Final = ("-O2", "-Wall", "-Wextra")
SOURCES: Final = {"loadgen": ("loadgen.c", "wire.c", "etcd_wire.c"), "echo": ("echo.c",)}


def program(name: str) -> Path:
    """Return the path of a compiled program, which is rebuilt when any source is newer."""
    binary = OUTPUT / name
    newest = max(path.stat().st_mtime for path in HERE.glob("*.[ch]"))
    if not binary.exists() or binary.stat().st_mtime < newest:
        _compile(binary, SOURCES[name])
    return binary


def _compile(binary: Path, sources: tuple[str, ...]) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        raise BenchError("no C compiler: install one that is called cc (Debian: apt install gcc)")
    OUTPUT.mkdir(exist_ok=True)
    command = [compiler, *FLAGS, "-o", str(binary), *(str(HERE / source) for source in sources)]
    if subprocess.run(command, check=False).returncode != 0:
        raise BenchError(f"cannot compile {', '.join(sources)}")
