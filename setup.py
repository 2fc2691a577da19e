"""Compiles the modules on the paths of requests with mypyc where there is a C compiler.

Which ones is said in ``[tool.kvs.compile]`` of pyproject.toml, as is all else about the package. The environment
variable ``KVS_BUILD`` decides: ``auto`` (the default) compiles if it can, ``pure`` never does, and ``compiled`` fails
where it cannot. An editable install is pure, so that an edited file is what runs.
"""

import os
import sys
import sysconfig
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parent
SOURCE = "src/kvs"
PURE_COMMANDS = {"editable_wheel", "egg_info", "dist_info"}
"""Commands that build no extension; pip asks for the last two before each build."""
MOST_COMPILERS = 8
"""How many files are compiled at a time: each takes up to 300 MB."""


def extensions() -> list[Any]:
    """Return what is to be compiled: all of the modules that are named, or nothing."""
    wanted = os.environ.get("KVS_BUILD") or "auto"
    if wanted not in ("auto", "pure", "compiled"):
        sys.exit(f"KVS_BUILD: {wanted!r} is not allowed; allowed: auto, pure, compiled")
    if wanted == "pure" or PURE_COMMANDS & set(sys.argv):
        return []
    missing = what_is_missing()
    if missing:
        if wanted == "compiled":
            sys.exit(f"KVS_BUILD=compiled, but {missing}")
        print(f"kvs: {missing}, so this is the pure Python build; it does the same, slower", file=sys.stderr)  # noqa: T201
        return []
    from mypyc.build import mypycify  # noqa: PLC0415  # slow, and of no use above

    paths = [f"{SOURCE}/{module}" for module in modules_to_compile()]
    # One C file for all modules takes a compiler three times as long as a file for each, and runs no faster.
    built = list(mypycify(["--strict", *paths], opt_level="3", debug_level="0", multi_file=True))
    for extension in built:
        # To look for what to warn of, which is on by -Wall of Python's own flags, takes longer than to compile.
        extension.extra_compile_args = [*extension.extra_compile_args, "-Wno-all"]
    return built


def in_parallel(compiler: Any) -> None:
    """Have a compiler compile several files at a time: setuptools starts one after the other."""
    one_by_one = compiler.compile

    def compile_all(sources: list[str], *rest: Any, **options: Any) -> list[str]:
        with ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_COMPILERS)) as workers:
            built = workers.map(lambda source: one_by_one([source], *rest, **options), sources)
            return [name for names in built for name in names]

    compiler.compile = compile_all


def modules_to_compile(system: str = sys.platform) -> list[str]:
    """Return the paths of the modules to compile on a system, relative to the package.

    Raises:
        ValueError: A name in the configuration is not, or no longer, of a module.
    """
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["kvs"]["compile"]
    found = {path.relative_to(ROOT / SOURCE).as_posix() for path in (ROOT / SOURCE).rglob("*.py")}
    modules = {module for module in found if not module.endswith("__init__.py")}

    def named(name: str) -> set[str]:
        chosen = {module for module in modules if module == name or module.startswith(f"{name}/")}
        if not chosen:
            raise ValueError(f"[tool.kvs.compile] of pyproject.toml: there is no {name}")
        return chosen

    def union(names: Iterable[str]) -> set[str]:
        return set().union(*map(named, names))

    packages, exclude, include, only_on = (
        configuration[name] for name in ("packages", "exclude", "include", "only_on")
    )
    chosen = (union(packages) - union(exclude)) | union(include)
    return sorted(chosen - {module for name, only in only_on.items() for module in named(name) if only != system})


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


if __name__ == "__main__":
    from setuptools import setup
    from setuptools.command.build_ext import build_ext

    class BuildExtensions(build_ext):
        """Builds them on all processors."""

        def build_extensions(self) -> None:
            """Build them."""
            in_parallel(self.compiler)
            super().build_extensions()

    setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExtensions})
