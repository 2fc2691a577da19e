"""Compiles the hot modules with mypyc where there is a C compiler; all else about the package is in pyproject.toml.

The environment variable ``KVS_BUILD`` decides: ``auto`` (the default) compiles if it can, ``pure`` never does, and
``compiled`` fails where it cannot. An editable install is pure, so that an edited file is what runs.
"""

import os
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from setuptools import setup

HOT_MODULES = [
    "domain/updates",
    "domain/errors",
    "domain/commit",
    "adapters/inbound/resp/glob",
    "domain/transaction",
    "domain/values",
    "ports/session",
    "ports/storage",
    "ports/autocommit",
    "application/answers",
    "application/memory_budget",
    "application/listing",
    "application/session",
    "application/slot",
    "application/transact",
    "application/registry",
    "application/operations",
    "application/watch",
    "application/executor",
    "adapters/storage/memory/versions",
    "adapters/storage/journaled",
    "adapters/storage/memory/key_index",
    "adapters/storage/memory/storage",
    "adapters/storage/sqlite/wal_scan",  # reads every byte of a log
    "adapters/inbound/resp/commands/catalogue",
    "adapters/inbound/resp/commands/client_line",
    "adapters/inbound/resp/commands/clients",
    "adapters/inbound/resp/commands/connection",
    "adapters/inbound/resp/command",
    "adapters/inbound/resp/connection",
    "adapters/inbound/resp/commands/subcommands",
    "adapters/inbound/resp/cursors",
    "adapters/inbound/resp/commands/info",
    "adapters/inbound/resp/commands/keys",
    "adapters/inbound/resp/limits",
    "adapters/inbound/resp/parser",
    "adapters/inbound/resp/context",
    "adapters/inbound/resp/replies",
    "adapters/inbound/resp/fast_path",
    "adapters/inbound/resp/commands/server",
    "adapters/inbound/resp/commands/strings",
    "adapters/inbound/resp/commands/registry",
    "adapters/inbound/resp/commands/transactions",
    "adapters/inbound/resp/wording",
    "adapters/inbound/net/asyncio_backend",  # only because its clients are of a compiled class
    "adapters/inbound/net/backend",
    "adapters/inbound/net/channel",
    "adapters/inbound/net/kernel",
    "adapters/inbound/net/progress",
    "adapters/inbound/net/sweep",
    "adapters/inbound/net/tick",
    "adapters/inbound/protocol/clients",
    "adapters/inbound/net/registry",
    "adapters/inbound/protocol/connection",
    "adapters/inbound/net/epoll",
    "adapters/inbound/protocol/buffer",
    "adapters/inbound/protocol/command",
    "adapters/inbound/protocol/gate",
    "adapters/inbound/line/replies",
    "adapters/inbound/net/timeouts",
    "adapters/inbound/line/connection",
    "adapters/inbound/line/commands",
    "adapters/inbound/line/keys",
    "adapters/inbound/line/fast_path",
    "adapters/inbound/protocol/errors",
    "adapters/inbound/protocol/messages",
    "adapters/inbound/protocol/detection",
    "adapters/inbound/net/server",
]


def extensions() -> list[Any]:
    """Return what is to be compiled: all of the hot modules, or nothing."""
    wanted = os.environ.get("KVS_BUILD", "auto")
    if wanted not in ("auto", "pure", "compiled"):
        sys.exit(f"KVS_BUILD: {wanted!r} is not allowed; allowed: auto, pure, compiled")
    if wanted == "pure" or "editable_wheel" in sys.argv:
        return []
    missing = what_is_missing()
    if missing:
        if wanted == "compiled":
            sys.exit(f"KVS_BUILD=compiled, but {missing}")
        print(f"kvs: {missing}, so this is the pure Python build; it does the same, slower", file=sys.stderr)  # noqa: T201
        return []
    from mypyc.build import mypycify  # noqa: PLC0415  # slow, and of no use above

    paths = [f"src/kvs/{module}.py" for module in HOT_MODULES if module_fits(module)]
    return list(mypycify(["--strict", *paths], opt_level="3"))


def module_fits(module: str) -> bool:
    """Return whether a module is for this system."""
    return sys.platform == "linux" or not module.endswith("epoll_transport")


def what_is_missing() -> str:
    """Return what there is not, to compile an extension; empty if that works."""
    from setuptools._distutils.ccompiler import new_compiler  # noqa: PLC0415
    from setuptools._distutils.sysconfig import customize_compiler  # noqa: PLC0415

    with TemporaryDirectory() as directory:
        source = Path(directory, "probe.c")
        source.write_text("#include <Python.h>\n")
        try:
            compiler = new_compiler()
            customize_compiler(compiler)
            compiler.compile([str(source)], output_dir=directory, include_dirs=[sysconfig.get_path("include")])
        except Exception as error:  # noqa: BLE001  # its type differs from one setuptools to the next
            return f"C cannot be compiled here ({type(error).__name__})"
    return ""


setup(ext_modules=extensions())
