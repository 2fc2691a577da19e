"""Settings: where a value may come from, which wins, and what is said of one that is not allowed."""

from pathlib import Path

import pytest

from kvs.config import SETTINGS, ConfigError, Configuration, Settings, load

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
    assert (settings.max_data_bytes, settings.max_history_bytes, settings.max_clients_bytes) == (0, 256 << 20, 1 << 30)
    assert (settings.idle_timeout_s, settings.transaction_idle_timeout_s) == (0, 300)
    assert (settings.transaction_timeout_s, settings.drain_timeout_s) == (3600, 5)
    assert settings.worker_threads == 64


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_can_be_given_in_every_way(tmp_path: Path, name: str) -> None:
    """As a flag and a variable it is text, in the file it may be a number or a list."""
    setting = SETTINGS[name]
    text = ",".join(setting.default) if setting.repeatable else str(setting.default)
    toml = repr(list(setting.default)) if setting.repeatable else repr(setting.default)
    flag: object = list(setting.default) if setting.repeatable else text
    for configuration, origin in (
        (load({name: flag}, {}), setting.flag),
        (load({}, {setting.variable: text}), setting.variable),
        (load({"config": written(tmp_path, f"{name} = {toml}")}, {}), str(tmp_path / "kvs.toml")),
    ):
        assert configuration.settings == Settings()
        assert configuration.origins[name] == origin


def test_variables_that_look_like_settings_and_are_none_are_told() -> None:
    """A mistyped one must not go unnoticed, and must not keep the server from starting."""
    configuration = load({}, {"KVS_PROT": "1", "KVS_": "", "PORT": "1", "kvs_port": "1"})
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


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("5", 5.0), ("0.25", 0.25), ("1e3", 1000.0)])
def test_times_are_seconds_with_or_without_a_fraction(text: str, seconds: float) -> None:
    """Zero is no timeout."""
    settings = load({"idle_timeout_s": text}, {}).settings
    assert settings.idle_timeout_s == seconds
    assert isinstance(settings.idle_timeout_s, float)


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
    ("port", ""),
    ("port", " "),
    ("port", "1.5"),
    ("port", "\u0663"),
    ("port", "0x10"),
    ("max_clients", "0"),
    ("max_clients", "1000001"),
    ("max_clients", "10KiB"),
    ("max_key_bytes", "0"),
    ("max_key_bytes", "1048577"),
    ("max_key_bytes", "1.5KiB"),
    ("max_key_bytes", "1KB"),
    ("max_key_bytes", "KiB"),
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
    ("idle_timeout_s", "1e400"),
    ("idle_timeout_s", "1000000001"),
    ("idle_timeout_s", "5s"),
    ("idle_timeout_s", "true"),
    ("log_level", "loud"),
    ("log_level", "INFO"),
    ("log_format", ""),
    ("transport", "carrier pigeon"),
    ("storage", ""),
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
        assert repr(value) in message
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


@pytest.mark.parametrize("value", ["", ",", "a,", ",a", "a,,b", " "])
def test_a_list_of_hosts_has_no_gaps(value: str) -> None:
    """An empty name would listen on every address there is."""
    message = refusal({}, {"KVS_HOST": value})
    assert message.startswith("host: ")
    assert "KVS_HOST" in message


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
    assert "no such setting" in message
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
