"""Settings: flags over environment over file over defaults, each value with its source.

:class:`Settings` is the one table. The options of the command line, the names of environment variables (``KVS_`` and
the name in capitals) and the keys of the file are all made from its fields. A storage engine has its own table of
options, which are read in the same way once the engine is known: see :func:`read_options`.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from kvs.addresses import is_loopback
from kvs.environment import PREFIX as ENVIRONMENT_PREFIX
from kvs.environment import read_variables, take_service_variables
from kvs.errors import ConfigError
from kvs.setting import Setting, settings_of
from kvs.sources import (
    CONFIG_FILE_VARIABLE,
    CREDENTIALS_VARIABLE,
    MAX_FILE_BYTES,
    OPTION_FLAG,
    Given,
    config_path,
    credentials,
    flagged_options,
    read_file,
    refuse_secrets,
    storage_tables,
)

__all__ = [
    "CONFIG_FILE_VARIABLE",
    "MAX_FILE_BYTES",
    "OPTION_FLAG",
    "SETTINGS",
    "ConfigError",
    "Configuration",
    "Given",
    "Settings",
    "load",
    "read_options",
]

Options = TypeVar("Options", bound=msgspec.Struct)

BUILD_VARIABLE: Final = "KVS_BUILD"  # read by setup.py, ignored by a server
SERVICE_VARIABLE: Final = "it is the address of a service, as Kubernetes sets it"
"""Why a variable of a setting is skipped."""

MAX_BYTES: Final = 1 << 50
MAX_CLIENTS: Final = 1_000_000
MAX_SECONDS: Final = 1e9
MAX_MICROSECONDS: Final = 10**15
MAX_SLOW_COMMANDS: Final = 10_000
MAX_TRACKED_KEYS: Final = 10**12
DATA_DIR_ENGINE: Final = "sqlite"
"""The engine of a data directory, if none is named."""

IMPLIED: Final = "implied by data_dir"
ADDRESSES: Final = ("host", "admin_host")
"""Settings whose items are addresses."""

QUOTED_CHARACTERS: Final = 100
"""Maximum length of a value that an error quotes."""


def _size(least: int, description: str) -> Meta:
    return Meta(ge=least, le=MAX_BYTES, description=description)


def _time(description: str) -> Meta:
    return Meta(ge=0, le=MAX_SECONDS, description=description)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. Sizes are in bytes and times in seconds, as the names say."""

    host: Annotated[tuple[str, ...], Meta(min_length=1, description="address or name to listen on; repeatable")] = (
        "127.0.0.1",
    )
    port: Annotated[int, Meta(ge=0, le=65535, description="port to listen on; 0 picks a free one")] = 4000
    unix_socket: Annotated[str, Meta(description="path of a socket to listen on as well; empty: none")] = ""
    unix_socket_mode: Annotated[
        str, Meta(pattern=r"^0?[0-7]{3}\Z", description="who may connect there: its permissions, in octal")
    ] = "600"
    proxy_protocol_from: Annotated[
        tuple[str, ...],
        Meta(description="networks of load balancers, which must begin with the PROXY protocol; repeatable"),
    ] = ()
    tls_cert_file: Annotated[str, Meta(description="certificate of the server; turns TLS on")] = ""
    tls_key_file: Annotated[str, Meta(description="key of that certificate; empty: it is in the same file")] = ""
    tls_ca_file: Annotated[str, Meta(description="certificates of authorities that vouch for clients and servers")] = ""
    tls_client_certs: Annotated[
        Literal["off", "optional", "required"], Meta(description="whether clients show certificates")
    ] = "off"
    tls_required: Annotated[
        Literal["auto", "true", "false"],
        Meta(description="whether clients without TLS are refused; auto: if a host is beyond loopback"),
    ] = "auto"
    tls_port: Annotated[
        int, Meta(ge=0, le=65535, description="port for TLS; 0 is the same port, where the first byte tells")
    ] = 0
    storage: Annotated[str, Meta(min_length=1, description="storage engine; kvs engines lists them")] = "memory"
    data_dir: Annotated[str, Meta(description="directory for an engine that keeps data on disk")] = ""
    transport: Annotated[
        Literal["auto", "epoll", "asyncio"], Meta(description="auto: epoll on Linux, else asyncio")
    ] = "auto"
    worker_threads: Annotated[int, Meta(ge=1, le=10_000, description="threads for calls of a blocking engine")] = 64
    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"], Meta(description="minimum severity to log")
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "console"], Meta(description="auto: console on a terminal, else json")
    ] = "auto"

    password_file: Annotated[str, Meta(description="file with the password of the default user")] = ""
    users_file: Annotated[str, Meta(description="TOML file of users and what each may do")] = ""
    protected_mode: Annotated[
        bool, Meta(description="do not listen beyond this machine while a client needs no password")
    ] = True
    auth_timeout_s: Annotated[float, _time("time in which a client has to authenticate, if it has to; 0: no limit")] = (
        10.0
    )
    audit_log: Annotated[str, Meta(description="file of the audit log; none: there is no audit log")] = ""
    audit_commands: Annotated[
        Literal["admin", "all"],
        Meta(description="commands in the audit log: those of administration, or all, with their keys"),
    ] = "admin"
    audit_required: Annotated[
        bool, Meta(description="refuse administration and authentication while the audit log cannot be written")
    ] = False

    admin_host: Annotated[
        tuple[str, ...], Meta(min_length=1, description="address or name that the admin port listens on; repeatable")
    ] = ("127.0.0.1",)
    admin_port: Annotated[
        int,
        Meta(ge=-1, le=65535, description="port for metrics, probes and the status page; 0 picks a free one; -1: none"),
    ] = -1
    admin_token_file: Annotated[str, Meta(description="file with the token that opens all of the admin port")] = ""
    metrics_token_file: Annotated[str, Meta(description="file with a token that opens only the metrics")] = ""
    admin_allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(description="names by which the admin port may be called, beside addresses and localhost; repeatable"),
    ] = ()

    max_clients: Annotated[int, Meta(ge=1, le=MAX_CLIENTS, description="clients at a time; one more is refused")] = (
        10_000
    )
    max_key_bytes: Annotated[int, Meta(ge=1, le=1 << 20, description="longest key")] = 8192
    max_value_bytes: Annotated[int, Meta(ge=0, le=1 << 30, description="longest value")] = 16 << 20
    max_arguments: Annotated[
        int, Meta(ge=3, le=1_000_000, description="maximum arguments of a RESP request, including the command name")
    ] = 65_536
    max_request_bytes: Annotated[int, _size(1, "maximum size of a RESP request; never less than the longest SET")] = (
        64 << 20
    )
    max_reply_bytes: Annotated[
        int, _size(1, "maximum size of a RESP reply; never less than the longest key or value")
    ] = 64 << 20
    max_transaction_bytes: Annotated[
        int, _size(1, "maximum size of a transaction: writes of every level, and reads")
    ] = 64 << 20
    max_transaction_depth: Annotated[int, Meta(ge=1, le=1_000_000, description="levels of nesting")] = 1024
    max_data_bytes: Annotated[int, _size(0, "maximum size of the data; beyond it only deletes; 0: no limit")] = 0
    max_history_bytes: Annotated[int, _size(0, "old versions kept for open snapshots; beyond it the oldest ends")] = (
        512 << 20
    )
    max_clients_bytes: Annotated[int, _size(1, "input, output and transactions of all clients together")] = 1 << 30
    max_log_buffer_bytes: Annotated[
        int, _size(4096, "log output waiting to be written; beyond it events are dropped")
    ] = 1 << 20
    max_output_bytes: Annotated[int, _size(1, "unread replies above which a client is not served")] = 1 << 20
    max_batches_in_flight: Annotated[
        int,
        Meta(ge=1, le=10_000, description="batches of commits on their way to the disk, at most one for each tick"),
    ] = 16
    max_held_bytes: Annotated[int, _size(1, "memory of these batches and of the replies that wait for them")] = 64 << 20
    max_tick_requests: Annotated[
        int, Meta(ge=1, le=1_000_000, description="maximum work of one client per tick, in requests as short as GET")
    ] = 1000
    max_tick_output_bytes: Annotated[int, _size(1, "maximum replies to one client per tick")] = 1 << 20

    slowlog_log_slower_than: Annotated[
        int,
        Meta(
            ge=-1,
            le=MAX_MICROSECONDS,
            description="microseconds from which on a command is in the slow log; -1: never; 0: always",
        ),
    ] = 10_000
    slowlog_max_len: Annotated[
        int, Meta(ge=0, le=MAX_SLOW_COMMANDS, description="commands that the slow log holds; the oldest are dropped")
    ] = 128

    tracking_table_max_keys: Annotated[
        int,
        Meta(
            ge=0,
            le=MAX_TRACKED_KEYS,
            description="keys that clients track by CLIENT TRACKING; beyond it the oldest are invalidated; 0: no limit",
        ),
    ] = 1_000_000

    idle_timeout_s: Annotated[float, _time("time without input after which a client is disconnected; 0: never")] = 0.0
    transaction_idle_timeout_s: Annotated[float, _time("the same while a transaction is open; 0: never")] = 300.0
    transaction_timeout_s: Annotated[float, _time("maximum duration of a transaction; 0: no limit")] = 3600.0
    input_timeout_s: Annotated[float, _time("maximum pause within a request; 0: no limit")] = 60.0
    output_timeout_s: Annotated[
        float, _time("time without reading any reply after which a client is disconnected; 0: never")
    ] = 60.0
    drain_timeout_s: Annotated[float, _time("maximum time for a graceful stop")] = 5.0

    @property
    def requires_tls(self) -> bool:
        """Whether clients without TLS are refused."""
        if self.tls_required == "auto":
            return self.tls_cert_file != "" and not all(map(is_loopback, self.host))
        return self.tls_required == "true"


SETTINGS: Final = settings_of(Settings)


class Configuration(msgspec.Struct, frozen=True):
    """The settings of a server, with their sources.

    Attributes:
        settings: The settings, checked.
        origins: The source of each of them.
        options: Options of the chosen engine by name; unchecked, because the check needs the engine.
        unknown_variables: Environment variables with the prefix of settings but unknown names.
        skipped_variables: Environment variables with the name of a setting that describe a service instead.
    """

    settings: Settings
    origins: dict[str, str]
    options: dict[str, Given]
    unknown_variables: list[str]
    skipped_variables: list[str] = []


def load(flags: Mapping[str, object], environment: Mapping[str, str] = os.environ) -> Configuration:
    """Return the settings from all sources.

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
    path = config_path(flags, variables)
    variables.pop(CONFIG_FILE_VARIABLE, None)
    variables.pop(BUILD_VARIABLE, None)
    refuse_secrets(variables)
    if path:
        contents = read_file(path)
        if isinstance(contents.get("storage"), dict):
            tables = storage_tables(contents, path)
        for name, value in contents.items():
            if name not in SETTINGS:
                raise ConfigError(f"{name!r}: unknown setting (in {path}){_suggestion(name, SETTINGS)}")
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
    given = credentials(environment.get(CREDENTIALS_VARIABLE, "")) | given
    if "storage" not in given and "data_dir" in given and given["data_dir"].value:
        given["storage"] = Given(DATA_DIR_ENGINE, IMPLIED)
    checked = {name: _check(SETTINGS[name], value.value, value.origin) for name, value in given.items()}
    settings = Settings(**checked)
    options = tables.get(settings.storage, {})
    prefix = option_variable(settings.storage, "")
    for variable in [name for name in variables if name.startswith(prefix)]:
        options[variable.removeprefix(prefix).lower()] = Given(variables.pop(variable), variable)
    options |= flagged_options(flags.get("storage_option", ()))
    origins = dict.fromkeys(SETTINGS, "default") | {name: value.origin for name, value in given.items()}
    return Configuration(settings, origins, options, sorted(variables), skipped)


def option_variable(engine: str, option: str) -> str:
    """Return the environment variable of an engine's option."""
    return f"{ENVIRONMENT_PREFIX}STORAGE_{engine}_{option}".replace("-", "_").upper()


def read_options(engine: str, table: type[Options], given: Mapping[str, Given]) -> Options:
    """Return the options of an engine, checked against its own table as settings are.

    Raises:
        ConfigError: An option is unknown, or its value is not allowed.
    """
    known = settings_of(table)
    for name, value in given.items():
        if name not in known:
            there = ", ".join(known) or "none"
            raise ConfigError(
                f"{option_name(engine, name)}: unknown option of engine {engine!r} (from {value.origin}); "
                f"available: {there}{_suggestion(name, known)}"
            )
    return table(
        **{
            name: _check(known[name], value.value, value.origin, option_name(engine, name))
            for name, value in given.items()
        }
    )


def option_name(engine: str, option: str) -> str:
    """Return the name of an option in messages: its place in the file."""
    return f"storage.{engine}.{option}"


def _check(setting: Setting, value: object, origin: str, name: str = "") -> Any:  # the type is the setting's
    given = value
    reason = ""
    if setting.repeatable:
        value = () if value == "" and not setting.default else _items(value, addresses=setting.name in ADDRESSES)
    elif isinstance(value, bool) and str(value).lower() in setting.choices:
        value = str(value).lower()
    elif isinstance(value, bool) and setting.kind is not bool:
        value = None  # TOML's true is not a number, although Python's is
    elif isinstance(value, str):
        try:
            value = setting.parse(value)
        except ValueError as error:
            value, reason = None, f": {error}"
    known = setting.kind in (bool, int, float, str) or setting.choices
    try:
        # msgspec converts text for a type that only an engine knows.
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
    """Return an address without the brackets that IPv6 has before a port; empty if that leaves a bracket."""
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    return "" if "[" in text or "]" in text else text


def _quoted(given: object) -> str:
    text = ",".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
    return repr(text if len(text) <= QUOTED_CHARACTERS else text[:QUOTED_CHARACTERS] + "...")


def _suggestion(name: str, known: Mapping[str, Setting]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  # 3 ms that only a mistake needs

    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
