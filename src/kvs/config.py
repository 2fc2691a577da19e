"""Settings: flags over environment over file over defaults, each value with where it came from.

:class:`Settings` is the one table. The command line's options, the names of environment variables (``KVS_`` and the
name in capitals) and the keys of the file are all made from its fields.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

ENVIRONMENT_PREFIX: Final = "KVS_"
CONFIG_FILE_VARIABLE: Final = "KVS_CONFIG"
BUILD_VARIABLE: Final = "KVS_BUILD"  # read by setup.py, and of no meaning to a server
MAX_BYTES: Final = 1 << 50
MAX_SECONDS: Final = 1e9

_UNITS: Final = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}


class ConfigError(Exception):
    """Raised when a setting is not allowed; one line that names it, its value, its origin and what is allowed."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set. Sizes are bytes, times are seconds, as the names say."""

    host: Annotated[tuple[str, ...], Meta(min_length=1, description="address or name to listen on; repeatable")] = (
        "127.0.0.1",
    )
    port: Annotated[int, Meta(ge=0, le=65535, description="port to listen on; 0 picks a free one")] = 4000
    storage: Annotated[str, Meta(min_length=1, description="storage engine")] = "memory"
    transport: Annotated[
        Literal["auto", "epoll", "asyncio"], Meta(description="auto: epoll on Linux, else asyncio")
    ] = "auto"
    worker_threads: Annotated[
        int, Meta(ge=1, le=10_000, description="threads that call the engine, if it is a blocking one")
    ] = 64
    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        Meta(description="least severe events to log"),
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "console"], Meta(description="auto: console on a terminal, else json")
    ] = "auto"

    max_clients: Annotated[int, Meta(ge=1, le=1_000_000, description="clients at a time; one more is refused")] = 10_000
    max_key_bytes: Annotated[int, Meta(ge=1, le=1 << 20, description="longest key")] = 8192
    max_value_bytes: Annotated[int, Meta(ge=0, le=1 << 30, description="longest value")] = 16 << 20
    max_transaction_bytes: Annotated[
        int,
        Meta(ge=1, le=MAX_BYTES, description="what one transaction may hold: writes of every level, and reads"),
    ] = 64 << 20
    max_transaction_depth: Annotated[int, Meta(ge=1, le=1_000_000, description="levels of nesting")] = 1024
    max_data_bytes: Annotated[
        int,
        Meta(ge=0, le=MAX_BYTES, description="what the data set may hold; beyond it only deletes; 0: no limit"),
    ] = 0
    max_history_bytes: Annotated[
        int,
        Meta(ge=0, le=MAX_BYTES, description="old versions kept for open snapshots; beyond it the oldest ends"),
    ] = 256 << 20
    max_clients_bytes: Annotated[
        int, Meta(ge=1, le=MAX_BYTES, description="input, output and transactions of all clients together")
    ] = 1 << 30
    max_output_bytes: Annotated[
        int, Meta(ge=1, le=MAX_BYTES, description="unread replies above which a client is not served")
    ] = 1 << 20
    max_tick_requests: Annotated[
        int, Meta(ge=1, le=1_000_000, description="requests of one client before others have their turn")
    ] = 1000
    max_tick_output_bytes: Annotated[
        int, Meta(ge=1, le=MAX_BYTES, description="replies to one client before others have their turn")
    ] = 1 << 20

    idle_timeout_s: Annotated[
        float,
        Meta(ge=0, le=MAX_SECONDS, description="a client that sends nothing for so long is closed; 0: never"),
    ] = 0.0
    transaction_idle_timeout_s: Annotated[
        float, Meta(ge=0, le=MAX_SECONDS, description="the same while a transaction is open; 0: never")
    ] = 300.0
    transaction_timeout_s: Annotated[
        float, Meta(ge=0, le=MAX_SECONDS, description="a transaction that lasts so long is ended; 0: never")
    ] = 3600.0
    input_timeout_s: Annotated[
        float, Meta(ge=0, le=MAX_SECONDS, description="longest pause within a request; 0: any")
    ] = 60.0
    output_timeout_s: Annotated[
        float,
        Meta(
            ge=0,
            le=MAX_SECONDS,
            description="a client that takes no replies for so long is dropped; 0: never",
        ),
    ] = 60.0
    drain_timeout_s: Annotated[
        float, Meta(ge=0, le=MAX_SECONDS, description="longest stop after SIGTERM or SIGINT")
    ] = 5.0


class Setting(msgspec.Struct, frozen=True):
    """One field of :class:`Settings`: what may be given, and how it is described."""

    name: str
    type: Any
    description: str
    default: Any

    @property
    def flag(self) -> str:
        """The command line's option."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def choices(self) -> tuple[str, ...]:
        """The values there are, where there is a list of them."""
        kind = get_args(self.type)[0]
        return get_args(kind) if get_origin(kind) is Literal else ()

    @property
    def repeatable(self) -> bool:
        """Whether there may be several values."""
        return get_origin(get_args(self.type)[0]) is tuple

    @property
    def allowed(self) -> str:
        """What may be given, in words."""
        kind, meta = get_args(self.type)[0], get_args(self.type)[1]
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if kind is int or kind is float:
            number = "a whole number" if kind is int else "a number"
            if self.name.endswith("_bytes"):
                number += " of bytes (or with KiB, MiB, GiB)"
            elif self.name.endswith("_s"):
                number += " of seconds"
            return (
                f"{number} from {meta.ge} to {meta.le:g}" if kind is float else f"{number} from {meta.ge} to {meta.le}"
            )
        return "one or more addresses or names" if self.repeatable else "a name"


SETTINGS: Final[dict[str, Setting]] = {
    name: Setting(name, hint, get_args(hint)[1].description, default)
    for (name, hint), default in zip(
        get_type_hints(Settings, include_extras=True).items(), Settings.__struct_defaults__, strict=True
    )
}


class Configuration(msgspec.Struct, frozen=True):
    """The settings, the origin of each, and environment variables that look like settings and are none."""

    settings: Settings
    origins: dict[str, str]
    unknown_variables: list[str]


def load(flags: Mapping[str, object], environment: Mapping[str, str] = os.environ) -> Configuration:
    """Put the settings together.

    Args:
        flags: Values from the command line by name of setting; and ``config``, the path of a file.
        environment: Environment variables.

    Raises:
        ConfigError: A value is not allowed, or the file cannot be used.
    """
    raw: dict[str, object] = {}
    origins = dict.fromkeys(SETTINGS, "default")
    variables = {name: value for name, value in environment.items() if name.startswith(ENVIRONMENT_PREFIX)}
    path = flags.get("config") or variables.pop(CONFIG_FILE_VARIABLE, None)
    variables.pop(CONFIG_FILE_VARIABLE, None)
    variables.pop(BUILD_VARIABLE, None)
    if path:
        for name, value in _read(str(path)).items():
            if name not in SETTINGS:
                raise ConfigError(f"{name!r}: there is no such setting (in {path}){_suggestion(name)}")
            raw[name], origins[name] = value, str(path)
    by_variable = {setting.variable: setting for setting in SETTINGS.values()}
    unknown = sorted(variables.keys() - by_variable.keys())
    for variable in variables.keys() & by_variable.keys():
        setting = by_variable[variable]
        value = variables[variable]
        raw[setting.name] = value.split(",") if setting.repeatable else value
        origins[setting.name] = variable
    for name, value in flags.items():
        if name in SETTINGS:
            raw[name], origins[name] = value, SETTINGS[name].flag
    checked = {name: _check(SETTINGS[name], value, origins[name]) for name, value in raw.items()}
    return Configuration(Settings(**checked), origins, unknown)


def _read(path: str) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415  # 5 ms that only a file needs

    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config: cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:  # not UTF-8, not TOML, or a number of thousands of digits
        raise ConfigError(f"config: {path} is not TOML: {error}") from None


def _check(setting: Setting, value: object, origin: str) -> Any:  # the type is the setting's
    given = value
    if setting.name.endswith("_bytes") and isinstance(value, str):
        value = _size(value)
    elif setting.repeatable and isinstance(value, str):
        value = [value]
    elif isinstance(value, bool):
        value = None  # TOML's true is no number, whatever Python thinks
    if setting.repeatable and isinstance(value, list | tuple):
        value = [item.strip() if isinstance(item, str) else item for item in value]
        if not all(value):
            value = None
    try:
        # Flags and variables are text, so text may stand for a number.
        return msgspec.convert(value, setting.type, strict=not isinstance(value, str))
    except msgspec.ValidationError:
        shown = ",".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
        raise ConfigError(
            f"{setting.name}: {shown!r} (from {origin}) is not allowed; allowed: {setting.allowed}"
        ) from None


def _size(text: str) -> object:
    """Return a size such as 16MiB in bytes; anything else as it is, to be refused."""
    digits = text.strip().rstrip("KMGTIBkmgtib")
    unit = _UNITS.get(text.strip()[len(digits) :].upper())
    number = digits.strip()
    if unit is None or not (number.isascii() and number.isdigit()) or len(number) > len(str(MAX_BYTES)):
        return text
    return int(number) * unit


def _suggestion(name: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  # 3 ms that only a mistake needs

    close = get_close_matches(name, SETTINGS, n=1)
    return f"; did you mean {close[0]}?" if close else ""
