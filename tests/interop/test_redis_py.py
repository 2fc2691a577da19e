"""redis-py, with asyncio and without: what it does with Redis it does with kvs."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeAlias

import pytest
import redis
import redis.asyncio
from redis.exceptions import ConnectionError as DisconnectedError
from redis.exceptions import ExecAbortError, ResponseError, WatchError

from tests.support.harness import Client, Server

Address: TypeAlias = tuple[str, int]

ALL_BYTES = bytes(range(256))


@pytest.fixture(params=[2, 3])
def version(request: pytest.FixtureRequest) -> int:
    """Return which version of RESP is spoken."""
    number: int = request.param
    return number


@pytest.fixture
def client(address: Address, version: int) -> Iterator[Any]:
    """Return a client; it is not typed, for its types tell of Redis's every configuration."""
    with closing(redis.Redis(*address, protocol=version)) as client:
        yield client


@pytest.fixture
def line(server: Server) -> Iterator[Client]:
    """Return a client that speaks the line protocol, to see the same data."""
    with Client(server.host, server.port) as line:
        yield line


def test_values(client: Any, line: Client) -> None:
    """Keys and values are any bytes; replies become what redis-py makes of them."""
    assert client.set("a", "1") is True
    assert client.get("a") == b"1"
    assert client.get("nope") is None
    assert client.set(ALL_BYTES, ALL_BYTES) is True
    assert client.get(ALL_BYTES) == ALL_BYTES
    assert client.set("a", "2", nx=True) is None
    assert client.set("a", "2", xx=True, get=True) == b"1"
    assert line.get("a") == "2"
    line.ok("PUT a ü")
    assert client.get("a") == "ü".encode()
    assert client.mset({"b": 1, "c": 2}) is True
    assert client.mget("a", "b", "nope") == ["ü".encode(), b"1", None]
    assert client.msetnx({"b": 2, "d": 3}) is False
    assert client.getset("b", 5) == b"1"
    assert client.incr("b", 2) == 7
    assert client.decr("b") == 6
    assert client.incrbyfloat("b", 0.5) == 6.5
    assert client.append("c", "xy") == 3
    assert client.strlen("c") == 3
    assert client.getrange("c", 1, -1) == b"xy"
    assert client.setrange("c", 1, "ab") == 3
    assert client.setbit("g", 7, 1) == 0
    assert client.getbit("g", 7) == 1
    assert client.bitcount("g", 0, -1, "BIT") == 1
    assert client.bitpos("g", 1) == 7
    assert client.bitop("NOT", "h", "g") == 1
    assert client.bitfield("h").get("u8", 0).overflow("SAT").incrby("u4", "#1", 9).execute() == [254, 15]
    assert client.bitfield_ro("h", "i8", 0) == [-1]
    assert client.lcs("c", "a") == b""
    assert client.delete("g", "h") == 2
    assert client.exists("a", "b", "nope") == 2
    assert client.type("a") == b"string"
    assert client.type("nope") == b"none"
    assert client.rename("c", "e") is True
    assert client.copy("e", "f") is True
    assert client.getdel("f") == b"2ab"
    assert sorted(client.keys("[abe]")) == [b"a", b"b", b"e"]
    assert client.delete("a", "nope") == 1
    assert client.unlink("b") == 1
    assert client.dbsize() == 2
    assert client.flushdb() is True
    assert client.dbsize() == 0
    assert client.randomkey() is None


def test_long_values(client: Any) -> None:
    """Of a megabyte, and as many of them as come in one reply."""
    values = {f"k{number}": bytes([number]) * (1 << 20) for number in range(8)}
    assert client.mset(values) is True
    assert client.mget(list(values)) == list(values.values())


def test_text(address: Address, version: int) -> None:
    """With ``decode_responses`` everything is text."""
    with closing(redis.Redis(*address, protocol=version, decode_responses=True)) as client:
        texts: Any = client
        assert texts.set("schlüssel", "wért") is True
        assert texts.get("schlüssel") == "wért"
        assert texts.mget("schlüssel", "nope") == ["wért", None]
        assert list(texts.scan_iter()) == texts.keys() == ["schlüssel"]
        assert texts.config_get("save") == {"save": ""}
        with pytest.raises(ResponseError, match="value is not an integer or out of range"):
            texts.incr("schlüssel")


def test_about_the_server(client: Any) -> None:
    """What redis-py reads as more than bytes, it can read."""
    assert client.ping() is True
    assert client.echo("x") == b"x"
    info = client.info()
    assert info["redis_version"].startswith("7.")
    assert info["role"] == "master"
    assert client.info("clients")["connected_clients"] == 1
    seconds, microseconds = client.time()
    assert seconds > 1_700_000_000
    assert 0 <= microseconds < 1_000_000
    assert client.config_get("databases", "save") == {"databases": "1", "save": ""}
    assert client.command()["get"]["arity"] == 2
    assert client.command_count() == len(client.command())


def test_listings(client: Any) -> None:
    """``scan_iter`` meets each key once, whatever the size of a page."""
    keys = {b"k:%d" % number for number in range(500)}
    client.mset(dict.fromkeys([*keys, b"other"], b""))
    for count in (None, 1, 7, 499, 500, 501, 10_000):
        found = list(client.scan_iter(match="k:*", count=count))
        assert len(found) == len(keys)
        assert set(found) == keys
    assert list(client.scan_iter(match="k:7?")) == [b"k:%d" % number for number in range(70, 80)]
    assert list(client.scan_iter(_type="list")) == []


def test_pipelines(client: Any) -> None:
    """Requests that are sent together, with MULTI around them or without."""
    for transaction in (False, True):
        with client.pipeline(transaction=transaction) as pipe:
            pipe.set("a", 1).incr("a").get("a").get("nope").mget("a", "nope")
            assert pipe.execute() == [True, 2, b"2", None, [b"2", None]]
            assert pipe.execute() == []
    with client.pipeline(transaction=False) as pipe:
        for number in range(10_000):
            pipe.set(f"k{number}", number)
        assert pipe.execute() == [True] * 10_000


def test_pipelines_with_errors(client: Any) -> None:
    """One that fails as it runs fails alone; one that is no command makes EXEC refuse all."""
    client.set("s", "text")
    with client.pipeline() as pipe:
        pipe.set("a", 1).incr("s").set("b", 2)
        done = pipe.execute(raise_on_error=False)
        assert done[0] is done[2] is True
        assert isinstance(done[1], ResponseError)
        pipe.incr("s")
        with pytest.raises(
            ResponseError, match=r"Command # 1 \(INCRBY s 1\) of pipeline caused error: value is not an"
        ):
            pipe.execute()
        pipe.set("c", 1).execute_command("FOO")
        with pytest.raises(ResponseError, match="unknown command 'FOO'"):
            pipe.execute()
    assert client.mget("a", "b", "c") == [b"1", b"2", None]
    with client.client() as single:
        single.execute_command("MULTI")
        with pytest.raises(ResponseError, match="wrong number of arguments for 'get' command"):
            single.execute_command("GET")
        with pytest.raises(ExecAbortError, match="Transaction discarded because of previous errors"):
            single.execute_command("EXEC")


def test_watching(client: Any, line: Client) -> None:
    """EXEC fails when what is watched has changed, whoever changed it, in whatever protocol."""
    client.set("a", 1)
    with client.pipeline() as pipe:
        pipe.watch("a")
        assert pipe.get("a") == b"1"
        line.ok("PUT a 5")
        pipe.multi()
        pipe.set("a", 2)
        with pytest.raises(WatchError):
            pipe.execute()
        pipe.watch("a")
        pipe.multi()
        pipe.set("a", 2)
        assert pipe.execute() == [True]
        pipe.watch("a")
        client.set("a", 3)
        pipe.unwatch()
        pipe.set("b", 1)
        assert pipe.execute() == [True]
    assert client.mget("a", "b") == [b"3", b"1"]


def test_the_transaction_function(client: Any) -> None:
    """It tries again until nobody has come in between."""
    client.set("a", 1)
    tries = 0

    def double(pipe: Any) -> None:
        nonlocal tries
        number = int(pipe.get("a"))
        if tries < 3:
            client.incr("a")
        tries += 1
        pipe.multi()
        pipe.set("a", number * 2)
        pipe.get("a")

    assert client.transaction(double, "a") == [True, b"8"]
    assert tries == 4


def test_our_transactions(client: Any, line: Client) -> None:
    """START, COMMIT and ROLLBACK through ``execute_command``, on one connection, nested."""
    with client.client() as single:
        assert single.execute_command("START") == b"OK"
        assert single.set("a", 1) is True
        assert single.execute_command("START") == b"OK"
        assert single.set("a", 2) is True
        assert single.get("a") == b"2"
        assert single.execute_command("ROLLBACK") == b"OK"
        assert single.get("a") == b"1"
        assert client.get("a") is None
        assert single.execute_command("COMMIT") == b"OK"
        assert line.get("a") == "1"
        with pytest.raises(ResponseError, match=r"^NO_TRANSACTION There is no transaction; START opens one\.$"):
            single.execute_command("COMMIT")
        assert single.execute_command("START", "READONLY") == b"OK"
        with pytest.raises(ResponseError, match="START READONLY promised not to write"):
            single.set("a", 2)
        assert single.execute_command("COMMIT") == b"OK"


def test_our_conflicts(client: Any) -> None:
    """A conflict is a ResponseError that begins with CONFLICT, and names what has changed."""
    client.set("a", 1)
    with client.client() as single:
        single.execute_command("START")
        single.incr("a")
        client.set("a", 10)
        with pytest.raises(ResponseError) as raised:
            single.execute_command("COMMIT")
        assert str(raised.value) == ('CONFLICT "a" changed since START. Nothing was applied; retry from START.')
        assert single.get("a") == b"10"
        single.execute_command("START")
        assert single.incr("a") == 11
        assert single.execute_command("COMMIT") == b"OK"
    assert client.get("a") == b"11"


def test_deadlines(client: Any) -> None:
    """By every option of the library; a deadline far away is told as it was set."""
    assert client.set("a", 1, exat=32503680000) is True
    assert client.expiretime("a") == 32503680000
    assert client.set("a", 2, keepttl=True, xx=True) is True
    assert client.getex("a") == b"2"
    assert client.pexpiretime("a") == 32503680000000
    assert client.set("a", 3, px=1_000_000, nx=True) is None
    assert client.set("a", 3, ex=1000, get=True) == b"2"
    assert 0 < client.ttl("a") <= 1000
    assert client.expire("a", 2000, gt=True) is True
    assert 1000 < client.ttl("a") <= 2000
    assert client.pexpireat("a", 32503680000000, nx=True) is False
    assert client.persist("a") is True
    assert client.ttl("a") == -1
    assert client.execute_command("SETEX", "b", 1000, "x") is True
    assert client.execute_command("PSETEX", "c", 1000_000, "x") is True
    assert client.getex("c", persist=True) == b"x"
    assert [client.ttl("c"), client.ttl("nope")] == [-1, -2]
    assert client.touch("a", "b", "nope") == 2
    assert client.expire("a", -1) is True
    assert client.exists("a") == 0
    assert client.memory_usage("b") > 0
    assert client.object("encoding", "b") == b"raw"


def test_what_is_absent(client: Any) -> None:
    """Programs in Lua, other types of values, and messages are refused by name."""
    for ask, message in (
        (lambda: client.eval("return 1", 0), "unknown command 'EVAL'"),
        (client.register_script("return 1"), "unknown command 'EVALSHA'"),
        (lambda: client.lpush("a", 1), "unknown command 'LPUSH'"),
        (lambda: client.publish("a", "b"), "unknown command 'PUBLISH'"),
    ):
        with pytest.raises(ResponseError, match=message):
            ask()
    lock = client.lock("l", timeout=1000)  # it can be had, but is given back by a program only
    assert lock.acquire() is True
    assert 0 < client.ttl("l") <= 1000
    with pytest.raises(ResponseError, match="unknown command 'EVALSHA'"):
        lock.release()
    assert client.dbsize() == 1


def test_clients(client: Any, address: Address) -> None:
    """Who is connected is told, and can be ended."""
    with redis.Redis(*address, client_name="other", single_connection_client=True) as unwilling:
        other: Any = unwilling
        number = other.client_id()
        (mine, his) = sorted(client.client_list(), key=lambda described: described["name"])
        assert (his["id"], his["name"], his["lib-name"]) == (str(number), "other", "redis-py")
        assert mine["addr"] != his["addr"]
        assert other.client_getname() == "other"
        assert client.client_info()["id"] == client.client_id()
        assert client.client_list(client_id=[number])[0]["name"] == "other"
        assert client.client_kill_filter(_id=str(number)) == 1
        assert client.client_kill_filter(_id=str(number)) == 0
        other.connection.send_command("PING")
        with pytest.raises(DisconnectedError):
            other.connection.read_response()
        again = other.client_id()  # redis-py connects again
        assert again != number
        assert client.client_kill(other.client_info()["addr"]) is True
        with pytest.raises(ResponseError, match="No such client"):
            client.client_kill(his["addr"])
    assert client.ping() is True


def test_pool(address: Address, version: int, server: Server) -> None:
    """Twenty threads share five connections."""
    pools: Any = redis.BlockingConnectionPool
    pool = pools(max_connections=5, host=address[0], port=address[1], protocol=version)
    barrier = threading.Barrier(20)

    def work(number: int) -> None:
        shared: Any = redis.Redis(connection_pool=pool)
        barrier.wait()
        for turn in range(50):
            assert shared.set(f"k{number}", turn) is True
            assert shared.get(f"k{number}") == b"%d" % turn
            shared.incr("sum")

    try:
        with ThreadPoolExecutor(20) as threads:
            list(threads.map(work, range(20)))
        with Client(*address) as line:
            assert line.get("sum") == "1000"
            assert line.info("server")["clients"] <= 6
    finally:
        pool.disconnect()


def test_transactions_end_with_their_connection(client: Any, address: Address) -> None:
    """What a client that leaves has begun is nobody's."""
    with redis.Redis(*address, single_connection_client=True) as leaving:
        leaving.execute_command("START")
        leaving.set("a", 1)
    with redis.Redis(*address, single_connection_client=True) as leaving:
        leaving.execute_command("MULTI")
        leaving.execute_command("SET", "a", 1)
    assert client.get("a") is None


# With asyncio.


Talk: TypeAlias = Callable[[Any], Awaitable[None]]


def talk(address: Address, version: int, what: Talk) -> None:
    """Run a conversation with an asynchronous client."""

    async def run() -> None:
        async with redis.asyncio.Redis(host=address[0], port=address[1], protocol=version) as client:
            await what(client)

    asyncio.run(run())


def test_values_with_asyncio(address: Address, version: int) -> None:
    """The same replies."""

    async def what(client: Any) -> None:
        assert await client.set(ALL_BYTES, ALL_BYTES) is True
        assert await client.get(ALL_BYTES) == ALL_BYTES
        assert await client.get("nope") is None
        assert await client.incr("n") == 1
        assert await client.mget("n", "nope") == [b"1", None]
        assert {key async for key in client.scan_iter(count=1)} == {ALL_BYTES, b"n"}
        with pytest.raises(ResponseError, match="unknown command 'EVAL'"):
            await client.eval("return 1", 0)
        async with client.pipeline(transaction=False) as pipe:
            assert await pipe.set("a", 1).incr("a").execute() == [True, 2]

    talk(address, version, what)


def test_watching_with_asyncio(address: Address, version: int) -> None:
    """Thirty tasks add to one number, and none is lost."""

    async def what(client: Any) -> None:
        async def add() -> None:
            async with client.pipeline() as pipe:
                while True:
                    try:
                        await pipe.watch("a")
                        number = int(await pipe.get("a") or 0)
                        pipe.multi()
                        pipe.set("a", number + 1)
                        await pipe.execute()
                    except WatchError:
                        continue
                    return

        await asyncio.gather(*[add() for _ in range(30)])
        assert await client.get("a") == b"30"

        async def double(pipe: Any) -> None:
            number = int(await pipe.get("a"))
            pipe.multi()
            pipe.set("a", number * 2)

        assert await client.transaction(double, "a") == [True]
        assert await client.get("a") == b"60"

    talk(address, version, what)


def test_our_conflicts_with_asyncio(address: Address, version: int) -> None:
    """The same exception, and the same text."""

    async def what(client: Any) -> None:
        async with client.client() as single:
            assert await single.execute_command("START") == b"OK"
            assert await single.get("a") is None
            assert await single.set("b", 1) is True
            await client.set("a", 1)
            with pytest.raises(ResponseError, match=r'^CONFLICT "a" changed since START\. Nothing was applied'):
                await single.execute_command("COMMIT")
        assert await client.get("b") is None

    talk(address, version, what)
