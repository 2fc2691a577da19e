"""BITFIELD and BITFIELD_RO, which read and write numbers of any width at any bit of a value."""

from functools import partial
from typing import Final, TypeAlias, final

from kvs.adapters.inbound.protocol.command import KEY, OTHER, Reply, of_pending_key
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import RespCommand
from kvs.adapters.inbound.resp.commands.bits import bit_offset, bits_between, check_extent
from kvs.adapters.inbound.resp.commands.charged import LARGE_COPY_BYTES, STORED_BYTES_PER_UNIT, Charged, next_share
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.adapters.inbound.resp.wording import c_string
from kvs.domain.errors import NotANumberError, UsageError
from kvs.domain.updates import INTEGER_MAX, integer
from kvs.domain.values import Key, Value, Write, string_of, string_or_empty, with_string
from kvs.ports.session import Session, Steps

GET: Final = 0
SET: Final = 1
INCREMENT: Final = 2
SUBCOMMANDS: Final = {b"get": (GET, 3), b"set": (SET, 4), b"incrby": (INCREMENT, 4)}
"""Each with its number of words."""

WRAP: Final = 0
SATURATE: Final = 1
FAIL: Final = 2
OVERFLOWS: Final = {b"wrap": WRAP, b"sat": SATURATE, b"fail": FAIL}

OPERATION_UNITS: Final = 3
"""Units of work to parse an operation and to run it."""

SHORT: Final = 64
"""Words of a request that is run in one step."""

Field: TypeAlias = int | None
"""A number that was read; None: the operation has failed."""


@final
class Operation:
    """An operation on a field.

    Attributes:
        action: ``GET``, ``SET`` or ``INCREMENT``.
        signed: The number has a sign, in two's complement.
        width: Bits of the field.
        offset: Its first bit.
        amount: The number to be set or added.
        overflow: What becomes of a number that does not fit: ``WRAP``, ``SATURATE`` or ``FAIL``.
    """

    __slots__ = ("action", "amount", "offset", "overflow", "signed", "width")

    def __init__(self, action: int, signed: bool, width: int, offset: int, amount: int, overflow: int) -> None:  # noqa: FBT001
        self.action = action
        self.signed = signed
        self.width = width
        self.offset = offset
        self.amount = amount
        self.overflow = overflow

    def read(self, value: bytes | bytearray) -> int:
        """Return the number in the field."""
        number = bits_between(value, self.offset, self.offset + self.width - 1)
        return number - (1 << self.width) if self.signed and number >> (self.width - 1) else number

    def write(self, buffer: bytearray, number: int) -> None:
        """Put a number that fits into the field."""
        at, end = self.offset >> 3, (self.offset + self.width + 7) >> 3
        behind = 8 * end - self.offset - self.width
        mask = (1 << self.width) - 1
        bits = int.from_bytes(buffer[at:end], "big") & ~(mask << behind) | (number & mask) << behind
        buffer[at:end] = bits.to_bytes(end - at, "big")

    def fit(self, number: int) -> Field:
        """Return a number as it is stored; None if it cannot be."""
        low = -(1 << (self.width - 1)) if self.signed else 0
        high = (1 << (self.width - self.signed)) - 1
        if low <= number <= high:
            return number
        if self.overflow == FAIL:
            return None
        if self.overflow == WRAP:
            number &= (1 << self.width) - 1
            return number - (1 << self.width) if number > high else number
        if self.action == SET and (not self.signed or high - number > INTEGER_MAX):
            return high  # in Redis, which has 64 bits for this, these numbers are above the highest
        return low if number < low else high


@final
class Program:
    """The operations of one request.

    Attributes:
        operations: The operations.
        extent: The last bit that is written; -1: none is.
        has_waited: It has been put off once, because the value is large.
    """

    def __init__(self, words: list[bytes], context: ClientContext) -> None:
        self.operations: list[Operation] = []
        self.extent = -1
        self.has_waited = False
        self._words = words
        self._context = context
        self._at = 2
        self._overflow = WRAP

    @property
    def complete(self) -> bool:
        """Whether all words have been parsed."""
        return self._at >= len(self._words)

    @property
    def writes(self) -> bool:
        """Whether an operation writes."""
        return self.extent >= 0

    def check(self, *, may_write: bool) -> None:
        """Check what has been parsed.

        Raises:
            UsageError: An operation writes that may not.
            TooLongError: The value would be longer than allowed.
        """
        if self.writes and not may_write:
            raise UsageError("BITFIELD_RO only supports the GET subcommand")
        check_extent(self.extent, self._context)

    def parse(self) -> None:
        """Parse the next operation, or OVERFLOW."""
        words, at = self._words, self._at
        name = c_string(words[at]).lower()
        if name == b"overflow" and at + 1 < len(words):
            overflow = OVERFLOWS.get(c_string(words[at + 1]).lower())
            if overflow is None:
                raise UsageError("Invalid OVERFLOW type specified")
            self._overflow = overflow
            self._at += 2
            return
        action, length = SUBCOMMANDS.get(name, (GET, len(words)))
        if at + length > len(words):
            raise UsageError("syntax error")
        signed, width = field_type(words[at + 1])
        offset = bit_offset(words[at + 2], self._context, width)
        amount = 0
        if action != GET:
            amount = integer(words[at + 3])
            self.extent = max(self.extent, offset + width - 1)
        self.operations.append(Operation(action, signed, width, offset, amount, self._overflow))
        self._at += length


def field_type(text: bytes) -> tuple[bool, int]:
    """Return whether a field has a sign, and its width: ``i1`` to ``i64``, ``u1`` to ``u63``."""
    try:
        width = integer(c_string(text[1:]))
    except NotANumberError:
        width = 0
    signed = text[:1] == b"i"
    if not (signed or text[:1] == b"u") or not 1 <= width <= 63 + signed:
        raise UsageError("Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.")
    return signed, width


class Run:
    """Runs operations that write on a value; it may be run more than once.

    Attributes:
        fields: The results of the last run.
    """

    def __init__(self, program: Program) -> None:
        self.fields: list[Field] = []
        self._program = program
        self._old: Value | None = None
        self._value = b""
        self._buffer: bytearray | None = None  # a copy, if it has been changed

    def __call__(self, old: Value | None) -> Write | None:
        self.begin(old)
        for operation in self._program.operations:
            self.step(operation)
        return self.end()

    def begin(self, old: Value | None) -> None:
        """Begin with a value."""
        self.fields = []
        self._old = old
        self._value = string_or_empty(old)
        missing = (self._program.extent >> 3) + 1 - len(self._value)
        self._buffer = bytearray(self._value) + bytes(missing) if missing > 0 else None

    def step(self, operation: Operation) -> None:
        """Run an operation."""
        old = operation.read(self._value if self._buffer is None else self._buffer)
        if operation.action == GET:
            self.fields.append(old)
            return
        new = operation.fit(operation.amount + old if operation.action == INCREMENT else operation.amount)
        if new is None:
            self.fields.append(None)
            return
        self.fields.append(new if operation.action == INCREMENT else old)
        if new != old:
            if self._buffer is None:
                self._buffer = bytearray(self._value)
            operation.write(self._buffer, new)

    def end(self) -> Value | None:
        """Return the new value; None if it is the old one."""
        buffer, self._buffer = self._buffer, None
        return None if buffer is None else with_string(self._old, bytes(buffer))


def change(key: Key, program: Program, session: Session) -> Steps[list[Field]]:
    """Run operations that write in steps; return their results."""
    work = session.work
    run = Run(program)
    old = session.get(key)
    size_bytes = len(string_or_empty(old)) + (program.extent >> 3)
    work.held_bytes += size_bytes
    if not program.has_waited and size_bytes >= LARGE_COPY_BYTES:
        program.has_waited = True
        yield from next_share(work)
    run.begin(old)
    for operation in program.operations:
        run.step(operation)
        work.left -= OPERATION_UNITS
        if work.left <= 0:
            yield
    new = run.end()
    if new is not None:
        work.left -= len(string_of(new)) // STORED_BYTES_PER_UNIT
        session.put(key, new)
    return run.fields


# Handlers.


def _bitfield(session: Session, context: ClientContext, arguments: list[bytes]) -> Reply:
    return _answer(session, context, arguments, may_write=True)


def _bitfield_ro(session: Session, context: ClientContext, arguments: list[bytes]) -> Reply:
    return _answer(session, context, arguments, may_write=False)


def _answer(session: Session, context: ClientContext, arguments: list[bytes], *, may_write: bool) -> Reply:
    program = Program(arguments, context)
    if len(arguments) > SHORT:
        return _answer_in_steps(session, context, arguments[1], program, may_write=may_write)
    while not program.complete:
        program.parse()
    program.check(may_write=may_write)
    session.work.left -= OPERATION_UNITS * len(program.operations)
    if not program.writes:
        value = string_or_empty(session.get(arguments[1]))
        return _array(context, [operation.read(value) for operation in program.operations])
    run = Run(program)
    change = Charged(run, session.work, (program.extent >> 3) + 1)
    session.update(arguments[1], change)
    if change.postponed:
        return _answer_later(session, context, arguments[1], run, change)
    return _array(context, run.fields)


def _answer_later(session: Session, context: ClientContext, key: Key, run: Run, change: Charged) -> Steps[bytes]:
    yield from change.next_share()
    session.update(key, change)
    return _array(context, run.fields)


def _answer_in_steps(
    session: Session, context: ClientContext, key: Key, program: Program, *, may_write: bool
) -> Steps[bytes]:
    work = session.work
    while not program.complete:
        program.parse()
        work.left -= OPERATION_UNITS
        if work.left <= 0:
            yield
    program.check(may_write=may_write)
    if program.writes:
        fields = yield from session.transact(partial(change, key, program))
        return _array(context, fields)
    value = string_or_empty(session.get(key))
    fields = []
    for operation in program.operations:
        fields.append(operation.read(value))
        work.left -= OPERATION_UNITS
        if work.left <= 0:
            yield
    return _array(context, fields)


def _array(context: ClientContext, fields: list[Field]) -> bytes:
    return replies.array([context.protocol.null if field is None else replies.number(field) for field in fields])


def flags_of_key(words: list[bytes]) -> tuple[str, ...]:
    """Return how a BITFIELD uses its key, for COMMAND GETKEYSANDFLAGS: GET alone only reads it."""
    at = 2
    while at < len(words):
        name = c_string(words[at]).lower()
        action, length = (GET, 2) if name == b"overflow" else SUBCOMMANDS.get(name, (SET, 0))
        if action != GET or at + length > len(words):
            return ("RW", "access", "update")
        at += length
    return ("RO", "access")


COMMANDS: Final[list[RespCommand]] = [
    RespCommand(
        "bitfield",
        _bitfield,
        (KEY, OTHER),
        1,
        is_local=of_pending_key,
        flags_of_key=flags_of_key,
        contents=((b"SET", 3), (b"INCRBY", 3)),
    ),
    RespCommand("bitfield_ro", _bitfield_ro, (KEY, OTHER), 1, is_local=of_pending_key),
]
