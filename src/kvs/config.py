"""Settings: flags over environment over file over defaults, each value with where it came from.

:class:`Settings` is the one table. The command line's options, the names of environment variables (``KVS_`` and the
name in capitals) and the keys of the file are all made from its fields. A storage engine has a table of its own, for
its options, which are read in the same way once the engine is known: see :func:`read_options`.
"""

import codecs
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from kvs.environment import PREFIX as ENVIRONMENT_PREFIX
from kvs.environment import expand_home, read_variables, take_service_variables
from kvs.errors import CommandError
from kvs.setting import Setting, settings_of

Options = TypeVar("Options", bound=msgspec.Struct)

OPTION_FLAG: Final = "--storage-option"
CONFIG_FILE_VARIABLE: Final = "KVS_CONFIG"
BUILD_VARIABLE: Final = "KVS_BUILD"  # read by setup.py, and of no meaning to a server
SERVICE_VARIABLE: Final = "it is the address of a service, as Kubernetes sets it"
"""Why a variable of a setting is skipped."""

MAX_BYTES: Final = 1 << 50
MAX_SECONDS: Final = 1e9
DATA_DIR_ENGINE: Final = "sqlite"
"""What is meant by a data directory where no engine is named."""

IMPLIED: Final = "implied by data_dir"
MAX_FILE_BYTES: Final = 1 << 20
SHOWN_CHARACTERS: Final = 100
"""Most of a value that an error repeats."""


class ConfigError(CommandError):
    """Raised when a setting is not allowed; one line that names it, its value, its origin and what is allowed."""

    exit_code: ClassVar[int] = 2


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set. Sizes are bytes, times are seconds, as the names say."""

    host: Annotated[tuple[str, ...], Meta(min_length=1, description="address or name to listen on; repeatable")] = (
        "127.0.0.1",
    )
    port: Annotated[int, Meta(ge=0, le=65535, description="port to listen on; 0 picks a free one")] = 4000
    storage: Annotated[str, Meta(min_length=1, description="storage engine; kvs engines lists them")] = "memory"
    data_dir: Annotated[str, Meta(description="directory for an engine that keeps data on disk")] = ""
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
    max_arguments: Annotated[
        int, Meta(ge=3, le=1_000_000, description="words of one RESP request, the command's name among them")
    ] = 65_536
    max_request_bytes: Annotated[
        int,
        Meta(ge=1, le=MAX_BYTES, description="what one RESP request may hold; never less than the longest SET"),
    ] = 64 << 20
    max_reply_bytes: Annotated[
        int,
        Meta(ge=1, le=MAX_BYTES, description="what one RESP reply may hold; never less than the longest key or value"),
    ] = 64 << 20
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
    max_log_buffer_bytes: Annotated[
        int,
        Meta(ge=4096, le=MAX_BYTES, description="log that waits to be written; beyond it events are dropped"),
    ] = 1 << 20
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
            description="a client that takes no byte of its replies for so long is dropped; 0: never",
        ),
    ] = 60.0
    drain_timeout_s: Annotated[
        float, Meta(ge=0, le=MAX_SECONDS, description="longest stop after SIGTERM or SIGINT")
    ] = 5.0


SETTINGS: Final = settings_of(Settings)


class Given(msgspec.Struct, frozen=True):
    """A value as it was given, and where."""

    value: object
    origin: str


class Configuration(msgspec.Struct, frozen=True):
    """Everything that was given.

    Attributes:
        settings: The settings, checked.
        origins: Where each of them came from.
        options: Options for the engine that was chosen, by name; not checked yet, for that takes the engine.
        unknown_variables: Environment variables that look like settings and are none.
        skipped_variables: Environment variables of settings that were not meant: they describe a service.
    """

    settings: Settings
    origins: dict[str, str]
    options: dict[str, Given]
    unknown_variables: list[str]
    skipped_variables: list[str] = []


def load(flags: Mapping[str, object], environment: Mapping[str, str] = os.environ) -> Configuration:
    """Put the settings together.

    Args:
        flags: Values from the command line by name of setting; and ``config``, the path of a file, and
            ``storage_option``, texts of the form ``name=value``.
        environment: Environment variables.

    Raises:
        ConfigError: A value is not allowed, or the file cannot be used.
    """
    given: dict[str, Given] = {}
    tables: dict[str, dict[str, Given]] = {}  # options by engine, from the file
    by_variable = {setting.variable: setting for setting in SETTINGS.values()}
    variables = read_variables(environment)
    skipped = take_service_variables(variables, {*by_variable, CONFIG_FILE_VARIABLE})
    path = _config_path(flags, variables)
    variables.pop(CONFIG_FILE_VARIABLE, None)
    variables.pop(BUILD_VARIABLE, None)
    if path:
        contents = _read(path)
        if isinstance(contents.get("storage"), dict):
            tables = _storage_tables(contents, path)
        for name, value in contents.items():
            if name not in SETTINGS:
                raise ConfigError(f"{name!r}: there is no such setting (in {path}){_suggestion(name, SETTINGS)}")
            given[name] = Given(value, path)
    for variable in variables.keys() & by_variable.keys():
        setting = by_variable[variable]
        text = variables.pop(variable)
        items = [item for item in map(str.strip, text.split(",")) if item] if setting.repeatable else text
        if items:
            given[setting.name] = Given(items, variable)
    for name, value in flags.items():
        if name in SETTINGS:
            given[name] = Given(value, SETTINGS[name].flag)
    if "storage" not in given and "data_dir" in given and given["data_dir"].value:
        given["storage"] = Given(DATA_DIR_ENGINE, IMPLIED)
    checked = {name: _check(SETTINGS[name], value.value, value.origin) for name, value in given.items()}
    settings = Settings(**checked)
    options = tables.get(settings.storage, {})
    prefix = option_variable(settings.storage, "")
    for variable in [name for name in variables if name.startswith(prefix)]:
        options[variable.removeprefix(prefix).lower()] = Given(variables.pop(variable), variable)
    options |= _flagged_options(flags.get("storage_option", ()))
    origins = dict.fromkeys(SETTINGS, "default") | {name: value.origin for name, value in given.items()}
    return Configuration(settings, origins, options, sorted(variables), skipped)


def option_variable(engine: str, option: str) -> str:
    """Return the environment variable of an engine's option."""
    return f"{ENVIRONMENT_PREFIX}STORAGE_{engine}_{option}".replace("-", "_").upper()


def read_options(engine: str, table: type[Options], given: Mapping[str, Given]) -> Options:
    """Return the options of an engine, checked against its own table as settings are.

    Raises:
        ConfigError: There is no such option, or its value is not allowed.
    """
    known = settings_of(table)
    for name, value in given.items():
        if name not in known:
            there = ", ".join(known) or "none"
            raise ConfigError(
                f"{option_name(engine, name)}: engine {engine!r} has no such option (from {value.origin}); "
                f"there are: {there}{_suggestion(name, known)}"
            )
    return table(
        **{
            name: _check(known[name], value.value, value.origin, option_name(engine, name))
            for name, value in given.items()
        }
    )


def option_name(engine: str, option: str) -> str:
    """Return what an option is called in messages: where it stands in the file."""
    return f"storage.{engine}.{option}"


def _storage_tables(contents: dict[str, Any], path: str) -> dict[str, dict[str, Given]]:
    """Take the options of engines out of the file's contents, and leave the name of the engine, if it is there."""
    storage = contents.pop("storage")
    if isinstance(storage.get("engine"), str):
        contents["storage"] = storage.pop("engine")
    for name, table in storage.items():
        if not isinstance(table, dict):
            raise ConfigError(
                f"'storage.{name}': there is no such setting (in {path}); under [storage] stand engine, the name of "
                "the engine, and a table for the options of each"
            )
    return {engine: {name: Given(value, path) for name, value in table.items()} for engine, table in storage.items()}


def _flagged_options(texts: object) -> dict[str, Given]:
    options: dict[str, Given] = {}
    for text in texts if isinstance(texts, list | tuple) else ():
        name, equals, value = str(text).partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"storage_option: {text!r} (from {OPTION_FLAG}) is not allowed; allowed: name=value")
        options[name.strip().replace("-", "_")] = Given(value.strip(), OPTION_FLAG)
    return options


def _config_path(flags: Mapping[str, object], variables: Mapping[str, str]) -> str:
    path = flags.get("config") or variables.get(CONFIG_FILE_VARIABLE, "")
    try:
        return expand_home(str(path))
    except ValueError as error:
        raise ConfigError(f"config: {error}") from None


def _read(path: str) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415  # 5 ms that only a file needs

    try:
        with Path(path).open("rb") as file:
            contents = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"config: cannot read {path}: {error.strerror or error}") from None
    if len(contents) > MAX_FILE_BYTES:  # some other file, or a device that never ends
        raise ConfigError(f"config: {path} is not TOML: it has more than {MAX_FILE_BYTES} bytes")
    if contents.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(f"config: {path} is not TOML: it is UTF-16; save it as UTF-8")
    try:
        return tomllib.loads(contents.decode("utf-8-sig").replace("\r\n", "\n"))
    except ValueError as error:  # not UTF-8, not TOML, or a number of thousands of digits
        raise ConfigError(f"config: {path} is not TOML: {error}") from None


def _check(setting: Setting, value: object, origin: str, name: str = "") -> Any:  # the type is the setting's
    given = value
    reason = ""
    if setting.repeatable:
        value = _items(value, addresses=setting.name == "host")
    elif isinstance(value, bool) and setting.kind is not bool:
        value = None  # TOML's true is no number, whatever Python thinks
    elif isinstance(value, str):
        try:
            value = setting.parse(value)
        except ValueError as error:
            value, reason = None, f": {error}"
    known = setting.kind in (bool, int, float, str) or setting.choices
    try:
        # Where the type is one of an engine's own, its text is for msgspec to make something of.
        return msgspec.convert(value, setting.type, strict=not isinstance(value, str) or bool(known))
    except msgspec.ValidationError:
        raise ConfigError(
            f"{name or setting.name}: {_quoted(given)} (from {origin}) is not allowed{reason}; "
            f"allowed: {setting.allowed}"
        ) from None


def _items(value: object, *, addresses: bool) -> object:
    """Return the items of a repeatable setting, without brackets around addresses; None if one of them is empty."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple):
        return value
    items = [item.strip() if isinstance(item, str) else item for item in value]
    if addresses:
        items = [_bare_address(item) if isinstance(item, str) else item for item in items]
    return items if all(items) and not any(isinstance(item, str) and "\0" in item for item in items) else None


def _bare_address(text: str) -> str:
    """Return an address without the brackets that IPv6 has before a port; nothing if that leaves a bracket."""
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    return "" if "[" in text or "]" in text else text


def _quoted(given: object) -> str:
    shown = ",".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
    return repr(shown if len(shown) <= SHOWN_CHARACTERS else shown[:SHOWN_CHARACTERS] + "...")


def _suggestion(name: str, known: Mapping[str, Setting]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  # 3 ms that only a mistake needs

    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
