"""Reads environment variables, and handles empty values, quotes, and the variables that orchestrators set.

Kubernetes describes a Service called ``kvs`` to every container of its namespace: ``KVS_PORT=tcp://10.0.0.1:4000``,
``KVS_SERVICE_HOST=10.0.0.1``, ``KVS_PORT_4000_TCP_ADDR=10.0.0.1`` and more; Docker's links did the same.
"""

import os
import re
from collections.abc import Mapping
from typing import Final

PREFIX: Final = "KVS_"

_SERVICE_URL: Final = re.compile(r"(?:tcp|udp|sctp)://", re.IGNORECASE)
_NAME_OF_URL: Final = re.compile(r"(KVS(?:_.+)?)_PORT(?:_[0-9]+_[A-Z]+)?")


def read_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of kvs that are not empty, trimmed and without quotes around them.

    ``docker run --env-file`` parses values unlike a shell: it leaves quotes in, and CR where lines end in CR LF.
    """
    variables = {name: _meant(value) for name, value in environment.items() if name.startswith(PREFIX)}
    return {name: value for name, value in variables.items() if value}


def take_service_variables(variables: dict[str, str], own: set[str]) -> list[str]:
    """Remove variables that describe a service; return those that have the name of a setting.

    Args:
        variables: As :func:`read_variables` returned them.
        own: Names of the variables of settings.
    """
    urls = {name for name, value in variables.items() if _SERVICE_URL.match(value)}
    services = {match[1] for name in urls if (match := _NAME_OF_URL.fullmatch(name))}
    parts = tuple(f"{service}_{part}" for service in services for part in ("SERVICE_HOST", "SERVICE_PORT", "PORT_"))
    skipped = sorted(urls & own)
    for name in [*skipped, *(f"{service}_PORT" for service in services if f"{service}_PORT" in urls)]:
        variables.pop(name, None)
    for name in [name for name in variables if name.startswith(parts)] if parts else ():
        del variables[name]
    return skipped


def expand_home(path: str) -> str:
    """Return a path with the home directory in place of a ``~`` at its beginning.

    Raises:
        ValueError: There is no such home directory.
    """
    expanded = os.path.expanduser(path)  # noqa: PTH111  # Path raises RuntimeError, and takes "" for "."
    if expanded.startswith("~") or (path.startswith("~") and os.environ.get("HOME") == ""):
        raise ValueError(f"there is no home directory for {path!r}; ./~ is a file of that name")
    return expanded


def _meant(value: str) -> str:
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1].strip()
    return value
