"""What clients of Sentinel are told is what a real Sentinel tells them, but for the values."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from kvs.adapters.inbound.resp.commands.registry import OF_SENTINELS
from kvs.adapters.inbound.resp.connection import RespConnection
from kvs.ports.topology import ServerInfo, Topology
from tests.interop.conftest import redis_server
from tests.interop.test_commands import documented, one_of, pairs_of
from tests.support.harness import polling
from tests.support.resp_connection import RespServer, answer
from tests.support.resp_wire import PONG, Reply, Typed, Wire, request, words

LEADER: Final = ServerInfo("a" * 40, "127.0.0.1", 1, "1.0")
OTHER: Final = ServerInfo("b" * 40, "127.0.0.1", 2, "1.0")

SUBCOMMANDS: Final = OF_SENTINELS[b"sentinel"].subcommands or {}


@pytest.fixture(scope="module")
def sentinel_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the socket of a Sentinel that watches a master that is not there, and knows a replica and a Sentinel."""
    directory = tmp_path_factory.mktemp("sentinel")
    path = Path(directory, "s")
    file = Path(directory, "sentinel.conf")
    file.write_text(
        f"port 0\nunixsocket {path}\ndir {directory}\n"
        f"sentinel monitor mymaster {LEADER.host} {LEADER.port} 2\n"
        "sentinel down-after-milliseconds mymaster 1000000\n"
        f"sentinel known-replica mymaster {OTHER.host} {OTHER.port}\n"
        f"sentinel known-sentinel mymaster {OTHER.host} {OTHER.port} {OTHER.id}\n",
        encoding="utf-8",
    )
    command = [redis_server(), str(file), "--sentinel"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            for _ in polling("the sentinel listens"):
                assert process.poll() is None, "it has ended"
                with suppress(OSError), Wire(path) as wire:
                    assert wire.ask("PING") == PONG
                    break
            yield path
        finally:
            process.terminate()


@pytest.fixture(params=["2", "3"])
def version(request: pytest.FixtureRequest) -> str:
    """Return the version of the protocol."""
    return str(request.param)


@pytest.fixture
def theirs(sentinel_path: Path, version: str) -> Iterator[Wire]:
    """Return a connection to the Sentinel."""
    with Wire(sentinel_path) as wire:
        wire.ask("HELLO", version)
        yield wire


@pytest.fixture
def ours(version: str) -> RespConnection:
    """Return a connection to a server that leads, and knows another."""
    server = RespServer()
    server.shared.topology = Topology("mymaster", LEADER, 2000)
    server.shared.topology.others = (OTHER,)
    connection = server.connect()
    ask(connection, f"HELLO {version}")
    return connection


def ask(connection: RespConnection, line: str) -> Reply:
    """Return the reply of kvs."""
    connection.receive(request(*words(line)))
    return answer(connection)


def fields(reply: Reply) -> Mapping[str, str]:
    """Return the fields of a server, in their order."""
    items = pairs_of(reply)
    texts = [item.decode() for item in items if isinstance(item, bytes)]
    assert len(texts) == len(items)
    return dict(zip(texts[::2], texts[1::2], strict=True))


@pytest.mark.parametrize("line", ["MASTERS", "REPLICAS mymaster", "SLAVES mymaster", "SENTINELS mymaster"])
def test_fields_of_servers(ours: RespConnection, theirs: Wire, line: str) -> None:
    """The same names, in the same order, and what does not depend on time has the same value."""
    kvs, redis = ask(ours, f"SENTINEL {line}"), theirs.asked(f"SENTINEL {line}")
    assert isinstance(kvs, list)
    assert isinstance(redis, list)
    assert len(kvs) == len(redis) == 1
    assert type(kvs[0]) is type(redis[0])
    told, expected = fields(kvs[0]), fields(redis[0])
    assert [*told] == [*expected]
    for name in ("name", "ip", "port", "num-slaves", "num-other-sentinels", "quorum"):
        assert told.get(name) == expected.get(name)
    assert set(told["flags"].split(",")) <= set(expected["flags"].split(","))


def test_a_master_is_described_as_in_the_list(ours: RespConnection) -> None:
    """By name."""
    masters = ask(ours, "SENTINEL MASTERS")
    assert isinstance(masters, list)
    assert masters == [ask(ours, "sentinel master mymaster")]


@pytest.mark.parametrize(
    "line",
    [
        *("GET-MASTER-ADDR-BY-NAME mymaster", "get-master-addr-by-name nope", "MASTER nope", "REPLICAS nope"),
        *("SLAVES MyMaster", "SENTINELS nope", "CKQUORUM nope", "CKQUORUM mymaster", "NOPE", "MASTERS x", "MASTER", ""),
    ],
)
def test_the_same_replies(ours: RespConnection, theirs: Wire, line: str) -> None:
    """Names that are unknown, and mistakes, included."""
    kvs, redis = ask(ours, f"SENTINEL {line}"), theirs.asked(f"SENTINEL {line}")
    if line == "CKQUORUM mymaster":  # the other Sentinel is not there, in theirs
        assert kvs == Typed("+", b"OK 2 usable Sentinels. Quorum and failover authorization can be reached")
        assert isinstance(redis, Typed)
        assert isinstance(redis.value, bytes)
        assert redis.value.startswith((b"OK 2 usable", b"NOQUORUM "))
    else:
        assert kvs == redis


def test_a_leader_alone_has_no_quorum(ours: RespConnection) -> None:
    """Nobody could take over."""
    topology = Topology("mymaster", LEADER, 2000)
    server = RespServer()
    server.shared.topology = topology
    reply = ask(server.connect(), "SENTINEL CKQUORUM mymaster")
    assert isinstance(reply, Typed)
    assert reply.kind == "-"
    assert ask(ours, "SENTINEL MYID") == LEADER.id.encode()


@pytest.mark.parametrize("name", [b"sentinel", *(command.name for command in SUBCOMMANDS.values())], ids=bytes.decode)
def test_what_a_command_is(ours: RespConnection, theirs: Wire, name: bytes) -> None:
    """As COMMAND tells it."""
    kvs, redis = (
        one_of(reply) for reply in (ask(ours, f"COMMAND INFO {name.decode()}"), theirs.ask("COMMAND", "INFO", name))
    )
    assert kvs[:-1] == redis[:-1]
    kvs, redis = (
        documented(reply, name)
        for reply in (ask(ours, f"COMMAND DOCS {name.decode()}"), theirs.ask("COMMAND", "DOCS", name))
    )
    assert kvs == redis


@pytest.mark.parametrize("name", [name for name in OF_SENTINELS if name != b"sentinel"], ids=bytes.decode)
def test_what_other_commands_are(ours: RespConnection, redis_path: Path, version: str, name: bytes) -> None:
    """Redis has them, too."""
    with Wire(redis_path) as redis:
        redis.ask("HELLO", version)
        for word in ("INFO", "DOCS"):
            kvs = ask(ours, f"COMMAND {word} {name.decode()}")
            expected = redis.ask("COMMAND", word, name)
            if word == "DOCS":
                assert documented(kvs, name) == documented(expected, name)
            else:
                assert kvs == expected


@pytest.mark.parametrize(
    "lines",
    [
        "SUBSCRIBE +switch-master | PING | PING x | GET a | client list | UNSUBSCRIBE | UNSUBSCRIBE | PING",
        "PSUBSCRIBE * | PUNSUBSCRIBE * | PUNSUBSCRIBE * | UNSUBSCRIBE +x | SUBSCRIBE +a | SUBSCRIBE +a | RESET",
        "SUBSCRIBE | SUBSCRIBE +a | psubscribe [-+]sdown | UNSUBSCRIBE | PUNSUBSCRIBE x | PUNSUBSCRIBE | ECHO a",
    ],
)
def test_subscriptions(ours: RespConnection, redis_path: Path, version: str, lines: str) -> None:
    """Are confirmed, counted and ended as in Redis, and while there are any, RESP2 has few commands."""
    with Wire(redis_path) as redis:
        redis.ask("HELLO", version)
        for line in lines.split(" | "):
            kvs, expected = ask(ours, line), redis.asked(line)
            assert kvs == expected or line == "client list"


@pytest.mark.parametrize("line", ["SUBSCRIBE news", 'SUBSCRIBE ""', "SUBSCRIBE +a news", "PSUBSCRIBE news*"])
def test_other_channels_are_refused(ours: RespConnection, line: str) -> None:
    """As a command is that there is not, and nothing is subscribed to."""
    reply = ask(ours, line)
    assert isinstance(reply, Typed)
    assert isinstance(reply.value, bytes)
    assert reply.value.startswith(b"ERR unknown command ")
    assert ask(ours, "ECHO a") == b"a"


def test_subscriptions_are_bounded(ours: RespConnection) -> None:
    """In number, at once or one after the other, and in length."""
    many = " ".join(f"+{number}" for number in range(65))
    for line in (f"SUBSCRIBE {many}", f"UNSUBSCRIBE {many}", "SUBSCRIBE +" + "x" * 128):
        reply = ask(ours, line)
        assert isinstance(reply, Typed)
        assert reply.kind == "-"
    for number in range(64):
        ask(ours, f"SUBSCRIBE +{number}")
    reply = ask(ours, "SUBSCRIBE +64")
    assert isinstance(reply, Typed)
    assert reply.kind == "-"


def test_subscriptions_are_shown(ours: RespConnection) -> None:
    """In CLIENT LIST; and not mixed with transactions."""
    assert ask(ours, "START") == Typed("+", b"OK")
    refused = ask(ours, "SUBSCRIBE +a")
    assert isinstance(refused, Typed)
    assert refused.kind == "-"
    ask(ours, "ROLLBACK")
    ask(ours, "SUBSCRIBE +a")
    ask(ours, "PSUBSCRIBE +b")
    info = ours.client_info()
    assert (info.flags, info.channels, info.patterns) == ("P", 1, 1)
