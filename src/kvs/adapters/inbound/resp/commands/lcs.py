"""LCS, the longest common subsequence of two values.

The textbook's table has a row for each byte of one value and a column for each of the other; a cell has the length of
the longest common subsequence of what is before it. Neighbours differ by 0 or 1, so a row is kept as a number with one
bit for each column, and the next row is computed from it with an addition (Hyyro, "Bit-parallel LCS-length computation
revisited", 2004). The rows are those of the shorter value, and are divided into blocks of columns, so that a step is
small however long the other one is.

There may be several subsequences of that length. Redis walks through the table from its end: where two bytes are
equal, to the bytes before both of them; elsewhere to the one before in the first value if the longest common
subsequence is then longer than with the one before in the second value, else to that.
"""

from functools import partial
from typing import Final, TypeAlias, final

from kvs.adapters.inbound.protocol.command import KEY, OTHER
from kvs.adapters.inbound.resp import replies
from kvs.adapters.inbound.resp.command import RespCommand
from kvs.adapters.inbound.resp.context import ClientContext
from kvs.adapters.inbound.resp.wording import c_string
from kvs.domain.errors import ResultTooLargeError, UsageError
from kvs.domain.updates import integer
from kvs.domain.values import Key, string_or_empty
from kvs.ports.session import Session, Steps, Work

BLOCK: Final = 1 << 16
"""Maximum columns of a block."""

CELLS_PER_BYTE: Final = 8
"""Redis has four bytes for a cell, and 512 MiB; here a bit, and by default 16 MiB, for as many cells."""

NUMBER_BYTES: Final = 40
"""Memory of a number beside its bits."""

ROW_COLUMNS_PER_UNIT: Final = 1 << 13
MASK_COLUMNS_PER_UNIT: Final = 1 << 8
"""Columns per unit of work: in a row, and to find the places of a byte. A row costs one unit more."""

Range: TypeAlias = tuple[int, int, int]
"""Where equal bytes begin in the first value, and in the second, and how many they are."""


@final
class Table:
    """The table of two values.

    Args:
        first: The first value.
        second: The second value.
        keeps_rows: Keep all rows, for :meth:`ranges`.
        work: The share.
    """

    def __init__(self, first: bytes, second: bytes, work: Work, *, keeps_rows: bool) -> None:
        self._swapped = len(first) > len(second)
        self._rows, self._columns = (second, first) if self._swapped else (first, second)
        self._keeps_rows = keeps_rows
        self._work = work
        self._width = max(1, min(BLOCK, len(self._columns)))
        self._full = (1 << self._width) - 1
        self._blocks = -(-len(self._columns) // self._width)
        # The columns that have a byte, by byte and block.
        self._masks: dict[int, int] = {}
        # The columns where the walk goes left, by row and block; many lists would be work for the garbage collector.
        self._left: list[int] = []

    def held_bytes(self) -> int:
        """Return the memory that it takes at most."""
        numbers = min(256, len(self._rows)) + (len(self._rows) if self._keeps_rows else 1)
        return numbers * (len(self._columns) // 7 + self._blocks * NUMBER_BYTES)

    def length(self) -> Steps[int]:
        """Fill the table; return the length of the longest common subsequence."""
        work = self._work
        width, full = self._width, self._full
        flat = [full] * self._blocks  # of the row before: the columns whose cell is as the one to the left
        for byte in self._rows:
            carry = 0
            for block in range(self._blocks):
                mask = self._masks.get(byte * self._blocks + block, -1)
                if mask < 0:
                    mask = self._find(byte, block)
                equal = flat[block] & mask
                others = flat[block] ^ equal
                total = flat[block] + equal + carry
                carry = total >> width
                flat[block] = (total | others) & full
                if self._keeps_rows:
                    # A carry out of a column means that its cell is more than the one above.
                    self._left.append((total ^ others) >> 1 if self._swapped else flat[block])
                work.left -= 1 + width // ROW_COLUMNS_PER_UNIT
                if work.left <= 0:
                    yield
        return width * self._blocks - sum([columns.bit_count() for columns in flat])

    def ranges(self) -> Steps[list[Range]]:
        """Return the ranges of the subsequence that Redis chooses, the last one first."""
        work = self._work
        found: list[Range] = []
        row, column, length = len(self._rows), len(self._columns), 0
        low_row, low_column = row, column
        while row > 0 and column > 0:
            row -= 1
            # The last column at which the walk leaves this row.
            block = (column - 1) // self._width
            places = 0
            while block >= 0:
                passed = self._left[row * self._blocks + block]
                passed &= ~self._masks[self._rows[row] * self._blocks + block]
                places = ~passed & ((1 << (column - block * self._width)) - 1)
                work.left -= 1 + self._width // ROW_COLUMNS_PER_UNIT
                if work.left <= 0:
                    yield
                if places:
                    break
                column = block * self._width
                block -= 1
            if not places:
                break
            column = block * self._width + places.bit_length()
            if self._rows[row] != self._columns[column - 1]:
                continue
            column -= 1
            if length and not (row + 1 == low_row and column + 1 == low_column):
                found.append(self._range(low_row, low_column, length))
                length = 0
            low_row, low_column, length = row, column, length + 1
        if length:
            found.append(self._range(low_row, low_column, length))
        return found

    def _range(self, row: int, column: int, length: int) -> Range:
        return (column, row, length) if self._swapped else (row, column, length)

    def _find(self, byte: int, block: int) -> int:
        """Return the columns of a block that have a byte, as bits."""
        part = self._columns[block * self._width : (block + 1) * self._width]
        marks = bytearray(b"0" * 256)
        marks[byte] = 49
        mask = int(part[::-1].translate(bytes(marks)), 2)
        self._masks[byte * self._blocks + block] = mask
        self._work.left -= len(part) // MASK_COLUMNS_PER_UNIT
        return mask


@final
class Options:
    """The options of a request.

    Attributes:
        length_only: LEN.
        ranges: IDX.
        with_lengths: WITHMATCHLEN.
        min_length: MINMATCHLEN.
    """

    def __init__(self) -> None:
        self.length_only = False
        self.ranges = False
        self.with_lengths = False
        self.min_length = 0

    def parse(self, words: list[bytes], work: Work) -> Steps[None]:
        """Parse the words of a request."""
        at = 3
        while at < len(words):
            word = c_string(words[at]).lower()
            if word == b"idx":
                self.ranges = True
            elif word == b"len":
                self.length_only = True
            elif word == b"withmatchlen":
                self.with_lengths = True
            elif word == b"minmatchlen" and at + 1 < len(words):
                at += 1
                self.min_length = integer(words[at])
            else:
                raise UsageError("syntax error")
            at += 1
            work.left -= 1
            if work.left <= 0:
                yield
        if self.ranges and self.length_only:
            raise UsageError("If you want both the length and indexes, please just use IDX.")


def get_both(first: Key, second: Key, session: Session) -> Steps[tuple[bytes, bytes]]:
    """Return two values; an absent one is empty."""
    return string_or_empty(session.get(first)), string_or_empty(session.get(second))
    yield


def _lcs(session: Session, context: ClientContext, arguments: list[bytes]) -> Steps[bytes]:
    first, second = yield from session.view(partial(get_both, arguments[1], arguments[2]))
    work = session.work
    options = Options()
    yield from options.parse(arguments, work)
    if (len(first) + 1) * (len(second) + 1) > context.limits.max_value_bytes * CELLS_PER_BYTE:
        raise UsageError("Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
    table = Table(first, second, work, keeps_rows=not options.length_only)
    work.held_bytes += table.held_bytes()
    length = yield from table.length()
    if options.length_only:
        return replies.number(length)
    ranges = yield from table.ranges()
    if options.ranges:
        matches = yield from _matches(context, options, ranges, work)
        number = replies.number(length)
        return context.protocol.mapping([(replies.bulk(b"matches"), matches), (replies.bulk(b"len"), number)])
    ranges.reverse()
    return replies.bulk(b"".join([first[start : start + size] for start, _, size in ranges]))


def _matches(context: ClientContext, options: Options, ranges: list[Range], work: Work) -> Steps[bytes]:
    """Return the reply that has ranges."""
    items: list[bytes] = []
    room_bytes = context.limits.max_reply_bytes
    for first, second, length in ranges:
        if length < options.min_length:
            continue
        parts = [_bounds(first, length), _bounds(second, length)]
        if options.with_lengths:
            parts.append(replies.number(length))
        item = replies.array(parts)
        items.append(item)
        room_bytes -= len(item)
        if room_bytes < 0:
            raise ResultTooLargeError(context.limits.max_reply_bytes)
        work.left -= 1
        if work.left <= 0:
            yield
    return replies.array(items)


def _bounds(start: int, length: int) -> bytes:
    return replies.array([replies.number(start), replies.number(start + length - 1)])


COMMANDS: Final[list[RespCommand]] = [RespCommand("lcs", _lcs, (KEY, KEY, OTHER), 1)]
