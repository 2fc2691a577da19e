"""Clients of every kind add to one number at the same time, and nothing that was acknowledged is lost."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from tests.support.harness import Client, Server, slow_engine
from tests.support.resp_wire import OK, Typed, Wire

COUNTER = "counter"

Address = tuple[str, int]


@pytest.fixture(params=["memory", *(pytest.param(name, marks=pytest.mark.variant) for name in ("sqlite", "blocking"))])
def racing_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Return a server over each kind of engine: the fast one, the durable one, and one called by worker threads."""
    flags = slow_engine(0.0)[0] if request.param == "blocking" else ("--storage", request.param)
    with Server(*flags) as server:
        yield server


def watches(address: Address, times: int) -> int:
    """Add with WATCH, MULTI and EXEC, by redis-py; return how often that was acknowledged."""
    done = 0
    with redis.Redis(*address) as client, client.pipeline() as pipe:
        while done < times:
            try:
                pipe.watch(COUNTER)
                number = int(pipe.get(COUNTER) or 0)
                pipe.multi()
                pipe.set(COUNTER, number + 1)
                assert pipe.execute() == [True]
            except redis.WatchError:
                continue
            done += 1
    return done


def starts(address: Address, times: int) -> int:
    """Add with START and COMMIT in the line protocol."""
    done = 0
    with Client(*address) as client:
        while done < times:
            client.send("START", f"GET {COUNTER}")
            started, got = client.replies(2)
            assert started == {"status": "Ok"}
            client.send(f"PUT {COUNTER} {int(got['result'] or 0) + 1}", "COMMIT")
            stored, committed = client.replies(2)
            assert stored == {"status": "Ok"}
            if committed["status"] == "Ok":
                done += 1
            else:
                assert committed["code"] == "conflict"
    return done


def starts_in_resp(address: Address, times: int) -> int:
    """Add with START, COMMIT and a frame in between that is rolled back, in RESP."""
    done = 0
    with Wire(address) as wire:
        while done < times:
            assert wire.ask("START") == OK
            assert wire.ask("START") == OK
            assert wire.ask("SET", COUNTER, "never") == OK
            assert wire.ask("ROLLBACK") == OK
            assert isinstance(wire.ask("INCR", COUNTER), int)
            committed = wire.ask("COMMIT")
            if committed == OK:
                done += 1
            else:
                assert isinstance(committed, Typed)
                assert isinstance(committed.value, bytes)
                assert committed.value.startswith(b"CONFLICT ")
    return done


def increments(address: Address, times: int) -> int:
    """Add with INCR, which needs no second try; every answer is greater than the one before."""
    last = 0
    with Wire(address) as wire:
        for _ in range(times):
            number = wire.ask("INCR", COUNTER)
            assert isinstance(number, int)
            assert number > last
            last = number
    return times


def race(server: Server, *crowds: tuple[Callable[[Address, int], int], int, int]) -> None:
    """Have crowds add: what each of a crowd does, how many they are, how often it has to be acknowledged."""
    address = server.host, server.port
    barrier = threading.Barrier(sum(count for _, count, _ in crowds))

    def run(add: Callable[[Address, int], int], times: int) -> int:
        barrier.wait()
        return add(address, times)

    with ThreadPoolExecutor(barrier.parties) as threads:
        running = [threads.submit(run, add, times) for add, count, times in crowds for _ in range(count)]
        acknowledged = sum(future.result() for future in running)
    assert acknowledged == sum(count * times for _, count, times in crowds)
    with Client(*address) as client:
        assert client.get(COUNTER) == str(acknowledged)
        figures = client.info("server")
        assert figures["open_transactions"] == 0
    with Wire(address) as wire:
        assert wire.ask("GET", COUNTER) == b"%d" % acknowledged


def test_fifty_of_each(racing_server: Server) -> None:
    """Fifty that watch in RESP, and fifty that start transactions in the line protocol."""
    race(racing_server, (watches, 50, 3), (starts, 50, 3))


def test_some_of_every_kind(racing_server: Server) -> None:
    """All ways to add one."""
    race(racing_server, (watches, 5, 10), (starts, 5, 10), (starts_in_resp, 5, 10), (increments, 5, 100))
