"""The unparsed input of one connection."""

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int in a register, to the compiler


@final
class ReceiveBuffer:
    """Input bytes, and the position up to which they are parsed.

    Pieces that arrive after an incomplete request are kept apart until the parser has as many bytes as it needs, and
    are then joined once: a large value is not copied again with every piece.

    Attributes:
        data: Input. A parser reads it from ``at`` on, and moves ``at``.
        at: Position up to which it is parsed.
    """

    __slots__ = ("_later", "_later_bytes", "_needed_bytes", "_needs_line", "at", "data")

    def __init__(self) -> None:
        self.data = b""
        self.at: i64 = 0
        self._later: list[bytes] = []
        self._later_bytes = 0
        self._needed_bytes = 0
        self._needs_line = False

    @property
    def held_bytes(self) -> int:
        """Number of unparsed bytes."""
        return len(self.data) - self.at + self._later_bytes

    def feed(self, data: bytes) -> None:
        """Take input."""
        if self.at == len(self.data) and not self._later:
            self.data = data
            self.at = 0
        else:
            self._later.append(data)
            self._later_bytes += len(data)
            if self._needs_line and b"\n" in data:
                self._needed_bytes = 0

    def need(self, size: "i64") -> None:
        """Make :meth:`ready` return False until there are so many bytes after ``at``."""
        self._needed_bytes = size
        self._needs_line = False

    def need_line(self, max_bytes: "i64") -> None:
        """Make :meth:`ready` return False until a line feed has come, or more bytes after ``at`` than so many."""
        self._needed_bytes = max_bytes + 1
        self._needs_line = True

    def ready(self) -> bool:
        """Return whether a parser can continue; if so, all input is in ``data``."""
        if self._later:
            if self.held_bytes < self._needed_bytes:
                return False
            self._later.insert(0, self.data[self.at :] if self.at else self.data)
            self.data = b"".join(self._later)
            self.at = 0
            self._later = []
            self._later_bytes = 0
        elif len(self.data) - self.at < self._needed_bytes:
            return False
        self._needed_bytes = 0
        return True

    def take(self, size: "i64") -> bytes:
        """Remove and return the next bytes, of which there must be so many. Copies no others but the end of a piece."""
        pieces = [self.data[self.at :], *self._later]
        used = 0
        missing: i64 = size
        while missing > len(pieces[used]):
            missing -= len(pieces[used])
            used += 1
        self.data = pieces[used][missing:]
        pieces[used] = pieces[used][:missing]
        self.at = 0
        self._later = pieces[used + 1 :]
        self._later_bytes = sum([len(piece) for piece in self._later])
        self._needed_bytes = 0
        return b"".join(pieces[: used + 1])

    def clear(self) -> None:
        """Forget everything."""
        self.data = b""
        self.at = 0
        self._later = []
        self._later_bytes = 0
        self._needed_bytes = 0
        self._needs_line = False
