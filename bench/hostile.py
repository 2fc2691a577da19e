"""The longest wait of a client while others ask for the most expensive things that their limits admit.

A probe sends one request every millisecond, as in `pauses`. The hostile clients prepare their attack before it starts,
and run in a process of their own that stands back behind it (nice 19), since they share its core.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from bench.client import RespClient
from bench.errors import BenchError
from bench.generator import Sample, load
from bench.pauses import BACKGROUND, PROBE_FIRST, PROBE_KEYS, probed, row
from bench.servers import Server, running
from bench.spread import Sections

LIMITS: Final = ("--max-transaction-bytes", "1GiB", "--max-clients-bytes", "8GiB")
"""Room for a million pending writes."""

LARGE: Final = 16 << 20
WRITES: Final = 1_000_000
KEYS: Final = 600_000
BATCH: Final = 1000
CROWDS: Final = (1, 10, 200)

Attack: TypeAlias = Iterator[None]
"""Prepares the attack, yields, and carries it out."""


def measure(names: Sequence[str], python: str, rounds: int) -> Sections:
    """Probe each server during all attacks, each round on a fresh one."""
    sections: Sections = {}
    for name in names:
        samples: dict[str, list[Sample]] = {}
        for _ in range(rounds):
            with running(name, python, *LIMITS) as server:
                load(server, PROBE_KEYS, first_key=PROBE_FIRST)
                for what, attack in attacks(server):
                    samples.setdefault(what, []).append(_sample(server, attack))
        sections[f"{name}: waits beside hostile clients"] = [row(*each) for each in samples.items()]
    return sections


def attacks(server: Server) -> Iterator[tuple[str, Attack]]:
    """Yield each attack with its description."""
    yield "KEYS and SCAN, `*([^c] 250 times)c`, 300 keys of 8,000 bytes", _patterns(server)
    for crowd in CROWDS:
        yield f"ROLLBACK, {WRITES:,} pending writes of {crowd} clients", _end(server, crowd, roll_back)
        yield f"disconnect, {WRITES:,} pending writes of {crowd} clients", _end(server, crowd, disconnect)
    yield f"KEYS, DBSIZE and RANDOMKEY among {WRITES:,} pending writes", _listing(server)
    yield f"DISCARD of {WRITES:,} queued commands", _queue(server, b"DISCARD", WRITES)
    yield f"EXEC of {WRITES // 4:,} queued commands", _queue(server, b"EXEC", WRITES // 4)
    yield f"UNWATCH after {WRITES // 32:,} WATCHes, with commits in between", _watches(server)
    for crowd in CROWDS:
        yield f"GET of 16 MiB by {crowd} clients", _get_large(server, crowd)
    for crowd in CROWDS[:-1]:
        yield f"SET of 16 MiB by {crowd} clients", _set_large(server, crowd)
    yield (
        f"FLUSHALL in START, four times in a packet, {KEYS:,} keys",
        _flush(server, b"START", b"FLUSHALL", b"ROLLBACK"),
    )
    for crowd in CROWDS:
        yield f"KEYS *99 of {KEYS:,} keys by {crowd} clients", _list_all(server, crowd)
    yield "MGET and WATCH of 65,000 keys", _many_arguments(server)
    yield "CLIENT LIST of 3,000 clients, five times in a packet", _client_list(server)
    yield f"FLUSHALL in MULTI, {KEYS:,} keys", _flush(server, b"MULTI", b"FLUSHALL", b"EXEC")


def _sample(server: Server, attack: Attack) -> Sample:
    """Return what the probe saw during an attack."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_attack, args=(attack, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        ours.recv()

        def go() -> None:
            ours.send("go")
            ours.recv()

        return probed(server, go, "put")  # a GET would fail after FLUSHALL
    except EOFError:
        raise BenchError("the hostile clients have failed; see above") from None
    finally:
        child.kill()
        child.join()


def _attack(attack: Attack, pipe: "multiprocessing.connection.Connection") -> None:
    os.nice(BACKGROUND)
    next(attack)
    pipe.send("ready")
    pipe.recv()
    next(attack, None)
    pipe.send("done")


def _crowd(server: Server, number: int) -> list[RespClient]:
    return [RespClient(server) for _ in range(number)]


def _fill(client: RespClient, keys: int, first: int = 0) -> None:
    for at in range(first, first + keys, BATCH):
        # 7919 is a prime: neighbours in time are not neighbours in order.
        entries = [word for key in range(at, at + BATCH) for word in (b"k%07d" % (key * 7919 % 10**7), b"v")]
        client.ask([b"MSET", *entries])


def _patterns(server: Server) -> Attack:
    client = RespClient(server)
    for number in range(300):
        client.ask([b"SET", b"a" * 8000 + b"%d" % number, b""])
    pattern = b"*(" + b"[^c]" * 250 + b")c"
    yield
    client.ask([b"SCAN", b"0", b"MATCH", pattern, b"COUNT", b"10000"])
    client.ask([b"KEYS", pattern])
    client.ask([b"FLUSHALL"])


def roll_back(client: RespClient) -> None:
    """End a transaction by command."""
    client.send([b"ROLLBACK"])


def disconnect(client: RespClient) -> None:
    """End a transaction by leaving."""
    client.close()


def _end(server: Server, crowd: int, end: Callable[[RespClient], None]) -> Attack:
    clients = _crowd(server, crowd)
    share = WRITES // crowd
    for number, client in enumerate(clients):
        client.ask([b"START"])
        _fill(client, share, number * share)
    yield
    for client in clients:
        end(client)
    RespClient(server).ask([b"PING"])


def _listing(server: Server) -> Attack:
    client = RespClient(server)
    client.ask([b"START"])
    _fill(client, WRITES)
    yield
    client.ask([b"RANDOMKEY"], [b"KEYS", b"k00*"], [b"SET", b"new", b""], [b"KEYS", b"k00*"], [b"DBSIZE"])
    client.ask([b"ROLLBACK"])


def _queue(server: Server, end: bytes, commands: int) -> Attack:
    client = RespClient(server)
    client.ask([b"MULTI"])
    for _ in range(0, commands, BATCH):
        client.ask(*[[b"SET", b"key", b"v"]] * BATCH)
    yield
    client.ask([end])


def _watches(server: Server) -> Attack:
    client, other = _crowd(server, 2)
    for number in range(WRITES // 32):
        client.ask([b"WATCH", b"w%d" % number])
        other.ask([b"INCR", b"counter"])
    yield
    client.ask([b"UNWATCH"])


def _get_large(server: Server, crowd: int) -> Attack:
    clients = _crowd(server, crowd)
    clients[0].ask([b"SET", b"large", bytes(LARGE)])
    yield
    for client in clients:
        client.send([b"GET", b"large"])
    for client in clients:
        client.read()


def _set_large(server: Server, crowd: int) -> Attack:
    clients = _crowd(server, crowd)
    for client in clients:
        client.send_but_last_byte([b"SET", b"large", bytes(LARGE)])
    yield
    for client in clients:
        client.send_last_byte()
    for client in clients:
        client.read()


def _flush(server: Server, *commands: bytes) -> Attack:
    client = RespClient(server)
    _fill(client, KEYS)
    yield
    client.ask(*[[command] for command in commands * (4 if commands[-1] == b"ROLLBACK" else 1)])


def _list_all(server: Server, crowd: int) -> Attack:
    clients = _crowd(server, crowd)
    yield
    for client in clients:
        client.send([b"KEYS", b"*99"])
    for client in clients:
        client.read()


def _many_arguments(server: Server) -> Attack:
    client = RespClient(server)
    keys = [b"k%07d" % key for key in range(65_000)]
    yield
    client.ask([b"MGET", *keys])
    client.ask([b"WATCH", *keys])
    client.ask([b"UNWATCH"])


def _client_list(server: Server) -> Attack:
    client, *others = _crowd(server, 3000)
    yield
    client.ask(*[[b"CLIENT", b"LIST"]] * 5)
    for other in others:
        other.close()
