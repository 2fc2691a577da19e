"""No share of any command costs more than its bound, with the worst arguments that the limits admit.

Every command of both tables is tried over data made to hurt: alone, pipelined, inside a transaction with many pending
writes, and, in RESP, in the queue of a MULTI. What is measured is work counted, never time: the units that are charged,
and what can be seen from outside, in case a command does not charge what it does: calls, what crosses the storage port,
and memory.
"""

from collections.abc import Callable, Iterator
from typing import Final

import pytest

from kvs.adapters.inbound.line import commands as line
from kvs.adapters.inbound.line.command import LineCommand
from kvs.adapters.inbound.line.connection import line_protocol
from kvs.adapters.inbound.line.limits import LineLimits
from kvs.adapters.inbound.protocol.clients import ClientDescription, ClientRegistry
from kvs.adapters.inbound.protocol.command import KEY, PREFIX, VALUE, Command
from kvs.adapters.inbound.protocol.connection import Connection
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import RespCommand
from kvs.adapters.inbound.resp.commands import registry
from kvs.adapters.inbound.resp.connection import resp_protocol
from kvs.adapters.inbound.resp.context import ClientContext, ServerContext
from kvs.adapters.inbound.resp.limits import RespLimits
from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.application.disposal import Disposal
from kvs.domain.commit import CommitRequest
from kvs.logs import make_logger
from kvs.override import override
from kvs.ports.session import COPIED_BYTES_PER_UNIT, Session
from tests.adversary.metered import MeteredStorage, Share, memory, shares
from tests.support.resp_wire import request
from tests.support.sessions import UNLIMITED, Bench
from tests.support.users import open_to_all

pytestmark = pytest.mark.one_build  # it counts calls, which the compiled build does not report

MAX_KEY_BYTES: Final = 2048
MAX_VALUE_BYTES: Final = 1 << 18
MAX_ARGUMENTS: Final = 600
MAX_REPLY_BYTES: Final = 1 << 22
MAX_TICK_REQUESTS: Final = 1000

KEYS: Final = 15_000
LONG_KEYS: Final = 200
PENDING: Final = 3000
SNAPSHOTS: Final = 50
CLIENTS: Final = 3000
PIPELINED: Final = 5

QUOTA: Final = 100
"""Units given for a share."""

MAX_STEP_UNITS: Final = 2000
"""Units by which a share may go over its quota: the largest step, and a request that is made of one."""

MAX_MOVED: Final = 10_000 + QUOTA + 500
"""One page of SCAN, whose COUNT is at most 10,000, and what goes with it."""

MAX_CALLS: Final = 100_000
"""Some ten for each key of such a page; in pure Python about 10 ms."""

FREE_BYTES: Final = 1 << 17
"""Memory that a share may take without a charge: 30 us of copying."""

UNITS_PER_KEY: Final = 4
CALLS_PER_KEY: Final = 60
"""For each key that COMMIT, EXEC, MSET and others like them apply at once: the documented exception."""

LONG_KEY: Final = b"k".ljust(MAX_KEY_BYTES, b"c")
BIG: Final = b"big"
BIG_VALUE: Final = bytes(range(32)) * (MAX_VALUE_BYTES // 32)
ZEROS: Final = b"zeros"
TEXT: Final = b"text"
TEXT_VALUE: Final = b"the quick brown fox " * 70
"""With another one like it as long as LCS takes."""
REVERSED: Final = b"txet"
SHORT: Final = b"short"
BITOPS: Final = (b"AND", b"OR", b"XOR")
HARD_PATTERN: Final = b"*" + b"[^x]" * 250 + b"x"


class ManyClients(ClientRegistry):
    """As many clients as there are, all alike."""

    def __init__(self) -> None:
        super().__init__()
        self.connection: Connection | None = None

    @override
    def ids(self) -> list[int]:
        return list(range(1, CLIENTS + 1))

    @override
    def describe(self, session_id: int) -> ClientDescription | None:
        if self.connection is None or not 0 < session_id <= CLIENTS:
            return None
        return ClientDescription(self.connection, "1.2.3.4:5", "1.2.3.4:6", 7, 0.0, 0.0, 0, "r")

    @override
    def kill(self, session_id: int) -> bool:
        return False

    @override
    def requests(self) -> int:
        return 0


class House:
    """A server's connections over data made to hurt."""

    def __init__(self) -> None:
        memory = MemoryStorage(UNLIMITED, UNLIMITED)
        self.storage = MeteredStorage(memory)
        self.bench = Bench(self.storage)
        self.meter = self.storage.meter
        self.log = make_logger("info", "json", self.bench.log)
        clients = ManyClients()
        shared = ServerContext(
            clients,
            {b"save": b""},
            self.bench.clock,
            self.bench.clock,
            Disposal(),
            Observation(),
            self.bench.tracking,
            open_to_all(),
        )
        limits = RespLimits(
            MAX_KEY_BYTES,
            MAX_VALUE_BYTES,
            MAX_ARGUMENTS,
            1 << 22,
            MAX_REPLY_BYTES,
            UNLIMITED,
            MAX_TICK_REQUESTS,
            UNLIMITED,
        )
        self._resp = resp_protocol(limits, shared, self.bench.budget, self.log)
        line_limits = LineLimits(MAX_KEY_BYTES, MAX_VALUE_BYTES, MAX_TICK_REQUESTS, UNLIMITED)
        self._line = line_protocol(line_limits, self.bench.budget, Observation(), open_to_all(), self.log)
        entries = {b"%05d" % number: b"v" for number in range(KEYS)}
        entries |= {LONG_KEY[:-3] + b"%03d" % number: b"" for number in range(LONG_KEYS)}
        entries |= {BIG: BIG_VALUE, b"n": b"1", LONG_KEY: b"1"}
        entries |= {ZEROS: bytes(MAX_VALUE_BYTES), SHORT: b"\0x\0x\0", TEXT: TEXT_VALUE, REVERSED: TEXT_VALUE[::-1]}
        memory.commit(CommitRequest((), entries))
        self.readers = [self.bench.open() for _ in range(SNAPSHOTS)]
        for number, reader in enumerate(self.readers):
            reader.start()
            memory.put(b"n", b"%d" % number)
        clients.connection = self.connect(resp=True)

    def connect(self, *, resp: bool) -> Connection:
        """Return a connection."""
        return (self._resp if resp else self._line)(self.bench.open(), None)

    def in_transaction(self, *, resp: bool) -> Connection:
        """Return a connection whose transaction has written as much as may be."""
        connection = self.connect(resp=resp)
        connection.session.start()
        for number in range(PENDING):
            connection.session.put(b"%05d" % (number * 5), b"w")
        connection.session.put(BIG, BIG_VALUE)
        return connection


@pytest.fixture
def house() -> Iterator[House]:
    """Return connections over data made to hurt, new for each test: most commands change it."""
    house = House()
    yield house
    for reader in house.readers:
        reader.close()


# The worst arguments.

NAMES: Final = [command.name for command in registry.COMMANDS]
MANY: Final = MAX_ARGUMENTS - 10

TAILS: Final[dict[bytes, list[list[bytes]]]] = {
    b"keys": [[b"*"], [HARD_PATTERN], [b"0*"]],
    b"scan": [[b"0", b"COUNT", b"10000"], [b"0", b"MATCH", HARD_PATTERN, b"COUNT", b"10000"]],
    b"set": [[BIG, BIG_VALUE, b"GET"], [BIG, BIG_VALUE, *[b"GET"] * MANY]],
    b"getrange": [[BIG, b"0", b"-1"]],
    b"setrange": [[BIG, b"%d" % (MAX_VALUE_BYTES - 1), b"x"]],
    b"append": [[b"n", BIG_VALUE[:-100]], [BIG, b""]],
    b"setbit": [[BIG, b"%d" % (8 * MAX_VALUE_BYTES - 1), b"1"], [b"n", b"%d" % (8 * MAX_VALUE_BYTES - 1), b"1"]],
    b"bitcount": [[BIG], [BIG, b"1", b"-2", b"BIT"]],
    b"bitpos": [[ZEROS, b"1"], [ZEROS, b"1", b"1", b"-2", b"BIT"], [BIG, b"0"]],
    b"bitop": [
        *([name, b"target", *[BIG] * 100, *[b"%05d" % number for number in range(MANY - 200)]] for name in BITOPS),
        [b"NOT", b"target", BIG],
    ],
    b"bitfield": [
        [BIG, *[b"INCRBY", b"i64", b"%d" % (8 * MAX_VALUE_BYTES - 64), b"1"] * (MANY // 4)],
        [BIG, *[b"OVERFLOW", b"SAT"] * (MANY // 2)],
        [BIG, b"SET", b"u1", b"%d" % (8 * MAX_VALUE_BYTES - 1), b"0"],
    ],
    b"bitfield_ro": [[BIG, *[b"GET", b"i63", b"3"] * (MANY // 3)]],
    b"lcs": [
        *([TEXT, REVERSED, *options] for options in ([], [b"LEN"], [b"IDX", b"WITHMATCHLEN"], [b"LEN"] * MANY)),
        *([first, second, b"IDX"] for first, second in ((BIG, b"n"), (SHORT, ZEROS), (ZEROS, SHORT))),
    ],
    b"incrbyfloat": [[b"n", b"9" * 5000], [b"n", b"1e4000"]],
    b"mget": [[BIG] * 10, [b"%05d" % number for number in range(MANY)]],
    b"copy": [[BIG, b"target", b"REPLACE"]],
    b"rename": [[BIG, b"target"]],
    b"renamenx": [[BIG, b"target"]],
    b"echo": [[BIG_VALUE]],
    b"ping": [[BIG_VALUE]],
    b"hello": [[b"3", b"SETNAME", b"x" * 512]],
    b"command|docs": [[], NAMES * 5],
    b"command|info": [[], NAMES * 5],
    b"command|list": [[b"FILTERBY", b"PATTERN", HARD_PATTERN]],
    b"command|getkeys": [[b"mget", *[LONG_KEY] * 500]],
    b"command|getkeysandflags": [[b"mget", *[b"k"] * MANY]],
    b"config|get": [[HARD_PATTERN], [b"*"] * MANY],
    b"client|list": [[], [b"ID", *[b"1"] * MANY], [b"TYPE", b"normal"]],
    b"client|kill": [[b"1.1.1.1:1"], [b"ADDR", b"1.1.1.1:1"] * (MANY // 2)],
    b"info": [[], [b"everything"] * MANY],
}
"""Arguments of commands that take more than keys and values."""


def subcommands() -> list[RespCommand]:
    """Return every command of RESP, and those that are parts of others."""
    found: list[RespCommand] = []
    for command in registry.COMMANDS:
        found.append(command)
        if command.subcommands is not None:
            found += command.subcommands.values()
    return found


def declared(command: Command, key: bytes, repeats: int) -> list[bytes]:
    """Return arguments as they are declared, each as long as may be."""
    number = max(abs(command.arity) - 1, len(command.arguments) if command.arity < 0 else 0)
    if command.arity < 0:
        number += command.repeated * repeats
    words: list[bytes] = []
    for at in range(1, number + 1):
        kind = command.kind_of(at)
        if kind == KEY:
            words.append(key if not repeats else b"%05d" % at)
        elif kind == VALUE:
            words.append(BIG_VALUE if not repeats else b"v")
        else:
            words.append(b"" if kind == PREFIX else b"1")
    return words


def resp_requests(command: RespCommand) -> list[bytes]:
    """Return the worst requests for a command."""
    names = command.name.split(b"|")
    skipped = len(names) - 1  # of the declared arguments, the first is the subcommand
    tails = [declared(command, key, 0)[skipped:] for key in (BIG, LONG_KEY)]
    if command.arity < 0 and command.repeated:
        tails.append(declared(command, BIG, (MANY - 4) // command.repeated)[skipped:])
    tails += TAILS.get(command.name, [])
    return [request(*names, *tail) for tail in tails]


def line_requests(command: LineCommand) -> list[bytes]:
    """Return the worst lines for a command."""
    lines = [b" ".join([command.name, *declared(command, key, 0)]) for key in (BIG, LONG_KEY)]
    lines = [text.replace(b"\n", b" ") for text in lines]
    return [*(text + b"\n" for text in lines), command.name + b"\n", command.name + b" 0\n", command.name + b" 0*\n"]


def check(found: Iterator[Share], what: str, keys: int = 0) -> None:
    """Assert that no share is larger than its bound, given how many keys may be applied at once."""
    for number, share in enumerate(found):
        assert share.charged <= QUOTA + MAX_STEP_UNITS + keys * UNITS_PER_KEY, (what, number, share)
        assert share.moved <= MAX_MOVED + keys, (what, number, share)
        assert share.calls <= MAX_CALLS + keys * CALLS_PER_KEY, (what, number, share)


def exception(command: Command, data: bytes) -> int:
    """Return how many keys a command may apply at once."""
    if command.name in (b"mset", b"msetnx", b"del", b"unlink", b"watch"):
        return data.count(b"\r\n") // 2
    return 0


class Trial:
    """A command in each of the places where it can be."""

    def __init__(self, house: House, command: Command, requests: list[bytes], *, resp: bool) -> None:
        self.house = house
        self.command = command
        self.requests = requests
        self.resp = resp

    def run(self) -> None:
        """Try each request alone, pipelined, and in a transaction."""
        for data in self.requests:
            what = repr(data[:60])
            keys = exception(self.command, data)
            self._try_memory(data, what)
            self._try(self.house.connect(resp=self.resp), data, f"{what} alone", keys)
            self._try(self.house.connect(resp=self.resp), data * PIPELINED, f"{what} pipelined", keys)
            pending = keys + PENDING if self.command.name.lower() == b"commit" else keys
            self._try(self.house.in_transaction(resp=self.resp), data, f"{what} in START", pending)
            if self.resp:
                queue = request("MULTI") + data * 3 + request("EXEC")
                self._try(self.house.connect(resp=True), queue, f"{what} in MULTI", 3 * keys)

    def _try_memory(self, data: bytes, what: str) -> None:
        """Assert that a request alone charges what it copies, but for its own bytes and their parts."""
        connection = self.house.connect(resp=self.resp)
        free = FREE_BYTES + 2 * len(data)
        for share in memory(connection, data, QUOTA):
            assert share.allocated <= free + share.charged * COPIED_BYTES_PER_UNIT, (what, share)
            free = FREE_BYTES
        connection.close()

    def _try(self, connection: Connection, data: bytes, what: str, keys: int) -> None:
        check(shares(connection, self.house.meter, data, QUOTA), what, keys)
        connection.close()


@pytest.mark.parametrize("command", subcommands(), ids=lambda one: one.name.decode())
def test_shares_of_resp_are_bounded(house: House, command: RespCommand) -> None:
    """Whatever is asked for, others have their turn."""
    Trial(house, command, resp_requests(command), resp=True).run()


@pytest.mark.parametrize("command", line.COMMANDS.values(), ids=lambda one: one.name.decode())
def test_shares_of_lines_are_bounded(house: House, command: LineCommand) -> None:
    """Likewise; and so for a verb that is none."""
    Trial(house, command, [*line_requests(command), b"nonsense\n", b"x" * 5000 + b"\n"], resp=False).run()


def test_shares_of_a_long_queue_are_bounded(house: House) -> None:
    """EXEC runs as many commands as MULTI has queued, in shares; and applies all of it at once."""
    writes = b"".join(request("SET", b"new%05d" % number, b"v") for number in range(PENDING))
    data = request("MULTI") + writes + request("KEYS", b"*") * 3 + request("RANDOMKEY") * 3 + request("EXEC")
    check(shares(house.connect(resp=True), house.meter, data, QUOTA), "EXEC", PENDING)


@pytest.mark.parametrize("resp", [False, True])
def test_shares_with_a_commit_are_charged_by_its_keys(house: House, resp: bool) -> None:
    """It cannot be divided, so others have their turn before its client goes on."""
    connection = house.in_transaction(resp=resp)
    data = request("COMMIT") if resp else b"COMMIT\n"
    (share,) = shares(connection, house.meter, data, QUOTA)
    assert share.charged >= PENDING


# That it would notice.


def careless_keys(session: Session, _: ClientContext, __: list[bytes]) -> bytes:
    """List everything in one go, and charge nothing."""
    return replies.bulks(session._storage.scan(b"", b"", 1 << 40))  # type: ignore[attr-defined]


def careless_work(session: Session, _: ClientContext, __: list[bytes]) -> bytes:
    """Charge all that is done, and make no way."""
    session.work.left -= KEYS
    return replies.OK


def careless_copy(_: Session, __: ClientContext, ___: list[bytes]) -> bytes:
    """Copy much, and charge nothing."""
    return replies.bulk(BIG_VALUE * 2)


@pytest.mark.parametrize("handler", [careless_keys, careless_work, careless_copy])
def test_shares_that_are_too_large_are_noticed(
    house: House, handler: Callable[[Session, ClientContext, list[bytes]], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that does not make way fails the trial."""
    careless = RespCommand("keys", handler, registry.BY_NAME[b"keys"].arguments)
    for name in (b"keys", b"KEYS"):
        monkeypatch.setitem(registry.BY_NAME, name, careless)
    with pytest.raises(AssertionError, match=r"alone|allocated"):
        Trial(house, careless, [request("KEYS", b"*")], resp=True).run()
