"""The tools that come with Redis: redis-cli, by the line and in bulk, and redis-benchmark."""

import subprocess
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from tests.interop.conftest import program
from tests.support.harness import TIMEOUT_S
from tests.support.resp_wire import Wire, request

Address: TypeAlias = tuple[str, int]


def run(tool: str, address: Address, *arguments: str, stdin: str | bytes = b"") -> tuple[int, str, str]:
    """Run a tool to its end; return its exit code, and what it wrote to standard output and standard error."""
    done = subprocess.run(
        [program(tool), "-h", address[0], "-p", str(address[1]), *arguments],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def cli(address: Address, *arguments: str, stdin: str | bytes = b"") -> str:
    """Run redis-cli, which has to succeed and to complain of nothing; return what it says."""
    code, out, complaints = run("redis-cli", address, *arguments, stdin=stdin)
    assert (code, complaints) == (0, "")
    return out


@pytest.mark.parametrize("version", ["-2", "-3"])
def test_one_command(address: Address, version: str) -> None:
    """By arguments, with options of redis-cli that send more than the command."""
    assert cli(address, version, "SET", "a", "two words") == "OK\n"
    assert cli(address, version, "GET", "a") == "two words\n"
    assert cli(address, version, "--json", "MGET", "a", "nope") == '["two words",null]\n'
    assert cli(address, version, "--csv", "MGET", "a", "nope") == '"two words",NULL\n'
    assert cli(address, version, "--no-raw", "GET", "nope") == "(nil)\n"
    assert cli(address, version, "--no-raw", "GET", "a") == '"two words"\n'
    assert cli(address, version, "-r", "3", "INCR", "n") == "1\n2\n3\n"
    assert cli(address, version, "-n", "0", "GET", "n") == "3\n"
    assert cli(address, version, "-x", "SET", "b", stdin=b"\x00\xff") == "OK\n"
    assert cli(address, version, "STRLEN", "b") == "2\n"
    assert cli(address, version, "CLIENT", "HELP").startswith("CLIENT <subcommand>")


def test_errors(address: Address) -> None:
    """They come out as errors, with an exit code if that is asked for."""
    code, out, complaint = run("redis-cli", address, "-e", "INCR")
    assert (code, out, complaint.strip()) == (1, "", "ERR wrong number of arguments for 'incr' command")
    code, _, complaint = run("redis-cli", address, "-n", "3", "GET", "a")
    assert code == 0
    assert complaint.startswith("SELECT 3 failed: ERR DB index is out of range: there is one database, 0; run a server")


def test_many_lines(address: Address) -> None:
    """From standard input, over one connection; with transactions of both kinds, and RESP3."""
    said = 'SET a "x y"\nMULTI\nINCR n\nGET a\nEXEC\n'
    said += "START\nSET a z\nSTART\nSET a q\nROLLBACK\nGET a\nCOMMIT\nGET a\nDBSIZE\n"
    answers = ["OK", "OK", "QUEUED", "QUEUED", "1", "x y", "OK", "OK", "OK", "OK", "OK", "z", "OK", "z", "2"]
    for version in ("-2", "-3"):
        assert cli(address, version, stdin="FLUSHALL\n" + said).splitlines() == ["OK", *answers]
    out = cli(address, stdin="WATCH a\nSET a 1\nMULTI\nPING\nEXEC\nSTART\nCOMMIT\n")
    assert out.splitlines() == ["OK", "OK", "OK", "QUEUED", "", "OK", "OK"]


def test_a_conflict(address: Address) -> None:
    """It is told in one line, which begins with the code."""
    start = b"START\nINCR a\n"
    with subprocess.Popen(
        [program("redis-cli"), "-h", address[0], "-p", str(address[1])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=False,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(start)
        process.stdin.flush()
        assert [process.stdout.readline(), process.stdout.readline()] == [b"OK\n", b"1\n"]
        assert cli(address, "SET", "a", "5") == "OK\n"
        out, _ = process.communicate(b"COMMIT\nGET a\n")
    assert out.splitlines() == [
        b'CONFLICT "a" changed since START. Nothing was applied; retry from START.',
        b"",
        b"5",
    ]


def test_scan(address: Address) -> None:
    """``--scan`` lists every key once, those that match, and those of a type."""
    with Wire(address) as wire:
        for number in range(1000):
            wire.send(request("SET", f"k:{number}", ""))
        for _ in range(1000):
            wire.reply()
    assert sorted(cli(address, "--scan").split()) == sorted(f"k:{number}" for number in range(1000))
    assert cli(address, "--scan", "--pattern", "k:99?").split() == [f"k:99{one}" for one in range(10)]
    assert cli(address, "--bigkeys").count("1000 strings with 0 bytes") == 1


@pytest.mark.parametrize("count", [1, 20_000])
def test_mass_insertion(address: Address, count: int) -> None:
    """``--pipe`` sends all, counts the replies, and knows when it has the last one."""
    data = b"".join(request("SET", f"k:{number}", number) for number in range(count))
    out = cli(address, "--pipe", stdin=data)
    assert out.splitlines()[-1] == f"errors: 0, replies: {count}"
    assert cli(address, "DBSIZE") == f"{count}\n"
    assert cli(address, "GET", f"k:{count - 1}") == f"{count - 1}\n"
    code, out, complaint = run("redis-cli", address, "--pipe", stdin=data + request("INCR", "k:0", "x"))
    assert code == 1
    assert complaint.strip() == "ERR wrong number of arguments for 'incr' command"
    assert out.splitlines()[-1] == f"errors: 1, replies: {count + 1}"


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b"\n\n\r\n"])
def test_mass_insertion_with_empty_lines(address: tuple[str, int], line: bytes) -> None:
    """Between requests, and behind the last, as an editor leaves them."""
    count = 1000
    data = b"".join(request("SET", f"k:{number}", number) + line for number in range(count))
    out = cli(address, "--pipe", stdin=data)
    assert out.splitlines()[-1] == f"errors: 0, replies: {count}"
    assert cli(address, "DBSIZE") == f"{count}\n"


LINES: Final = ["SET a 'two words'", 'SET b "\\x41\\n"', "", "INCR n", "GET a", "STRLEN b", "MGET a b n"]
REPLIES: Final = 6


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_mass_insertion_of_lines(address: Address, end: str) -> None:
    """Commands as people write them, if the first ends in CRLF and is one that the line protocol does not have."""
    data = "SELECT 0\r\n" + "".join(line + end for line in LINES)
    assert cli(address, "--pipe", stdin=data).splitlines()[-1] == f"errors: 0, replies: {REPLIES + 1}"
    assert cli(address, "GET", "a") == "two words\n"
    if end == "\r\n":
        data = "".join(line + end for line in LINES)
        assert cli(address, "--pipe", stdin=data).splitlines()[-1] == f"errors: 0, replies: {REPLIES}"
    assert cli(address, "DBSIZE") == "3\n"
    code, out, complaint = run("redis-cli", address, "--pipe", stdin=data + "LPUSH l 1" + end)
    assert code == 1
    assert complaint.startswith("ERR unknown command 'LPUSH'")
    assert out.splitlines()[-1].startswith("errors: 1, replies: ")


@pytest.mark.parametrize("data", ["SET a 1\n", "GET a\r\nSET a 1\r\n", "\r\nSET a 1\r\n", "\n", ""])
def test_mass_insertion_that_begins_as_the_line_protocol(address: Address, data: str) -> None:
    """It ends at once, with an error of redis-cli, and stores nothing."""
    code, _, complaint = run("redis-cli", address, "--pipe", stdin=data)
    assert (code, complaint) == (1, "Error reading replies from server\n")
    assert cli(address, "DBSIZE") == "0\n"


@pytest.mark.parametrize("option", ["--rdb", "--functions-rdb"])
def test_an_rdb_file_is_refused(address: Address, tmp_path: Path, option: str) -> None:
    """There is none: redis-cli says so and writes no file."""
    path = tmp_path / "dump.rdb"
    code, out, complaint = run("redis-cli", address, option, str(path))
    assert (code, out) == (1, "")
    last = complaint.splitlines()[-1]
    if option == "--rdb":
        assert last.startswith("SYNC with master failed: -ERR unknown command 'SYNC'")
    else:
        assert last == "Failed requesting functions only RDB from server, aborting"
    assert not path.exists()


def test_a_replica_is_refused(address: Address) -> None:
    """Likewise for redis-cli as one."""
    code, out, complaint = run("redis-cli", address, "--replica")
    assert (code, out) == (1, "")
    assert complaint.splitlines()[-1].startswith("SYNC with master failed: -ERR unknown command 'SYNC'")


@pytest.mark.parametrize("options", [(), ("-P", "16"), ("-P", "16", "-e"), ("--threads", "2", "-P", "4"), ("-k", "0")])
def test_benchmark_of_lines(address: Address, options: tuple[str, ...]) -> None:
    """A client that sends nothing but PINGs, as lines, never tells what it speaks, and has all its answers."""
    name = "ping_inline"
    code, out, complaints = run("redis-benchmark", address, "-t", name, "-n", "2000", "-q", "-c", "10", *options)
    assert code == 0
    assert "PING_INLINE: " in out
    assert out.count("requests per second") == 1
    assert "rror" not in out + complaints.replace("exit on error", "")


@pytest.mark.parametrize("options", [("-e",), ("-e", "-P", "16"), ("-e", "-a", "secret")])
def test_benchmark_of_everything(address: Address, options: tuple[str, ...]) -> None:
    """Its default tests run up to a command that kvs does not have, and that is all it complains of.

    Or of a password that the server does not ask for, as with Redis.
    """
    code, out, complaints = run("redis-benchmark", address, "-n", "500", "-q", "-c", "10", *options)
    done = {line.rpartition("\r")[2].strip().partition(":")[0] for line in out.splitlines() if "per second" in line}
    if "-a" not in options:
        assert done >= {"PING_INLINE", "PING_MBULK", "SET", "GET", "INCR"}
    errors = [line for line in (out + complaints).splitlines() if "ERR" in line]
    expected = "ERR AUTH <password> called without any password" if "-a" in options else "ERR unknown command"
    assert all(expected in error for error in errors)
    assert (code == 0) == (not errors)


@pytest.mark.parametrize("options", [(), ("-P", "16"), ("-P", "16", "-3"), ("--threads", "2")])
def test_benchmark(address: Address, options: tuple[str, ...]) -> None:
    """It runs to its end, and has done what it says."""
    count = 2000
    code, out, complaints = run("redis-benchmark", address, "-t", "set,get,incr,mset", "-n", str(count), "-q", *options)
    assert code == 0
    for name in ("SET", "GET", "INCR", "MSET (10 keys)"):
        assert f"{name}: " in out
        assert out.count("requests per second") == 4
    assert "rror" not in out + complaints
    assert "WARN" not in complaints
    assert cli(address, "GET", "counter:__rand_int__") == f"{count}\n"
    assert cli(address, "MGET", "key:__rand_int__") != "\n"
