"""Where settings come from, besides flags: the file, the environment, and what systemd hands on."""

import codecs
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from kvs.environment import PREFIX as ENVIRONMENT_PREFIX
from kvs.environment import expand_home
from kvs.errors import ConfigError
from kvs.quantities import format_size

OPTION_FLAG: Final = "--storage-option"
CONFIG_FILE_VARIABLE: Final = "KVS_CONFIG"
SECRETS: Final = ("password", "admin_token", "metrics_token", "tls_key")
"""Secrets, each of which is read from the file that the setting of this name and ``_file`` names."""

CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
"""Where systemd puts what ``LoadCredential=`` names."""

MAX_FILE_BYTES: Final = 1 << 20


class Given(msgspec.Struct, frozen=True):
    """A value as given, and its source."""

    value: object
    origin: str


def config_path(flags: Mapping[str, object], variables: Mapping[str, str]) -> str:
    """Return the path of the file; empty if there is none."""
    path = flags.get("config") or variables.get(CONFIG_FILE_VARIABLE, "")
    try:
        return expand_home(str(path))
    except ValueError as error:
        raise ConfigError(f"config: {error}") from None


def read_file(path: str) -> dict[str, Any]:
    """Return the contents of a file.

    Raises:
        ConfigError: It cannot be read, or is not TOML.
    """
    import tomllib  # noqa: PLC0415  # 5 ms that only a file needs

    try:
        with Path(path).open("rb") as file:
            contents = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"config: cannot read {path}: {error.strerror or error}") from None
    if len(contents) > MAX_FILE_BYTES:  # some other file, or a device that never ends
        raise ConfigError(f"config: {path} is not TOML: it has more than {format_size(MAX_FILE_BYTES)}")
    if contents.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(f"config: {path} is not TOML: it is UTF-16; save it as UTF-8")
    try:
        return tomllib.loads(contents.decode("utf-8-sig").replace("\r\n", "\n"))
    except ValueError as error:  # not UTF-8, not TOML, or a number of thousands of digits
        raise ConfigError(f"config: {path} is not TOML: {error}") from None


def storage_tables(contents: dict[str, Any], path: str) -> dict[str, dict[str, Given]]:
    """Move the options of engines out of the file's contents, and leave the name of the engine, if given."""
    storage = contents.pop("storage")
    if isinstance(storage.get("engine"), str):
        contents["storage"] = storage.pop("engine")
    for name, table in storage.items():
        if not isinstance(table, dict):
            raise ConfigError(
                f"'storage.{name}': unknown setting (in {path}); [storage] holds engine, the name of the engine, and "
                "a table of options for each engine"
            )
    return {engine: {name: Given(value, path) for name, value in table.items()} for engine, table in storage.items()}


def flagged_options(texts: object) -> dict[str, Given]:
    """Return the options of an engine, given as ``name=value``."""
    options: dict[str, Given] = {}
    for text in texts if isinstance(texts, list | tuple) else ():
        name, equals, value = str(text).partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"storage_option: {text!r} (from {OPTION_FLAG}) is not allowed; allowed: name=value")
        options[name.strip().replace("-", "_")] = Given(value.strip(), OPTION_FLAG)
    return options


def refuse_secrets(variables: Mapping[str, str]) -> None:
    """Refuse secrets in the environment, which other processes, logs of crashes and children may see."""
    for secret in SECRETS:
        variable = f"{ENVIRONMENT_PREFIX}{secret.upper()}"
        if variable in variables:
            raise ConfigError(
                f"{variable}: no variable takes a secret; write it into a file, and name that by {variable}_FILE"
            )


def credentials(directory: str) -> dict[str, Given]:
    """Return the settings whose secrets systemd has put into a directory, each in a file of its name."""
    if not directory:
        return {}
    paths = {f"{secret}_file": Path(directory, secret) for secret in SECRETS}
    origin = f"${CREDENTIALS_VARIABLE}"
    return {name: Given(str(path), origin) for name, path in paths.items() if path.exists()}
