"""Settings: where a value may come from, which wins, and what is said of one that is not allowed."""

import codecs
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from kvs.addresses import is_loopback
from kvs.config import (
    MAX_FILE_BYTES,
    SETTINGS,
    ConfigError,
    Configuration,
    Given,
    Settings,
    load,
    read_options,
)
from kvs.quantities import format_size, format_time, parse_size, parse_time

pytestmark = pytest.mark.one_build

ORIGINS = ("default", "file", "environment", "flag")


def written(directory: Path, text: str) -> str:
    """Write a configuration file; return its path."""
    path = directory / "kvs.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


# Where a value comes from.


@pytest.mark.parametrize("highest", range(len(ORIGINS)))
def test_flags_win_over_the_environment_over_the_file_over_defaults(tmp_path: Path, highest: int) -> None:
    """And the origin of each value is told."""
    flags: dict[str, object] = {}
    environment: dict[str, str] = {}
    if highest >= 1:
        flags["config"] = path = written(tmp_path, "port = 1001")
    if highest >= 2:
        environment["KVS_PORT"] = "1002"
    if highest >= 3:
        flags["port"] = "1003"
    configuration = load(flags, environment)
    assert configuration.settings.port == (4000, 1001, 1002, 1003)[highest]
    assert configuration.origins["port"] == ("default", path if highest else "", "KVS_PORT", "--port")[highest]
    assert configuration.origins["host"] == "default"
    assert configuration.origins.keys() == SETTINGS.keys()


def test_the_file_may_be_named_by_the_environment_and_the_flag_wins(tmp_path: Path) -> None:
    """KVS_CONFIG is --config, and no setting."""
    by_variable = written(tmp_path, "port = 1001")
    assert load({}, {"KVS_CONFIG": by_variable}).settings.port == 1001
    (tmp_path / "other").mkdir()
    by_flag = written(tmp_path / "other", "port = 1002")
    configuration = load({"config": by_flag}, {"KVS_CONFIG": by_variable})
    assert configuration.settings.port == 1002
    assert configuration.unknown_variables == []


def test_without_anything_there_are_the_defaults() -> None:
    """As the documents state them."""
    configuration = load({}, {})
    assert configuration.settings == Settings()
    assert set(configuration.origins.values()) == {"default"}
    settings = configuration.settings
    assert (settings.host, settings.port, settings.storage) == (("127.0.0.1",), 4000, "memory")
    assert (settings.max_clients, settings.max_key_bytes, settings.max_value_bytes) == (10_000, 8192, 16 << 20)
    assert (settings.max_transaction_bytes, settings.max_transaction_depth) == (64 << 20, 1024)
    assert (settings.max_data_bytes, settings.max_history_bytes, settings.max_clients_bytes) == (0, 512 << 20, 1 << 30)
    assert (settings.idle_timeout_s, settings.transaction_idle_timeout_s) == (0, 300)
    assert (settings.transaction_timeout_s, settings.drain_timeout_s) == (3600, 5)
    assert settings.worker_threads == 64


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_can_be_given_in_every_way(tmp_path: Path, name: str) -> None:
    """As a flag and a variable it is text, in the file it may be a number or a list."""
    setting = SETTINGS[name]
    text = ",".join(setting.default) if setting.repeatable else str(setting.default)
    toml = repr(list(setting.default)) if setting.repeatable else repr(setting.default)
    toml = toml.lower() if setting.kind is bool else toml
    flag: object = list(setting.default) if setting.repeatable else text
    for configuration, origin in (
        (load({name: flag}, {}), setting.flag),
        (load({}, {setting.variable: text}), setting.variable if text else "default"),
        (load({"config": written(tmp_path, f"{name} = {toml}")}, {}), str(tmp_path / "kvs.toml")),
    ):
        assert configuration.settings == Settings()
        assert configuration.origins[name] == origin


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_can_be_given_as_it_is_shown(name: str) -> None:
    """What kvs config prints can be given again."""
    setting = SETTINGS[name]
    shown = setting.format(setting.default)
    assert load({name: shown}, {}).settings == Settings()
    assert load({}, {setting.variable: shown}).settings == Settings()


@pytest.mark.parametrize(
    ("environment", "flags", "engine", "origin"),
    [
        ({}, {"data_dir": "data"}, "sqlite", "implied by data_dir"),
        ({"KVS_DATA_DIR": "data"}, {}, "sqlite", "implied by data_dir"),
        ({"KVS_DATA_DIR": ""}, {}, "memory", "default"),
        ({}, {"data_dir": ""}, "memory", "default"),
        ({"KVS_STORAGE": ""}, {"data_dir": "data"}, "sqlite", "implied by data_dir"),
        ({"KVS_STORAGE": "memory"}, {"data_dir": "data"}, "memory", "KVS_STORAGE"),
        ({"KVS_DATA_DIR": "data"}, {"storage": "memory"}, "memory", "--storage"),
    ],
)
def test_a_data_directory_implies_the_engine_that_needs_one(
    environment: dict[str, str], flags: dict[str, object], engine: str, origin: str
) -> None:
    """Whoever names a directory wants to find the data there; unless another engine is named."""
    configuration = load(flags, environment)
    assert (configuration.settings.storage, configuration.origins["storage"]) == (engine, origin)


@pytest.mark.parametrize(
    ("text", "engine"),
    [
        ("data_dir = 'd'", "sqlite"),
        ("data_dir = ''", "memory"),
        ("data_dir = 'd'\nstorage = 'memory'", "memory"),
        ("data_dir = 'd'\n[storage.sqlite]\ndurability = 'off'", "sqlite"),
        ("data_dir = 'd'\n[storage]\nengine = 'memory'", "memory"),
    ],
)
def test_a_data_directory_in_the_file_implies_it_too(tmp_path: Path, text: str, engine: str) -> None:
    """With the options that are given for it."""
    configuration = load({"config": written(tmp_path, text)}, {})
    assert configuration.settings.storage == engine
    assert set(configuration.options) == ({"durability"} if "durability" in text else set())


def test_variables_that_look_like_settings_and_are_none_are_told() -> None:
    """A mistyped one must not go unnoticed, and must not keep the server from starting."""
    configuration = load({}, {"KVS_PROT": "1", "KVS_": "x", "PORT": "1", "kvs_port": "1"})
    assert configuration.unknown_variables == ["KVS_", "KVS_PROT"]
    assert configuration.settings == Settings()


# Sizes, numbers, lists.


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000", 1000),
        ("1000B", 1000),
        ("1KiB", 1024),
        ("16 KiB", 16384),
        (" 2MiB ", 2 << 20),
        ("3gib", 3 << 30),
        ("1TiB", 1 << 40),
        ("007KiB", 7168),
        ("1024TiB", 1 << 50),
    ],
)
def test_sizes_may_have_units(tmp_path: Path, text: str, size: int) -> None:
    """In powers of 1,024, wherever they come from."""
    assert load({"max_data_bytes": text}, {}).settings.max_data_bytes == size
    assert load({}, {"KVS_MAX_DATA_BYTES": text}).settings.max_data_bytes == size
    path = written(tmp_path, f'max_data_bytes = "{text}"')
    assert load({"config": path}, {}).settings.max_data_bytes == size


SIZE_SPELLINGS = [
    *(
        (prefix + rest, 1 << power)
        for prefix, power in zip("KMGTP", range(10, 60, 10), strict=True)
        for rest in ("", "B", "i", "iB")
    ),
    ("", 1),
    ("B", 1),
]
TIME_SPELLINGS = [("ms", 0.001), ("s", 1), ("", 1), ("m", 60), ("min", 60), ("h", 3600), ("d", 86_400)]


@given(
    st.integers(0, 2048),
    st.sampled_from(SIZE_SPELLINGS),
    st.sampled_from([str.lower, str.upper, str]),
    st.sampled_from(["", " "]),
    st.sampled_from(["", " ", "\n", "\r\n"]),
)
def test_sizes_in_every_spelling(
    number: int, unit: tuple[str, int], case: Callable[[str], str], gap: str, end: str
) -> None:
    """KB is KiB, as in PostgreSQL and Redis."""
    size = number * unit[1]
    text = f"{number}{gap}{case(unit[0])}{end}"
    if size <= 1 << 50:
        assert load({"max_data_bytes": text}, {}).settings.max_data_bytes == size
        assert load({}, {"KVS_MAX_DATA_BYTES": f'"{text}"'}).settings.max_data_bytes == size
    else:
        refusal({"max_data_bytes": text}, {})


@given(
    st.integers(0, 10_000),
    st.sampled_from(TIME_SPELLINGS),
    st.sampled_from([str.lower, str.upper, str]),
    st.sampled_from(["", " "]),
)
def test_times_in_every_spelling(number: int, unit: tuple[str, float], case: Callable[[str], str], gap: str) -> None:
    """Without a unit they are seconds."""
    seconds = load({"idle_timeout_s": f"{number}{gap}{case(unit[0])}"}, {}).settings.idle_timeout_s
    assert seconds == pytest.approx(number * unit[1])
    assert isinstance(seconds, float)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max_data_bytes", "1.5GiB", 3 << 29),
        ("max_data_bytes", "0.5k", 512),
        ("max_data_bytes", ".5k", 512),
        ("max_data_bytes", "1.0001K", 1024),
        ("max_data_bytes", "0.1K", 102),
        ("idle_timeout_s", "1.5h", 5400.0),
        ("idle_timeout_s", "0.25", 0.25),
        ("idle_timeout_s", ".25s", 0.25),
        ("idle_timeout_s", "2.5ms", 0.0025),
    ],
)
def test_fractions(name: str, text: str, value: float) -> None:
    """Of a unit, in exact arithmetic; half a byte is rounded down."""
    assert getattr(load({name: text}, {}).settings, name) == value


@given(st.integers(0, 1 << 50))
def test_a_size_is_shown_exactly(size: int) -> None:
    """In the largest unit that leaves no fraction."""
    assert parse_size(format_size(size)) == size


@given(st.floats(0, 1e9))
def test_a_time_is_shown_exactly(seconds: float) -> None:
    """With a unit, where it can be read back."""
    shown = format_time(seconds)
    assert (parse_time(shown) if "e" not in shown else float(shown)) == seconds


# Environments.


@pytest.mark.parametrize("empty", ["", " ", "\r", '""', "''", '" "'])
def test_an_empty_variable_counts_as_not_set(tmp_path: Path, empty: str) -> None:
    """Whatever it is for: templates set what they have nothing for."""
    environment = dict.fromkeys([setting.variable for setting in SETTINGS.values()], empty)
    environment |= {"KVS_CONFIG": empty, "KVS_STORAGE_MEMORY_MODE": empty, "KVS_UNKNOWN": empty}
    configuration = load({}, environment)
    assert configuration == load({}, {})
    path = written(tmp_path, "port = 1001")
    assert load({"config": path}, environment).settings.port == 1001


@pytest.mark.parametrize("value", ["{}", " {}\r\n", '"{}"', "'{}' "])
def test_variables_from_a_file_that_no_shell_reads(value: str) -> None:
    """Line ends, blanks and quotes around a value are not part of it."""
    given = {"port": "1001", "log_level": "INFO", "host": "127.0.0.1, ::1", "max_value_bytes": "1MB", "data_dir": "a b"}
    configuration = load({}, {SETTINGS[name].variable: value.format(text) for name, text in given.items()})
    settings = configuration.settings
    assert (settings.port, settings.log_level, settings.max_value_bytes) == (1001, "info", 1 << 20)
    assert (settings.host, settings.data_dir) == (("127.0.0.1", "::1"), "a b")


KUBERNETES = {
    "KVS_SERVICE_HOST": "10.0.0.1",
    "KVS_SERVICE_PORT": "4000",
    "KVS_SERVICE_PORT_CLIENTS": "4000",
    "KVS_PORT": "tcp://10.0.0.1:4000",
    "KVS_PORT_4000_TCP": "tcp://10.0.0.1:4000",
    "KVS_PORT_4000_TCP_PROTO": "tcp",
    "KVS_PORT_4000_TCP_PORT": "4000",
    "KVS_PORT_4000_TCP_ADDR": "10.0.0.1",
}
OTHER_SERVICE = {name.replace("KVS_", "KVS_STORAGE_MEMORY_"): value for name, value in KUBERNETES.items()}


@pytest.mark.parametrize("scheme", ["tcp", "udp", "sctp", "TCP"])
def test_what_kubernetes_injects_is_no_setting(scheme: str) -> None:
    """A service called kvs is described to every container; one warning tells that KVS_PORT was not meant."""
    environment = {
        name: value.replace("tcp://", f"{scheme}://") for name, value in (KUBERNETES | OTHER_SERVICE).items()
    }
    configuration = load({}, environment)
    assert configuration.settings == Settings()
    assert configuration.skipped_variables == ["KVS_PORT"]
    assert configuration.unknown_variables == []
    assert configuration.options == {}


@pytest.mark.parametrize("name", [*SETTINGS, "config"])
def test_a_service_in_place_of_any_setting_is_skipped(name: str) -> None:
    """Named in a warning."""
    configuration = load({}, {f"KVS_{name.upper()}": "tcp://10.0.0.1:4000"})
    assert configuration.settings == Settings()
    assert configuration.skipped_variables == [f"KVS_{name.upper()}"]


def test_a_setting_beside_a_service_counts() -> None:
    """Kubernetes does not replace a variable that the container sets."""
    configuration = load({}, KUBERNETES | {"KVS_PORT": "1001", "KVS_PROT": "1"})
    assert configuration.settings.port == 1001
    assert configuration.skipped_variables == []
    assert configuration.unknown_variables == ["KVS_PROT"]


def test_nothing_is_taken_for_a_service_without_its_address() -> None:
    """A mistyped variable is still told."""
    assert load({}, {"KVS_SERVICE_HOST": "h", "KVS_PORT_1": "1"}).unknown_variables == [
        "KVS_PORT_1",
        "KVS_SERVICE_HOST",
    ]


@pytest.mark.parametrize("name", [name for name, setting in SETTINGS.items() if setting.choices])
@pytest.mark.parametrize("case", [str.upper, str.title, lambda text: f" {text}\n"])
def test_choices_in_any_case(tmp_path: Path, name: str, case: Callable[[str], str]) -> None:
    """From everywhere."""
    for choice in SETTINGS[name].choices:
        given = case(choice)
        path = written(tmp_path, f"{name} = {json.dumps(given)}")
        for configuration in (
            load({name: given}, {}),
            load({}, {"KVS_" + name.upper(): given}),
            load({"config": path}, {}),
        ):
            assert getattr(configuration.settings, name) == choice


class Options(msgspec.Struct, frozen=True):
    """Options of an engine, of every kind."""

    careful: Annotated[bool, Meta(description="yes or no")] = False
    mode: Annotated[Literal["Loud", "quiet"], Meta(description="a choice")] = "quiet"
    cache_bytes: Annotated[int, Meta(ge=0, description="a size")] = 0
    wait_s: Annotated[float, Meta(ge=0, description="a time")] = 0.0
    retry_s: Annotated[int, Meta(ge=0, description="a time in whole seconds")] = 0
    ratio: Annotated[float, Meta(ge=0, description="a number")] = 0.0
    key_file: Annotated[str, Meta(description="a file")] = ""
    servers: Annotated[tuple[str, ...], Meta(description="names")] = ()
    most: Annotated[int | None, Meta(description="a number, or nothing")] = None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        *(("careful", text, True) for text in ("true", "TRUE", "yes", "on", "1", " On\n")),
        *(("careful", text, False) for text in ("false", "No", "off", "0")),
        ("mode", "loud", "Loud"),
        ("mode", "QUIET", "quiet"),
        ("cache_bytes", "16M", 16 << 20),
        ("wait_s", "5m", 300.0),
        ("retry_s", "5m", 300),
        ("ratio", "0.5", 0.5),
        ("key_file", "~/key", "/users/somebody/key"),
        ("servers", "a, b", ("a", "b")),
        ("most", "7", 7),
    ],
)
def test_options_of_engines_are_read_as_settings_are(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    """By what they are, as their names and types say."""
    monkeypatch.setenv("HOME", "/users/somebody")
    options = read_options("test", Options, {name: Given(text, "somewhere")})
    assert getattr(options, name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [("careful", "maybe"), ("careful", "2"), ("ratio", "5m"), ("retry_s", "1.5s"), ("ratio", "nan"), ("most", "x")],
)
def test_bad_options_of_engines(name: str, text: str) -> None:
    """Nothing is guessed at."""
    with pytest.raises(ConfigError, match=rf"^storage\.test\.{name}: "):
        read_options("test", Options, {name: Given(text, "somewhere")})


def test_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands for ~ in every path, wherever it is given: a shell expands only some."""
    monkeypatch.setenv("HOME", str(tmp_path))
    home = str(tmp_path)
    written(tmp_path, 'data_dir = "~/data"')
    for flags, environment in (
        ({"config": "~/kvs.toml"}, {}),
        ({}, {"KVS_CONFIG": "~/kvs.toml"}),
        ({"data_dir": "~/data"}, {}),
        ({}, {"KVS_DATA_DIR": "~/data"}),
    ):
        assert load(dict(flags), environment).settings.data_dir == f"{home}/data"
    assert load({"data_dir": "~"}, {}).settings.data_dir == home
    assert load({"data_dir": "a/~"}, {}).settings.data_dir == "a/~"
    for flags in ({"data_dir": "~nobody-of-that-name/x"}, {"config": "~nobody-of-that-name/x"}):
        assert "no home directory" in refusal(dict(flags), {})
    monkeypatch.setenv("HOME", "")  # or ~/data would be /data
    assert "no home directory" in refusal({"data_dir": "~/data"}, {})


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbfport = 1001\n", b"port = 1001\r\n# two\r\n", b"\xef\xbb\xbf# one\r\nport = 1001", b"port = 1001"],
)
def test_files_of_other_editors(tmp_path: Path, content: bytes) -> None:
    """A byte-order mark, and CR LF."""
    path = tmp_path / "kvs.toml"
    path.write_bytes(content)
    assert load({"config": str(path)}, {}).settings.port == 1001


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-be"])
def test_a_file_in_utf_16_is_refused_with_the_reason(tmp_path: Path, codec: str) -> None:
    """Some shells write such files."""
    path = tmp_path / "kvs.toml"
    path.write_bytes((b"" if codec == "utf-16" else codecs.BOM_UTF16_BE) + "port = 1001".encode(codec))
    assert "save it as UTF-8" in refusal({"config": str(path)}, {})


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        ("[::1]", ("::1",)),
        ("[fe80::1%eth0]", ("fe80::1%eth0",)),
        ("127.0.0.1,[::1]", ("127.0.0.1", "::1")),
        ("127.0.0.1,", ("127.0.0.1",)),
        (",127.0.0.1,,::1", ("127.0.0.1", "::1")),
    ],
)
def test_hosts_as_people_write_them(given: str, hosts: tuple[str, ...]) -> None:
    """With brackets, and with gaps that templates leave."""
    assert load({}, {"KVS_HOST": given}).settings.host == hosts


def test_a_whole_number_of_seconds_in_the_file_is_a_time(tmp_path: Path) -> None:
    """TOML tells whole numbers from others; people do not."""
    assert load({"config": written(tmp_path, "idle_timeout_s = 5")}, {}).settings.idle_timeout_s == 5.0


@pytest.mark.parametrize(
    ("flags", "environment", "file", "hosts"),
    [
        ({"host": ("::1",)}, {}, "", ("::1",)),
        ({"host": ("127.0.0.1", "::1")}, {}, "", ("127.0.0.1", "::1")),
        ({}, {"KVS_HOST": "127.0.0.1, ::1"}, "", ("127.0.0.1", "::1")),
        ({}, {}, 'host = ["127.0.0.1", "::1"]', ("127.0.0.1", "::1")),
        ({}, {}, 'host = "localhost"', ("localhost",)),
        ({"host": ("::1",)}, {"KVS_HOST": "0.0.0.0"}, 'host = "localhost"', ("::1",)),
    ],
)
def test_there_may_be_several_hosts(
    tmp_path: Path, flags: dict[str, object], environment: dict[str, str], file: str, hosts: tuple[str, ...]
) -> None:
    """A repeated flag, a list with commas, a list in the file; the lists are not put together."""
    if file:
        flags = {**flags, "config": written(tmp_path, file)}
    assert load(flags, environment).settings.host == hosts


# What is not allowed.

BAD: list[tuple[str, object]] = [
    ("port", "-1"),
    ("port", "65536"),
    ("port", "99999999999999999999999999"),
    ("port", "http"),
    ("port", "1.5"),
    ("port", "\u0663"),
    ("port", "0x10"),
    ("max_clients", "0"),
    ("max_clients", "1000001"),
    ("max_clients", "10KiB"),
    ("max_key_bytes", "0"),
    ("max_key_bytes", "1048577"),
    ("max_key_bytes", "KiB"),
    ("max_key_bytes", "1.5"),
    ("max_key_bytes", "1e3"),
    ("max_key_bytes", "+1"),
    ("max_key_bytes", "1_000"),
    ("max_key_bytes", "1 000"),
    ("max_key_bytes", "1KiBs"),
    ("max_key_bytes", "1.2.3K"),
    ("max_key_bytes", ".K"),
    ("max_key_bytes", "5i"),
    ("max_key_bytes", "1\u212aB"),
    ("max_clients", "+5"),
    ("max_clients", "1_000"),
    ("max_clients", "1e3"),
    ("max_key_bytes", "1 K i B"),
    ("max_key_bytes", "-1KiB"),
    ("max_key_bytes", "\uff11KiB"),
    ("worker_threads", "0"),
    ("worker_threads", "10001"),
    ("max_data_bytes", "1025TiB"),
    ("max_data_bytes", "9" * 5000),
    ("max_data_bytes", "nan"),
    ("idle_timeout_s", "-0.1"),
    ("idle_timeout_s", "nan"),
    ("idle_timeout_s", "inf"),
    ("idle_timeout_s", "-inf"),
    ("idle_timeout_s", "infinity"),
    ("idle_timeout_s", "1e3"),
    ("idle_timeout_s", "1e400"),
    ("idle_timeout_s", "+5"),
    ("idle_timeout_s", "5 m s"),
    ("idle_timeout_s", "5w"),
    ("idle_timeout_s", "1m30s"),
    ("idle_timeout_s", "\u0665s"),
    ("idle_timeout_s", "12000d"),
    ("idle_timeout_s", "9" * 5000),
    ("idle_timeout_s", "1000000001"),
    ("idle_timeout_s", "true"),
    ("log_level", "loud"),
    ("transport", "carrier pigeon"),
    ("port", "12\n34"),
    ("port", "\x1b[2J"),
]


def refusal(flags: dict[str, object], environment: dict[str, str]) -> str:
    """Return what is said; assert that it is one line without control characters."""
    with pytest.raises(ConfigError) as caught:
        load(flags, environment)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{name} {str(value)[:20]!r}" for name, value in BAD])
def test_one_line_names_the_setting_its_value_its_origin_and_what_is_allowed(name: str, value: object) -> None:
    """For flags and for variables, which are text."""
    setting = SETTINGS[name]
    for flags, environment, origin in (
        ({name: value}, {}, setting.flag),
        ({}, {setting.variable: str(value)}, setting.variable),
    ):
        message = refusal(dict(flags), environment)
        assert message.startswith(f"{name}: ")
        assert repr(value)[:60].rstrip("'\"") in message
        assert len(message) < 400
        assert f"from {origin}" in message
        assert f"allowed: {setting.allowed}" in message


BAD_IN_FILE = [
    ("port", "true"),
    ("port", "80.0"),
    ("port", "1979-05-27"),
    ("port", "[80]"),
    ("port", "{a = 1}"),
    ("port", "99999999999999999999"),
    ("max_clients", "false"),
    ("max_key_bytes", "true"),
    ("max_key_bytes", "2.0"),
    ("max_key_bytes", "-1"),
    ("idle_timeout_s", "true"),
    ("idle_timeout_s", "nan"),
    ("idle_timeout_s", "inf"),
    ("idle_timeout_s", "-inf"),
    ("idle_timeout_s", "1e400"),
    ("host", "[]"),
    ("host", '[""]'),
    ("host", "5"),
    ("host", "[5]"),
    ("host", "[0]"),
    ("host", '["a", true]'),
    ("host", '[["a"]]'),
    ("host", '""'),
    ("log_level", "5"),
    ("storage", "false"),
    ("storage", "[]"),
]


@pytest.mark.parametrize(("name", "value"), BAD_IN_FILE)
def test_a_bad_value_in_the_file_is_refused_with_its_path(tmp_path: Path, name: str, value: str) -> None:
    """TOML has types, and a value of the wrong one is not guessed at."""
    path = written(tmp_path, f"{name} = {value}")
    message = refusal({"config": path}, {})
    assert message.startswith(f"{name}: ")
    assert f"from {path}" in message
    assert f"allowed: {SETTINGS[name].allowed}" in message


@pytest.mark.parametrize("value", ["", " ", "a,", ",", "[]", "[::1]:4000", "[::1"])
def test_a_bad_host_is_refused(value: str) -> None:
    """An empty name would listen on every address there is."""
    message = refusal({"host": (value,) if "," not in value else tuple(value.split(","))}, {})
    assert message.startswith("host: ")
    assert "--host" in message


@pytest.mark.parametrize("name", SETTINGS)
def test_a_nul_is_refused(tmp_path: Path, name: str) -> None:
    """Only a file can have one; no path and no name can."""
    for value in ('"a\\u0000b"', '["a\\u0000b"]'):
        assert refusal({"config": written(tmp_path, f"{name} = {value}")}, {}).startswith(f"{name}: ")


@pytest.mark.parametrize(
    "name",
    [name for name, setting in SETTINGS.items() if setting.default not in ("", ()) and name not in ("host", "storage")],
)
def test_an_empty_flag_is_refused(name: str) -> None:
    """It was given on purpose, and means nothing, as it does where empty is the default."""
    assert refusal({name: ""}, {}).startswith(f"{name}: ''")


@pytest.mark.parametrize(
    ("name", "meant"), [("max_client", "max_clients"), ("prot", "port"), ("idle_timeout", "idle_timeout_s")]
)
def test_an_unknown_key_of_the_file_is_told_what_may_have_been_meant(tmp_path: Path, name: str, meant: str) -> None:
    """A file is written on purpose, so a mistake in it is one."""
    path = written(tmp_path, f"{name} = 1")
    message = refusal({"config": path}, {})
    assert name in message
    assert path in message
    assert f"did you mean {meant}?" in message


@pytest.mark.parametrize("text", ["xyzzy = 1", "[server]\nport = 1", '"a\\nb" = 1', "config = 'other'", "'' = 1"])
def test_an_unknown_key_unlike_any_other_is_refused_without_a_guess(tmp_path: Path, text: str) -> None:
    """In one line, even if the key has several."""
    message = refusal({"config": written(tmp_path, text)}, {})
    assert "unknown setting" in message
    assert "did you mean" not in message


@pytest.mark.parametrize(
    "content", [b"port", b"port = ", b"port = 1\nport = 2", b"\xff", b"port = " + b"9" * 5000, b"= 1"]
)
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    """It says which file."""
    path = tmp_path / "kvs.toml"
    path.write_bytes(content)
    message = refusal({"config": str(path)}, {})
    assert message.startswith("config: ")
    assert str(path) in message


@pytest.mark.parametrize("size", [MAX_FILE_BYTES, MAX_FILE_BYTES + 1])
def test_a_file_that_is_far_too_large_is_refused(tmp_path: Path, size: int) -> None:
    """It is not read to its end, which a device does not have."""
    path = written(tmp_path, "port = 1001\n".ljust(size, "#"))
    if size <= MAX_FILE_BYTES:
        assert load({"config": path}, {}).settings.port == 1001
    else:
        assert f"{path} is not TOML: it has more than" in refusal({"config": path}, {})


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no such device")
def test_a_file_that_never_ends_is_refused() -> None:
    """As the one of above."""
    assert "/dev/zero is not TOML: it has more than" in refusal({"config": "/dev/zero"}, {})


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """It is not there, or is a directory."""
    for path in (tmp_path / "missing.toml", tmp_path):
        message = refusal({"config": str(path)}, {})
        assert message.startswith("config: cannot read ")
        assert str(path) in message


def test_a_bad_value_that_a_flag_overrides_is_not_looked_at() -> None:
    """Only what would be used has to be allowed."""
    configuration: Configuration = load({"port": "1"}, {"KVS_PORT": "nonsense"})
    assert configuration.settings.port == 1


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_says_what_it_is_and_what_is_allowed(name: str) -> None:
    """For the help, and for error messages."""
    setting = SETTINGS[name]
    assert setting.description
    assert setting.allowed
    assert setting.flag == "--" + name.replace("_", "-")
    assert setting.variable == "KVS_" + name.upper()


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("0:0:0:0:0:0:0:1", True),
        ("LocalHost", True),
        ("127.example.com", False),
        ("::1234", False),
        ("0.0.0.0", False),
        ("kvs.example", False),
    ],
)
def test_loopback_is_an_address_and_not_a_prefix(host: str, is_ours: bool) -> None:
    """A name may begin like one."""
    assert is_loopback(host) is is_ours
