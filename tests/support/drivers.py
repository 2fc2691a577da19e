"""Ways to make calls on a real server, in each of its protocols; ``kvs.testing.drivers`` has the one without any."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from kvs.testing.calls import CONFLICT, NO_LIMIT, Call, Failed, Outcome, Update
from tests.support import resp_wire
from tests.support.harness import Client, Reply, codes
from tests.support.resp_wire import Typed, Wire, request

Connection = TypeVar("Connection", Client, Wire)


class SocketDriver(ABC, Generic[Connection]):
    """Connections to a server on this machine; see :class:`kvs.testing.drivers.Driver`.

    Args:
        port: Where it listens. What it holds is deleted.
    """

    lazy = False

    def __init__(self, port: int) -> None:
        self._address: Final = "127.0.0.1", port
        self._connections: dict[int, Connection] = {}
        self._cuts = 0
        self._empty()

    def disconnect(self, session: int) -> None:
        """By turns with FIN and with RST, as when a client is killed."""
        connection = self._connections.pop(session, None)
        if connection is not None:
            self._cuts += 1
            if self._cuts % 2:
                connection.reset()
            else:
                connection.close()

    def pass_time(self, passed_ms: int) -> None:
        """No call depends on the time."""

    def check(self, snapshots: int) -> None:
        """Nothing of it can be seen from outside."""

    def close(self) -> None:
        for session in list(self._connections):
            self.disconnect(session)

    def _connection(self, session: int) -> Connection:
        if session not in self._connections:
            self._connections[session] = self._connect()
        return self._connections[session]

    @abstractmethod
    def _connect(self) -> Connection:
        """Open a connection."""

    @abstractmethod
    def _empty(self) -> None:
        """Delete every key."""


class LineDriver(SocketDriver[Client]):
    """The line protocol. It has no words for what depends on a value, for several keys, and for WATCH."""

    @staticmethod
    def can(call: Call) -> bool:
        return line_of(call) is not None

    def execute_many(self, session: int, calls: Sequence[Call]) -> list[object]:
        client = self._connection(session)
        client.send(*map(_line, calls))
        return [self._plain(call, client.reply()) for call in calls]

    def expected(self, call: Call, outcome: Outcome) -> object:
        if isinstance(outcome, Failed):
            return outcome
        if call.method == "get" and outcome is None:
            return {"status": "Ok", "result": None, "mesg": f"{call.arguments[0].decode()} was not found."}
        if call.method in ("put", "start", "commit", "rollback"):
            return {"status": "Ok"}
        return {"status": "Ok", "result": _text(outcome)}

    def leave(self, session: int) -> None:
        client = self._connection(session)
        client.send("EXIT")
        assert client.rest() == [{"status": "Ok"}]
        self.disconnect(session)

    def _connect(self) -> Client:
        return Client(*self._address)

    def _empty(self) -> None:
        client = self._connection(0)
        while keys := client.ask("KEYS")["result"]:
            assert set(codes(client, *(f"DEL {key}" for key in keys))) == {None}

    @staticmethod
    def _plain(call: Call, reply: Reply) -> object:
        if "code" in reply:
            assert reply["mesg"]
            return Failed(reply["code"])
        if call.method == "depth":
            return {"status": "Ok", "result": reply["result"]["session"]["depth"]}
        return reply


def line_of(call: Call) -> bytes | None:
    """Return the line that makes a call; None if there is none."""
    match call:
        case Call("get" | "count" as verb, (word,)):
            return (b"GET " if verb == "get" else b"COUNT ") + bytes(word)
        case Call("put", (key, value)):
            return b"PUT %b %b" % (key, value)
        case Call("delete", (key,)):
            return b"DEL " + bytes(key)
        case Call("keys", (prefix, after, limit)) if limit == NO_LIMIT:
            return b" ".join([b"KEYS", prefix, after][: 3 if after else 2])
        case Call("start", (read_only,)):
            return b"START READONLY" if read_only else b"START"
        case Call("commit"):
            return b"COMMIT"
        case Call("rollback"):
            return b"ROLLBACK"
        case Call("depth"):
            return b"INFO"
    return None


def _line(call: Call) -> bytes:
    line = line_of(call)
    assert line is not None, call
    return line


def _text(outcome: Outcome) -> object:
    if isinstance(outcome, bytes):
        return outcome.decode()
    return [_text(one) for one in outcome] if isinstance(outcome, list) else outcome


class RespDriver(SocketDriver[Wire]):
    """RESP. It has no words for pages that begin or end anywhere, and for most combinations of calls as one."""

    @staticmethod
    def can(call: Call) -> bool:
        if call.method == "execute":
            return all(one.method not in UNQUEUED and arguments_of(one) is not None for one in call.arguments[0])
        return arguments_of(call) is not None

    def execute_many(self, session: int, calls: Sequence[Call]) -> list[object]:
        wire = self._connection(session)
        if not any(call.method == "execute" for call in calls):
            wire.send(b"".join(_request(call) for call in calls))
            return [_plain(call, wire.reply()) for call in calls]
        return [self._execute(wire, call) if call.method == "execute" else self._make(wire, call) for call in calls]

    def expected(self, call: Call, outcome: Outcome) -> object:
        return _shown(call, outcome)

    def leave(self, session: int) -> None:
        wire = self._connection(session)
        wire.send(request("QUIT"))
        assert wire.rest() == b"+OK\r\n"
        self.disconnect(session)

    def _connect(self) -> Wire:
        return Wire(self._address)

    def _empty(self) -> None:
        assert self._connection(0).ask("FLUSHALL") == resp_wire.OK

    @staticmethod
    def _make(wire: Wire, call: Call) -> object:
        wire.send(_request(call))
        return _plain(call, wire.reply())

    @staticmethod
    def _execute(wire: Wire, call: Call) -> object:
        began = wire.ask("MULTI")
        if began != resp_wire.OK:  # inside START: what would be queued would be run
            return _plain(call, began)
        calls: tuple[Call, ...] = call.arguments[0]
        wire.send(b"".join(_request(one) for one in calls) + request("EXEC"))
        assert [wire.reply() for _ in calls] == [resp_wire.QUEUED] * len(calls)
        replies = wire.reply()
        if replies == resp_wire.NULL_ARRAY:
            return CONFLICT
        assert isinstance(replies, list), replies
        return [_plain(one, reply) for one, reply in zip(calls, replies, strict=True)]


UNQUEUED: Final = ("execute", "watch", "unwatch", "start", "commit", "rollback", "reset", "depth")
"""What is no part of a queue, or means something else there."""

UPDATES: Final = {
    "append": "APPEND",
    "add": "INCRBY",
    "replace": "GETSET",
    "put_if_absent": "SETNX",
    "remove": "GETDEL",
}

Words = list[bytes | str]


def arguments_of(call: Call) -> Words | None:
    """Return the request that makes a call; None if there is none."""
    match call:
        case Call("get", (key,)):
            return ["GET", key]
        case Call("put", (key, value)):
            return ["SET", key, value]
        case Call("delete", (key,)):
            return ["DEL", key]
        case Call("update", (key, Update("remove"))):
            return ["GETDEL", key]
        case Call("update", (key, update)) if update.kind in UPDATES:
            return [UPDATES[update.kind], key, update.operand]
        case Call("put_all", (entries,)):
            return ["MSET", *(word for entry in entries for word in entry)]
        case Call("keys", (prefix, b"", limit)) if limit == NO_LIMIT:
            return ["KEYS", prefix + b"*"]
        case Call("count", (b"",)):
            return ["DBSIZE"]
        case Call("clear"):
            return ["FLUSHALL"]
        case Call("view", (calls,)) if all(one.method == "get" for one in calls):
            return ["MGET", *(one.arguments[0] for one in calls)]
        case Call("transact", (calls,)) if all(one.method == "delete" for one in calls):
            return ["DEL", *(one.arguments[0] for one in calls)]
        case Call("watch", (keys,)):
            return ["WATCH", *keys]
        case Call("start", (True,)):
            return ["START", "READONLY"]
        case Call("unwatch" | "start" | "commit" | "rollback" | "reset" as verb):
            return [verb.upper()]
        case Call("depth"):
            return ["INFO", "session"]
    return None


def _request(call: Call) -> bytes:
    arguments = arguments_of(call)
    assert arguments is not None, call
    return request(*arguments)


def _plain(call: Call, reply: resp_wire.Reply) -> object:
    """Return a reply without the wording of an error, and of INFO what was asked for."""
    if isinstance(reply, Typed) and reply.kind == "-":
        assert isinstance(reply.value, bytes)
        code, _, text = reply.value.partition(b" ")
        assert text
        return Failed("usage" if code == b"ERR" else code.decode().lower())
    if call.method == "depth":
        assert isinstance(reply, bytes)
        return int(reply.partition(b"depth:")[2].partition(b"\r\n")[0])
    return reply


def _shown(call: Call, outcome: Outcome) -> object:
    if isinstance(outcome, Failed):
        return outcome
    match call, outcome:
        case Call("execute", (calls,)), list(outcomes):
            return [_shown(one, each) for one, each in zip(calls, outcomes, strict=True)]
        case Call("view"), list(values):
            return [resp_wire.NULL if value is None else value for value in values]
        case Call("transact"), list(there):
            return sum(map(bool, there))
        case Call("delete"), there:
            return int(bool(there))
        case Call("update", (_, Update("append"))), (_, bytes(after)):
            return len(after)
        case Call("update", (_, Update("add"))), (_, bytes(after)):
            return int(after)
        case Call("update", (_, Update("put_if_absent"))), (before, _):
            return int(before is None)
        case Call("update"), (before, _):
            return resp_wire.NULL if before is None else before
        case Call("get"), None:
            return resp_wire.NULL
        case Call("reset"), None:
            return Typed("+", b"RESET")
        case _, None:
            return resp_wire.OK
    return outcome
