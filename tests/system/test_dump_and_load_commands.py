"""``kvs dump`` and ``kvs load`` as commands: files, pipes, terminals, signals, data directories, the command line."""

import os
import pty
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvs.dump.format import HEADER, entry_line, trailer_line
from tests.support.dumps import at, command, dump_from, dump_of, load_into, pipe_of, run_kvs, running_kvs, told
from tests.support.harness import TIMEOUT_S, Server, polling

from .conftest import StartServer

pytestmark = pytest.mark.one_build

MUCH = {b"%05d" % number: b"v" * 10_000 for number in range(3000)}
"""More than fits between a command and who reads from it."""


@pytest.fixture(scope="session")
def transport_flags() -> tuple[str, ...]:
    """Return no flags: no transport has a say in this."""
    return ()


# Files.


def test_a_dump_into_a_file(server: Server, tmp_path: Path) -> None:
    """Nothing is left beside it, and one line is said."""
    load_into(server, dump_of({b"a": b"1"}))
    ran = run_kvs("dump", *at(server), str(tmp_path / "dump"))
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"kvs: dumped 1 entry\n")
    assert [path.name for path in tmp_path.iterdir()] == ["dump"]
    assert (tmp_path / "dump").read_bytes() == dump_of({b"a": b"1"})


def test_an_older_dump_is_replaced_through_its_link_and_stays_as_secret(server: Server, tmp_path: Path) -> None:
    """The link still points to it, and who may not read it still may not."""
    path, link = tmp_path / "dump", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o600)
    link.symlink_to(path)
    assert run_kvs("dump", *at(server), str(link)).returncode == 0
    assert link.readlink() == path
    assert path.read_bytes() == dump_of({})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_dump_that_fails_leaves_the_older_one(server: Server, tmp_path: Path) -> None:
    """And nothing beside it."""
    path = tmp_path / "dump"
    path.write_bytes(b"old")
    load_into(server, dump_of({b"a": b"1", b"b": b"v" * 3_000_000}))
    small = ("--max-key-bytes", "100", "--max-value-bytes", "1000")
    assert "sends a reply of more than" in told(run_kvs("dump", *at(server), *small, str(path)))
    assert path.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["dump"]


def test_a_dump_into_what_is_no_file(server: Server, tmp_path: Path) -> None:
    """A pipe stays a pipe; a directory, or one that is not there, is an error."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with running_kvs("dump", *at(server), str(fifo)) as process:
        assert fifo.read_bytes() == dump_of({})
        assert process.wait(TIMEOUT_S) == 0
    assert fifo.is_fifo()
    for name in (str(tmp_path), str(tmp_path / "nowhere" / "dump")):
        assert "cannot be written" in told(run_kvs("dump", *at(server), name))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_is_full(server: Server) -> None:
    """It is told, once."""
    with Path("/dev/full").open("wb") as full, running_kvs("dump", *at(server), stdout=full) as process:
        assert process.wait(TIMEOUT_S) == 1
        assert pipe_of(process.stderr).read() == b"kvs: standard output cannot be written: No space left on device\n"


def test_whoever_reads_a_dump_may_stop(server: Server) -> None:
    """As head does. It ends without a word, and the exit code tells."""
    load_into(server, dump_of(MUCH))
    with running_kvs("dump", *at(server)) as process:
        output = pipe_of(process.stdout)
        assert output.read(len(HEADER)) == HEADER
        output.close()
        assert process.wait(TIMEOUT_S) == 1
        assert pipe_of(process.stderr).read() == b""


# Signals.


def test_ctrl_c_during_a_dump(server: Server, tmp_path: Path) -> None:
    """One line, and no dump."""
    load_into(server, dump_of(MUCH))
    with running_kvs("dump", *at(server)) as process:
        pipe_of(process.stdout).read(len(HEADER))
        process.send_signal(signal.SIGINT)
        assert b'"entries"' not in pipe_of(process.stdout).read()
        assert process.wait(TIMEOUT_S) == 1
        assert pipe_of(process.stderr).read().strip() == b"kvs: interrupted"  # below the ^C of a terminal


def test_ctrl_c_during_a_load(server: Server) -> None:
    """One line, which tells what is there."""
    client = server.connect()
    lines = b"".join(entry_line(b"%06d" % number, b"v" * 1000) for number in range(200))
    with running_kvs("load", *at(server)) as process:
        pipe_of(process.stdin).write(lines)
        for _ in polling("something is loaded"):
            if client.ask("COUNT")["result"]:
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 1
        message = pipe_of(process.stderr).read().decode()
    assert re.fullmatch(
        r"kvs: interrupted; [\d,]+ entries were loaded(, and up to [\d,]+ more may have been)?\n", message
    )


# Terminals.


class Terminal:
    """A terminal, and what it shows.

    Attributes:
        slave: Its end for a command.
    """

    def __init__(self, master: int, slave: int) -> None:
        self._master = master
        self.slave = slave
        self.shown = ""

    def read(self) -> bool:
        """Take what is to be shown; return whether there may be more."""
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # so Linux tells that nobody has the other end any more
            return False
        self.shown += data.decode()
        return bool(data)


@contextmanager
def terminal() -> Iterator[Terminal]:
    """Open a terminal."""
    master, slave = pty.openpty()
    try:
        yield Terminal(master, slave)
    finally:
        os.close(master)


def test_progress_on_a_terminal(server: Server, tmp_path: Path) -> None:
    """A bar with what has been done, rate and time left, one line for each pass; then how many entries there were."""
    path = tmp_path / "dump"
    path.write_bytes(dump_of({b"%06d" % number: b"v" for number in range(20_000)}))
    for name, labels in (("load", ["Checking", "Loading"]), ("dump", ["Dumping"])):
        with terminal() as screen, running_kvs(name, *at(server), str(path), stderr=screen.slave) as process:
            os.close(screen.slave)
            while screen.read():
                pass
            assert process.wait(TIMEOUT_S) == 0
        lines = screen.shown.split("\n")
        assert lines[len(labels) :] == [f"kvs: {name}ed 20,000 entries\r", ""]
        for label, line in zip(labels, lines, strict=False):
            last = line.rstrip("\r").split("\r")[-1]
            assert label in last
            assert re.search(r"\[#+\]", last)
            assert "100%" in last
            assert re.search(r"[\d,]+ keys/s", last)
            assert ("20000/20000" in last) == (label != "Checking")


def test_the_time_that_is_left(server: Server) -> None:
    """It is shown as soon as it can be told, while nobody hurries."""
    load_into(server, dump_of(MUCH))
    with terminal() as screen, running_kvs("dump", *at(server), stderr=screen.slave) as process:
        os.close(screen.slave)
        os.set_blocking(screen._master, False)
        output = pipe_of(process.stdout)
        for _ in polling("the time that is left is shown"):
            screen.read()
            if re.search(r"\d+/3000 +\d+% +\d\d:\d\d:\d\d +[\d,]+ keys/s", screen.shown):
                break
            output.read(1 << 16)
        output.read()
        assert process.wait(TIMEOUT_S) == 0


def test_no_progress_in_between_what_is_shown(server: Server) -> None:
    """A dump to the terminal is all that is on it, but for the line that ends it."""
    load_into(server, dump_of({b"a": b"1"}))
    with terminal() as screen, running_kvs("dump", *at(server), stdout=screen.slave, stderr=screen.slave) as process:
        os.close(screen.slave)
        while screen.read():
            pass
        assert process.wait(TIMEOUT_S) == 0
    assert screen.shown.replace("\r\n", "\n").encode() == dump_of({b"a": b"1"}) + b"kvs: dumped 1 entry\n"


def test_progress_of_a_pipe_and_an_error_below_it(server: Server) -> None:
    """How much there is cannot be told; the error has a line of its own."""
    with terminal() as screen, running_kvs("load", *at(server), stderr=screen.slave) as process:
        os.close(screen.slave)
        given = pipe_of(process.stdin)
        given.write(b"".join(entry_line(b"%06d" % number, b"v") for number in range(1000)) + b"nonsense\n")
        given.close()
        while screen.read():
            pass
        assert process.wait(TIMEOUT_S) == 1
    bar, message, rest = screen.shown.split("\n")
    assert "Loading" in bar
    assert "%" not in bar
    assert message.startswith("kvs: line 1001: ")
    assert rest == ""


def test_a_load_that_somebody_types(server: Server) -> None:
    """It says what it waits for, and draws nothing between the lines; Ctrl-D ends it."""
    with terminal() as screen, running_kvs("load", *at(server), stdin=screen.slave, stderr=screen.slave) as process:
        os.close(screen.slave)
        while "Ctrl-D ends them" not in screen.shown:
            assert screen.read()
        os.write(screen._master, b'{"key":"a","value":"1"}\n\x04')
        while screen.read():
            pass
        assert process.wait(TIMEOUT_S) == 0
    notice, echo, summary, rest = screen.shown.split("\r\n")
    assert notice == "kvs: reading entries from standard input; Ctrl-D ends them"
    assert echo.startswith('{"key":"a","value":"1"}')
    assert summary.endswith("kvs: loaded 1 entry")
    assert rest == ""


def shown_by(*arguments: str) -> list[str]:
    """Return the lines that a command shows on a terminal, as they are at the end."""
    with terminal() as screen, running_kvs(*arguments, stderr=screen.slave) as process:
        os.close(screen.slave)
        while screen.read():
            pass
        process.wait(TIMEOUT_S)
    return [line.rstrip("\r").rpartition("\r")[2] for line in screen.shown.split("\n")]


def test_progress_of_a_backup_and_of_a_check(tmp_path: Path) -> None:
    """Each part of the work has a bar, up to 100 %."""
    data, copy = str(tmp_path / "data"), str(tmp_path / "copy")
    load = run_kvs("load", "--data-dir", data, given=dump_of({b"%05d" % number: b"v" for number in range(20_000)}))
    assert load.returncode == 0
    for arguments, labels in ((("backup", data, copy), ["Copying", "Verifying"]), (("verify", data), ["Verifying"])):
        *bars, rest = shown_by(*arguments)
        assert rest == ""
        for label, bar in zip(labels, bars, strict=True):
            assert re.search(rf"{label}  \[#+\].*100%.*/s", bar)


def test_a_backup_that_is_refused_draws_nothing(tmp_path: Path) -> None:
    """There is one line, with the reason."""
    data = str(tmp_path / "data")
    assert run_kvs("load", "--data-dir", data, given=dump_of({b"a": b"1"})).returncode == 0
    line, rest = shown_by("backup", data, str(tmp_path))
    assert line == f"kvs: {tmp_path}: is not empty; a backup goes into a directory of its own"
    assert rest == ""


# Data directories.

ODD = {b"\x00\xff": b"\xfe\n", b"a b\n": b"", b"\t": b"\n\n", b"k" * 8192: b"v", "ключ".encode(): "знач".encode()}


def test_a_data_directory_there_and_back(start_server: StartServer, tmp_path: Path) -> None:
    """Any bytes; and what a server has stored is dumped when it has stopped as when it ran."""
    directory, other = tmp_path / "data", tmp_path / "other"
    assert run_kvs("load", "--data-dir", str(directory), given=dump_of(ODD)).returncode == 0
    ran = run_kvs("dump", "--data-dir", str(directory))
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, dump_of(ODD), b"")
    server = start_server("--storage", "sqlite", "--data-dir", str(other))
    load_into(server, dump_of(MUCH))
    online = dump_from(server)
    busy = told(run_kvs("dump", "--data-dir", str(other)))
    assert "in use" in busy
    assert server.stop() == 0
    (tmp_path / "dump").write_bytes(online)
    assert run_kvs("dump", "--data-dir", str(other)).stdout == online
    assert run_kvs("load", "--data-dir", str(other), "--storage", "sqlite", str(tmp_path / "dump")).returncode == 0
    server = start_server("--storage", "sqlite", "--data-dir", str(other))
    assert dump_from(server) == online


def test_limits_hold_for_a_data_directory(tmp_path: Path) -> None:
    """What no server with the same settings would take."""
    directory = str(tmp_path / "data")
    line = told(run_kvs("load", "--data-dir", directory, "--max-key-bytes", "4", given=dump_of({b"12345": b""})))
    assert "line 2: the key has 5 bytes; max_key_bytes is 4" in line
    data = {b"%05d" % number: b"v" * 32 for number in range(2000)}
    env = {"KVS_MAX_DATA_BYTES": "100000"}
    line = told(run_kvs("load", "--data-dir", directory, given=dump_of(data), env=env))
    found = re.search(r"line (\d+): limit: The data set is full.*; (\d+) entries were loaded$", line)
    assert found is not None
    assert int(found[1]) == int(found[2]) + 2
    dump = run_kvs("dump", "--data-dir", directory).stdout
    assert dump.endswith(trailer_line(int(found[2])))


def test_a_data_directory_that_is_none(tmp_path: Path) -> None:
    """A dump does not make one."""
    assert "no such directory" in told(run_kvs("dump", "--data-dir", str(tmp_path / "data")))
    assert list(tmp_path.iterdir()) == []
    assert "no data directory of the sqlite engine" in told(run_kvs("dump", "--data-dir", str(tmp_path)))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kvs.db").write_bytes(b"something else" * 1000)
    assert "kvs.db" in told(run_kvs("dump", "--data-dir", str(tmp_path)))


# The command line.


@pytest.mark.parametrize("name", ["dump", "load"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "banana"], "port: 'banana' (from --port)"),
        (["--port", "0"], "port: 0"),
        (["--nonsense"], "--nonsense"),
        (["one", "two"], "two"),
        (["--data-dir", "/nowhere", "--port", "4000"], "give one of them"),
        (["--data-dir", "/nowhere", "--host", "localhost"], "give one of them"),
        (["--data-dir", "/", "--storage", "memory"], "'memory' keeps nothing"),
        (["--data-dir", "/", "--storage", "nope"], "unknown engine 'nope'"),
    ],
)
def test_wrong_usage(name: str, arguments: list[str], words: str) -> None:
    """Exit code 2, and one line."""
    assert words in told(run_kvs(name, *arguments, given=HEADER), code=2)


def test_settings_from_the_environment_and_a_file(server: Server, tmp_path: Path) -> None:
    """The same as the server's own; a data directory there is the server's, and the server is asked."""
    load_into(server, dump_of({b"a": b"1"}))
    (tmp_path / "kvs.toml").write_text(f'port = {server.port}\ndata_dir = "{tmp_path}"\nstorage = "sqlite"\n')
    for env in (
        {"KVS_PORT": str(server.port), "KVS_DATA_DIR": str(tmp_path)},
        {"KVS_CONFIG": str(tmp_path / "kvs.toml")},
    ):
        assert run_kvs("dump", env=env).stdout == dump_of({b"a": b"1"})


def test_help_names_what_there_is() -> None:
    """Both commands, and their options."""
    assert b"dump" in run_kvs("--help").stdout
    for name in ("dump", "load"):
        text = run_kvs(name, "--help").stdout.decode()
        assert all(flag in text for flag in ("--host", "--port", "--data-dir", "--storage", "[FILE]"))
        assert "--transport" not in text


def test_a_closed_standard_stream(server: Server) -> None:
    """It is told as any other failure."""
    for name, closed in (("dump", ">&-"), ("load", "<&-")):
        shell = ["/bin/sh", "-c", f'exec "$@" {closed}', "sh"]
        ran = subprocess.run([*shell, *command(name, *at(server))], capture_output=True, timeout=TIMEOUT_S, check=False)
        assert "it is closed" in told(ran)
