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
    "domain/changes",
    "domain/errors",
    "domain/globs",
    "domain/transaction",
    "domain/values",
    "ports/inbound",
    "ports/storage",
    "application/answers",
    "application/budget",
    "application/listing",
    "application/session",
    "application/sessions",
    "application/units",
    "application/watches",
    "application/workers",  # only because its sessions are of a compiled class
    "adapters/storage/history",
    "adapters/storage/journaled",
    "adapters/storage/key_tree",
    "adapters/storage/memory",
    "adapters/storage/sqlite/wal_scan",  # reads every byte of a log
    "adapters/inbound/resp/catalogue",
    "adapters/inbound/resp/client_line",
    "adapters/inbound/resp/clients",
    "adapters/inbound/resp/connecting",
    "adapters/inbound/resp/connection",
    "adapters/inbound/resp/containers",
    "adapters/inbound/resp/cursors",
    "adapters/inbound/resp/figures",
    "adapters/inbound/resp/keyspace",
    "adapters/inbound/resp/limits",
    "adapters/inbound/resp/parser",
    "adapters/inbound/resp/peer",
    "adapters/inbound/resp/replies",
    "adapters/inbound/resp/scan",
    "adapters/inbound/resp/server",
    "adapters/inbound/resp/strings",
    "adapters/inbound/resp/table",
    "adapters/inbound/resp/transactions",
    "adapters/inbound/resp/wording",
    "adapters/inbound/asyncio_transport",  # only because its clients are of a compiled class
    "adapters/inbound/client",
    "adapters/inbound/clients",
    "adapters/inbound/connection",
    "adapters/inbound/epoll_transport",
    "adapters/inbound/conversation",
    "adapters/inbound/json_line",
    "adapters/inbound/limits",
    "adapters/inbound/line",
    "adapters/inbound/line_commands",
    "adapters/inbound/line_keys",
    "adapters/inbound/line_scan",
    "adapters/inbound/messages",
    "adapters/inbound/opening",
    "adapters/inbound/server",
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
