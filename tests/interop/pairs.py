"""Connections to kvs and to a real Redis, to which the same is said."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from tests.support.resp_wire import OK, Address, Reply, Typed, Wire, request, words


class Pair:
    """A connection to each of two servers, to which the same is said."""

    def __init__(self, kvs: Address, redis: Address) -> None:
        self.kvs = Wire(kvs)
        self.redis = Wire(redis)

    def ask(self, line: str) -> tuple[Reply, Reply]:
        """Return the replies to a line, of kvs and of Redis."""
        sent = request(*words(line))
        self.kvs.send(sent)
        self.redis.send(sent)
        return self.kvs.reply(), self.redis.reply()

    def close(self) -> None:
        """Leave both."""
        self.kvs.close()
        self.redis.close()


@contextmanager
def connected(kvs: Address, redis: Address) -> Iterator[Mapping[str, Pair]]:
    """Connect to both servers, and empty them."""
    with ExitStack() as stack:
        pairs = {}
        for name in "ABC":
            pairs[name] = Pair(kvs, redis)
            stack.callback(pairs[name].close)
        assert pairs["A"].ask("FLUSHALL") == (OK, OK)
        yield pairs


def speak(pairs: Mapping[str, Pair], version: int) -> None:
    """Have all connections speak a version of the protocol."""
    for pair in pairs.values():
        for wire in (pair.kvs, pair.redis):
            wire.ask("HELLO", version)


def sorted_in(reply: Reply) -> Reply:
    """Return the same reply with all its arrays in one order."""
    if isinstance(reply, Typed) and isinstance(reply.value, list):
        return Typed(reply.kind, sorted([sorted_in(item) for item in reply.value], key=repr))
    return sorted([sorted_in(item) for item in reply], key=repr) if isinstance(reply, list) else reply


def sorted_listings(reply: Reply, line: str) -> Reply:
    """Return a reply with the listings in it in one order; other arrays keep theirs."""
    if line == "EXEC" and isinstance(reply, list):
        return [sorted_in(item) for item in reply]
    return sorted_in(reply) if line.startswith(("KEYS", "SCAN")) else reply
