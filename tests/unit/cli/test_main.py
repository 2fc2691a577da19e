"""The command line, run for real."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import kvs
from kvs.config import SETTINGS
from tests.support.launcher import KVS, LoggedProcess

pytestmark = pytest.mark.one_build

TIMEOUT_S = 30.0


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m kvs`` to its end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KVS_")}
    return subprocess.run(
        [sys.executable, "-m", "kvs", *arguments],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def assert_refused_in_one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Assert that it ended with this code, and one line that has these words."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("kvs: ")
    for word in words:
        assert word in line


def test_version() -> None:
    """The version, and which build it is."""
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.split()[:2] == ["kvs", kvs.__version__]
    assert done.stdout.split()[2:] in (["(pure)"], ["(compiled)"])


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["config", "--help"]])
def test_help(arguments: list[str]) -> None:
    """It is there for every command, and names every option of those that have them."""
    done = run(*arguments)
    assert done.returncode == 0
    assert "Usage: kvs" in done.stdout
    if len(arguments) > 1:
        assert all(setting.flag in done.stdout for setting in SETTINGS.values())


def test_config_prints_every_setting_with_its_value_and_origin(tmp_path: Path) -> None:
    """One line each, in a table."""
    path = tmp_path / "kvs.toml"
    path.write_text("port = 1001\nmax_clients = 5\n")
    done = run("config", "--config", str(path), "--host", "127.0.0.1", "--host", "::1", KVS_MAX_CLIENTS="7")
    assert done.returncode == 0
    assert done.stderr == ""
    rows = {name: tuple(rest) for name, *rest in map(str.split, done.stdout.splitlines())}
    assert list(rows) == ["NAME", *SETTINGS]
    assert rows["port"] == ("1001", str(path), "KVS_PORT")
    assert rows["max_clients"] == ("7", "KVS_MAX_CLIENTS", "KVS_MAX_CLIENTS")
    assert rows["host"] == ("127.0.0.1,::1", "--host", "KVS_HOST")
    assert rows["storage"] == ("memory", "default", "KVS_STORAGE")
    assert rows["max_value_bytes"] == ("16MiB", "default", "KVS_MAX_VALUE_BYTES")


GIVEN = {
    "nothing": [],
    "an engine with options": ["--data-dir", 'a "b" \\ \x7fé\U0001f600', "--storage-option", "durability=off"],
    "units": [
        "--max-data-bytes",
        "1.5GB",
        "--idle-timeout-s",
        "90",
        "--drain-timeout-s",
        "0.25",
        "--max-key-bytes",
        "77",
    ],
    "several hosts": ["--host", "::1", "--host", "127.0.0.1"],
    "tiny": ["--drain-timeout-s", "0.0000000000001"],
}


@pytest.mark.parametrize("given", GIVEN)
def test_config_as_a_file_can_be_given_back(tmp_path: Path, given: str) -> None:
    """Then every setting is as before, and so is the file."""
    path = tmp_path / "kvs.toml"
    printed = run("config", "--toml", *GIVEN[given])
    assert (printed.returncode, printed.stderr) == (0, "")
    path.write_text(printed.stdout, encoding="utf-8")
    again = run("config", "--toml", "--config", str(path))
    assert (again.stdout, again.stderr) == (printed.stdout, "")
    before, after = run("config", *GIVEN[given]).stdout, run("config", "--config", str(path)).stdout
    assert [re.split("  +", row)[:2] for row in after.splitlines()] == [
        re.split("  +", row)[:2] for row in before.splitlines()
    ]
    assert all(str(path) in row for row in after.splitlines()[1:])


def test_what_toml_cannot_hold() -> None:
    """A name of a directory that is not UTF-8."""
    done = run("config", "--toml", KVS_DATA_DIR="\udcff")
    assert_refused_in_one_line(done, 1, "data_dir", "UTF-8")


@pytest.mark.parametrize("command", [[], ["serve"], ["config"]])
def test_a_bad_value_ends_with_2_and_one_line(command: list[str]) -> None:
    """Serving is the default command, so the option may come without it."""
    done = run(*command, "--port", "banana")
    assert_refused_in_one_line(done, 2, "port", "'banana'", "--port", "0 to 65535")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--port"], "--port"),
        (["--prot", "1"], "--prot"),
        (["nonsense"], "nonsense"),
        (["serve", "nonsense"], "nonsense"),
        (["config", "--port"], "--port"),
        (["--port", "1", "serve"], "serve"),
    ],
)
def test_a_bad_command_line_ends_with_2_and_one_line(arguments: list[str], word: str) -> None:
    """It names what is wrong."""
    assert_refused_in_one_line(run(*arguments), 2, word)


def test_an_unknown_engine_ends_with_2_and_lists_those_there_are() -> None:
    """Before anything listens."""
    assert_refused_in_one_line(run("--port", "0", "--storage", "nope"), 2, "storage", "'nope'", "memory")


def test_a_port_that_is_taken_ends_with_1_and_names_the_address() -> None:
    """Not a mistake in the settings, but a server that could not run."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_refused_in_one_line(run("--port", str(port)), 1, f"127.0.0.1:{port}", "in use")


@pytest.mark.parametrize("command", [[], ["serve"]])
def test_serving_is_the_default_and_ends_with_0(command: list[str]) -> None:
    """It listens, is told to stop, and stops."""
    server = LoggedProcess([*KVS, *command, "--port", "0", "--log-format", "json"])
    server.start()
    try:
        server.wait_for("listening")
        assert server.stop() == 0
        assert server.events("stopped")
    finally:
        server.end()


KUBERNETES = {"KVS_SERVICE_HOST": "10.0.0.1", "KVS_PORT": "tcp://10.0.0.1:4000", "KVS_PORT_4000_TCP_PORT": "4000"}


def test_a_service_of_that_name_is_warned_of_once() -> None:
    """And the server starts with what it has otherwise."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("--port", str(taken.getsockname()[1]), "--log-format", "json", **KUBERNETES)
    assert done.returncode == 1
    warning, refusal = done.stderr.splitlines()
    assert json.loads(warning)["event"] == "environment_variable_skipped"
    assert json.loads(warning)["variable"] == "KVS_PORT"
    assert "in use" in refusal
    done = run("config", **KUBERNETES)
    assert done.returncode == 0
    assert "KVS_PORT" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_data_directory_implies_its_engine(tmp_path: Path) -> None:
    """And kvs config says why."""
    rows = {row.split()[0]: row for row in run("config", "--data-dir", str(tmp_path)).stdout.splitlines()}
    assert "sqlite" in rows["storage"]
    assert "implied by data_dir" in rows["storage"]


def test_a_working_directory_that_has_been_deleted(tmp_path: Path) -> None:
    """A relative path cannot be used there, and that is said in one line."""
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    command = ["/bin/sh", "-c", script, "sh", sys.executable, "-m", "kvs", "--data-dir", "data", "--port", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert_refused_in_one_line(done, 1, "cannot use data: No such file or directory")


def test_paths_may_begin_in_the_home_directory(tmp_path: Path) -> None:
    """In options and in arguments, which a shell does not always expand, and nobody else does."""
    (tmp_path / "dump").write_text('{"key": "a", "value": "1"}')
    home = {"HOME": str(tmp_path)}
    assert run("load", "--data-dir=~/data", "~/dump", **home).returncode == 0
    assert run("verify", "~/data", **home).stdout.startswith(f"{tmp_path}/data: OK; 1 keys")
    assert run("backup", "~/data", "~/copy", **home).returncode == 0
    assert run("dump", "--data-dir=~/copy", "~/again", **home).returncode == 0
    assert '"a"' in (tmp_path / "again").read_text()
    assert_refused_in_one_line(run("verify", "~nobody-of-that-name", **home), 2, "no home directory")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_dump_that_an_editor_has_saved(tmp_path: Path, mark: str, end: str) -> None:
    """With a byte-order mark, or CR LF, is a dump as before."""
    lines = ['{"kvs_dump":1}', '{"key":"a","value":"1"}', '{"entries":1}']
    file = tmp_path / "dump"
    file.write_bytes((mark + end.join(lines) + end).encode())
    assert run("load", "--data-dir", str(tmp_path / "data"), str(file)).returncode == 0
    assert run("dump", "--data-dir", str(tmp_path / "data")).stdout.splitlines() == lines


def test_an_unknown_variable_is_warned_of() -> None:
    """It may be a mistyped setting; the server starts all the same."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("--port", str(taken.getsockname()[1]), "--log-format", "json", KVS_PROT="1")
    assert done.returncode == 1
    assert "KVS_PROT" in done.stderr
    assert "unknown_environment_variable" in done.stderr
