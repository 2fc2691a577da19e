"""What goes wrong with ``kvs dump`` and ``kvs load``: told in one line, with the exit code 1, and nothing by halves."""

import re
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from kvs.dump.format import HEADER, entry_line
from kvs.dump.loader import counted
from tests.support.dumps import at, dump_of, fill, load_into, pipe_of, run_kvs, running_kvs, told
from tests.support.harness import TIMEOUT_S, Server, polling

from .conftest import StartServer

pytestmark = pytest.mark.one_build


@pytest.fixture(scope="session")
def transport_flags() -> tuple[str, ...]:
    """Return no flags: no transport has a say in this."""
    return ()


# The file.


def test_a_dump_that_is_cut_off(server: Server, tmp_path: Path) -> None:
    """A file is not loaded; a pipe up to where it is cut, and the exit code tells."""
    dump = dump_of({b"a": b"1", b"b": b"2"})
    client = server.connect()
    for size in (
        0,
        1,
        8,
        len(HEADER) - 1,
        len(HEADER),
        len(HEADER) + 10,
        len(dump) - 15,
        len(dump) - 14,
        len(dump) - 2,
    ):
        (tmp_path / "cut").write_bytes(dump[:size])
        line = told(run_kvs("load", *at(server), str(tmp_path / "cut")))
        assert ("truncated" in line) == (size > 0)
        assert line.endswith("nothing was loaded")
    assert client.ask("COUNT")["result"] == 0
    line = told(run_kvs("load", *at(server), given=dump[:-8]))
    assert "line 4: the dump is truncated" in line
    assert line.endswith("; 2 entries were loaded")
    assert client.ask("COUNT")["result"] == 2


def test_standard_input_that_is_a_file_is_checked_first(server: Server, tmp_path: Path) -> None:
    """It can be read twice."""
    path = tmp_path / "dump"
    path.write_bytes(entry_line(b"a", b"1") + b"nonsense\n")
    with path.open("rb") as stream, running_kvs("load", *at(server), stdin=stream) as process:
        assert process.wait(TIMEOUT_S) == 1
        assert pipe_of(process.stderr).read().endswith(b"nothing was loaded\n")
    assert server.connect().ask("COUNT")["result"] == 0


TOO_LONG = b"(too long)"
"""Stands for more than fits into an entry, so that only the test that writes it has it in memory."""

HOSTILE: dict[str, tuple[bytes, str]] = {
    "a long line": (b"x" * 10_000_000 + b"\n", "not a valid entry"),
    "a long line without end": (b"[" * 10_000_000, "the dump is truncated in the middle of this line"),
    "a line longer than any entry": (b'{"key":"a","value":"' + TOO_LONG + b'"}\n', "longer than"),
    "binary": (bytes(range(11, 256)) * 1000 + b"\n", "not a valid entry"),
    "deep nesting": (b'{"key":"a","value":' + b"[" * 1_000_000 + b"\n", "not a valid entry"),
    "duplicate fields": (b'{"key":"a","key":"b","value":""}\n', "key is given twice"),
    "wrong types": (b'{"key":"a","value":true}\n', "not a valid entry .Expected `str`, got `bool`"),
    "terminal escapes": (
        b'{"\\u001b[2J\\u001b]0;x\\u0007":1}\n',
        "not a valid entry .*" + re.escape(r"\x1b[2J\x1b]0;x\x07"),
    ),
    "base64 that is none": (b'{"key":"a","value_base64":"?"}\n', "not a valid entry"),
    "a key that is empty": (b'{"key":"","value":""}\n', "the key is empty"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(server: Server, tmp_path: Path, name: str) -> None:
    """The number of the bad line is told; nothing of a file is loaded, and of a pipe what comes before that line."""
    bad, words = HOSTILE[name]
    path = tmp_path / "dump"
    path.write_bytes(entry_line(b"first", b"1") + bad.replace(TOO_LONG, b"x" * 110_000_000))
    client = server.connect()
    line = told(run_kvs("load", *at(server), str(path)))
    assert re.match(rf"kvs: line 2: {words}.*; nothing was loaded$", line)
    assert line.isprintable()
    assert client.ask("COUNT")["result"] == 0
    path.write_bytes(path.read_bytes().rstrip(b"\n") + b"\n" + entry_line(b"last", b"1"))
    with path.open("rb") as file:
        line = told(run_kvs("load", *at(server), given=file.read()))
    assert line.endswith("; 1 entry was loaded")
    assert client.ask("KEYS")["result"] == ["first"]


@pytest.mark.parametrize("name", ["", "/", "nowhere/dump", "\x1b[2J"])
def test_a_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    """It is told before anybody is connected to."""
    line = told(run_kvs("load", "--port", "1", str(tmp_path / name) if name else str(tmp_path)))
    assert "cannot be read" in line
    assert line.isprintable()


# The server.


def test_what_the_server_refuses_is_told_with_its_line(start_server: StartServer) -> None:
    """A limit on the data, and on keys; what came before is there, and the message counts it right."""
    server = start_server("--max-data-bytes", "400000", "--max-value-bytes", "100", "--max-key-bytes", "10")
    client = server.connect()
    others = [entry_line(b"%d" % number, b"v" * 90) for number in range(1500)]
    line = told(run_kvs("load", *at(server), given=b"".join([others[0], entry_line(b"k" * 11, b""), *others[1:]])))
    assert "line 2: The key has 11 bytes; max_key_bytes is 10; " in line
    stored = client.ask("COUNT")["result"]  # those that were under way behind it, too, and no more
    assert line.endswith(f"; {counted(stored)} {'was' if stored == 1 else 'were'} loaded")
    assert 1 < stored < 1200
    client.ok(*(f"DEL {number}" for number in range(1500)))
    data = {b"%05d" % number: b"v" * 32 for number in range(3000)}
    line = told(run_kvs("load", *at(server), given=dump_of(data)))
    stored = client.ask("COUNT 0")["result"]
    assert f"line {stored + 2}: limit: The data set is full" in line
    assert line.endswith(f"; {counted(stored)} {'was' if stored == 1 else 'were'} loaded")
    assert 0 < stored < 3000


@pytest.mark.parametrize("too_many", [1, 100_000])
def test_a_value_that_the_server_would_refuse(start_server: StartServer, tmp_path: Path, too_many: int) -> None:
    """It is found by the check of a file: one that is far too long would end the connection."""
    server = start_server("--max-value-bytes", "100")
    path = tmp_path / "dump"
    path.write_bytes(dump_of({b"a": b"v" * 100, b"b": b"v" * (100 + too_many), b"c": b""}))
    line = told(run_kvs("load", *at(server), str(path)))
    words = f"line 3: the value has {100 + too_many} bytes; the server's max_value_bytes is 100"
    assert line == f"kvs: {words}; nothing was loaded"
    line = told(run_kvs("load", *at(server), given=path.read_bytes()))
    assert line == f"kvs: {words}; 1 entry was loaded"
    assert server.connect().ask("KEYS")["result"] == ["a"]


def test_a_request_that_ends_the_connection(start_server: StartServer) -> None:
    """What the server says of it is told with its line, though all that was under way behind it is lost."""
    server = start_server("--max-value-bytes", "100", "--max-key-bytes", "100")
    lines = [entry_line(b"a", b"1"), entry_line(b"k" * 10_000, b""), *[entry_line(b"b", b"1")] * 1000]
    line = told(run_kvs("load", *at(server), given=b"".join(lines)))
    assert (
        line
        == "kvs: line 2: Protocol error: invalid bulk length; 1 entry was loaded, and up to 1,000 more may have been"
    )


def test_a_value_that_is_longer_than_was_said(server: Server) -> None:
    """It is not taken, and the settings that bound it are named."""
    load_into(server, dump_of({b"a": b"v" * 3_000_000}))
    ran = run_kvs("dump", *at(server), "--max-value-bytes", "1000", "--max-key-bytes", "100")
    assert ran.returncode == 1
    assert ran.stdout == HEADER
    assert b"max_value_bytes are above the defaults, give them here, too" in ran.stderr


def test_the_server_dies_during_a_dump(start_server: StartServer, tmp_path: Path) -> None:
    """The dump fails and has no last line; in a file, there is no dump."""
    server = start_server()
    with server.connect() as client:
        fill(client, ((f"{number:05}", "v" * 10_000) for number in range(3000)))
    with (
        running_kvs("dump", *at(server)) as process,
        running_kvs("dump", *at(server), str(tmp_path / "dump")) as other,
    ):
        output = pipe_of(process.stdout)
        received = output.read(1000)  # goes on only as this is read
        with server.paused():  # for there is no telling how far the other has come
            server.send_signal(signal.SIGKILL)
        server.wait_exit()
        received += output.read()
        assert process.wait(TIMEOUT_S) == 1
        (line,) = pipe_of(process.stderr).read().decode().splitlines()
        assert other.wait(TIMEOUT_S) in (0, 1)
    assert line.startswith("kvs: the connection to ")
    assert received.startswith(HEADER)
    assert b'"entries"' not in received
    assert [path.name for path in tmp_path.iterdir()] == (["dump"] if other.returncode == 0 else [])


def test_the_server_dies_during_a_load(start_server: StartServer) -> None:
    """The load fails, and tells how much had been acknowledged."""
    server = start_server()
    client = server.connect()
    lines = [entry_line(b"%06d" % number, b"v" * 1000) for number in range(10_000)]
    with running_kvs("load", *at(server)) as process:
        given = pipe_of(process.stdin)
        given.write(b"".join(lines[:200]))
        for _ in polling("something is loaded"):
            if client.ask("COUNT")["result"]:
                break
        server.send_signal(signal.SIGKILL)
        server.wait_exit()
        with pytest.raises(BrokenPipeError):
            given.writelines(lines[200:])
        assert process.wait(TIMEOUT_S) == 1
        (message,) = pipe_of(process.stderr).read().decode().splitlines()
    assert re.match(r"kvs: the connection to .* is lost: .*; [\d,]+ entr(y was|ies were) loaded", message)


def test_the_server_gives_the_snapshot_of_a_dump_up(start_server: StartServer) -> None:
    """When the values kept for it outgrow max_history_bytes, it says so."""
    server = start_server("--max-history-bytes", "1000000")
    client = server.connect()
    fill(client, ((f"{number:05}", "v" * 10_000) for number in range(3000)))
    with running_kvs("dump", *at(server)) as process:
        output = pipe_of(process.stdout)
        output.read(1000)
        fill(client, ((f"{number:05}", "w") for number in range(3000)))
        assert b'"entries"' not in output.read()
        assert process.wait(TIMEOUT_S) == 1
        (line,) = pipe_of(process.stderr).read().decode().splitlines()
    assert "timeout: " in line
    assert "max_history_bytes" in line


def test_a_server_that_takes_no_more_clients(start_server: StartServer) -> None:
    """What it says is what is told."""
    server = start_server("--max-clients", "1")
    server.connect().ok("PING")
    for command in ("dump", "load"):
        assert "limit: " in told(run_kvs(command, *at(server), given=HEADER))


@pytest.mark.parametrize("command", ["dump", "load"])
def test_nobody_listens(command: str) -> None:
    """It names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    line = told(run_kvs(command, "--port", str(port), given=HEADER))
    assert f"cannot connect to 127.0.0.1:{port}: Connection refused" in line


@pytest.mark.parametrize(
    "answer",
    [
        b"-ERR unknown command\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xfe\x00\n",
        b"[" * 1_000_000 + b"\n",
        b'{"status": "Fine"}\n',
        b'{"status": "Ok"}\n',
        b'{"status": "Ok", "result": 1}\n',
        b"\x1b[2J\n",
        b"",
    ],
)
@pytest.mark.parametrize("command", ["dump", "load"])
def test_something_else_listens(command: str, answer: bytes) -> None:
    """It is no kvs, or an odd one."""

    def serve() -> None:
        sock, _ = listening.accept()
        with sock, suppress(ConnectionError):  # it may hang up on what is not kvs before it has heard all
            sock.recv(100)
            sock.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        line = told(run_kvs(command, "--port", str(listening.getsockname()[1]), given=HEADER))
        thread.join()
    assert "does not answer as kvs does" in line or "is lost" in line
    assert line.isprintable()
    assert len(line) < 400


def test_a_load_that_is_refused_leaves_the_server_as_it_was(server: Server) -> None:
    """Entries are stored one by one, and others see them; nothing is deleted."""
    load_into(server, dump_of({b"a": b"1", b"b": b"1"}))
    told(run_kvs("load", *at(server), given=dump_of({b"a": b"2"})[:-5]))
    client = server.connect()
    assert [client.get(key) for key in "ab"] == ["2", "1"]
