"""The transaction stack: nested transactions as an immutable value.

Theory of operation
-------------------

A :class:`TransactionStack` is the whole state of one session's transaction. It is immutable: every function returns the
next stack, and one that is not allowed raises. The session holds one stack in one variable; replacing it *is* the state
transition, and not replacing it is how a request is refused.

=============  ===================================  =========================================
function       outside a transaction (``IDLE``)     inside, at depth n
=============  ===================================  =========================================
``start``      depth 1 on the given snapshot        ``NestingError``: use ``nest``
``nest``       ``NoTransactionError``               depth n + 1, same snapshot
``put``        ``NoTransactionError``               depth n, key pending [r]_
``delete``     ``NoTransactionError``               depth n, tombstone pending [r]_
``clear``      ``NoTransactionError``               depth n, nothing pending, ``cleared`` [r]_
``observe*``   ``NoTransactionError``               depth n, read set grown [r]_
``commit``     ``NoTransactionError``               n > 1: merged into depth n - 1
                                                    n = 1: ``IDLE`` and a ``CommitRequest``
``rollback``   ``NoTransactionError``               n > 1: depth n - 1; n = 1: ``IDLE``
=============  ===================================  =========================================

.. [r] In a read-only transaction, ``put``, ``delete`` and ``clear`` raise ``UsageError``, and ``observe*`` returns the
   same stack.

*Frames.* A stack holds what its innermost frame sees, and the stack beneath it, to which ROLLBACK returns.

*Writes.* Every frame holds one persistent map that contains its parent's entries by structural sharing. START shares
the map, an inner COMMIT replaces the parent's map by the child's, ROLLBACK drops it; a look-up is one probe at any
depth. All three cost O(1) in depth, in the size of the store and in the number of pending writes. While a map has few
entries it is a plain dict, never modified (see :func:`kvs.domain.persistent.with_entry`).

*Reads.* The whole stack has one read set, not one per frame: the client has seen what it read in a frame that was
rolled back, and may have acted on it. The read set determines the isolation level, and it is built here and in the
session, never in an engine: the engine only checks whether an observed key or range has changed since the snapshot.

*Ranges.* A page of keys observes the range that it covers, so the read set has ranges in byte order. Those that touch
or overlap are merged. Beyond ``MAX_RANGES``, a new one is merged with its nearer neighbour across the gap between them.
A key in that gap can then cause a false conflict, but no conflict is missed, and validation stays bounded.

*Clear.* Deleting every key sets one flag of the frame, a tombstone for the whole range of keys: pending writes are
dropped, and later reads see later writes only. Such a read depends on no other client, so it is not observed. The flag
belongs to the frame: ROLLBACK undoes it, and an inner COMMIT passes it on with the writes.

*Read-only.* A read-only transaction may not write in any of its frames. It is never validated, so it keeps no read set,
and its memory does not grow with its reads. Its read set is marked as not ``tracked``, and so is that of ``IDLE``: one
check on the read path covers both.

*Commit.* The outermost commit changes nothing. It returns a :class:`CommitRequest` for the engine, which knows the
snapshot that is opaque here.

*Bytes.* A frame retains the values it shadows, so a thousand frames over one key can hold a thousand values. Each frame
is charged with ``own_bytes``, the entries in its map that are not its parent's, found by identity with two probes. When
a child is merged, the exact figure would cost a walk; the smaller of ``own + child's own`` and the size of everything
visible is never too small and costs O(1).

Source of the scheme: H. T. Kung and J. T. Robinson, "On Optimistic Methods for Concurrency Control", 1981; the frames
follow J. E. B. Moss, "Nested Transactions", 1981, without concurrent siblings.
"""

from typing import Any, Final, final

from mypy_extensions import mypyc_attr

from kvs.domain.commit import CommitRequest, KeyRange, ReadSet
from kvs.domain.errors import NoTransactionError, UsageError
from kvs.domain.persistent import Entries, entry, parts_of, with_entry, with_key
from kvs.domain.read_set import NO_KEYS, NO_RANGES, Ranges, TrackedReads, range_bytes, with_range
from kvs.domain.values import ENTRY_OVERHEAD_BYTES, TOMBSTONE, Key, Value, Write, entry_bytes

FRAME_OVERHEAD_BYTES: Final = 256
"""Charged for a frame: its objects and the path of the persistent map it does not share. Measured with ``tracemalloc``
over 1,000 frames: 210 to 250 B."""

RANGE_BYTES: Final = 8
"""Charged to a frame for each range observed before it: the frame beneath keeps another list of them."""


class NestingError(Exception):
    """Raised when a stack that is already open is started on another snapshot: a bug in the caller."""


_NO_WRITES: Final[dict[Key, Write]] = {}


@final
@mypyc_attr(free_list_len=1)  # the next one mostly takes the place of the last
class TransactionStack:
    """A session's transaction as an immutable value; the module docstring has a table of what its methods raise.

    Attributes:
        depth: Number of open frames; 0 when idle.
        cleared: Whether the innermost frame has deleted every key, which hides the snapshot.
        writes: Everything pending, as the innermost frame sees it.
        retained_bytes: Memory charged: every frame's writes, including shadowed ones, and the read set.
    """

    __slots__ = (
        "_beneath",
        "_frames_bytes",
        "_own_bytes",
        "_reads",
        "_visible_bytes",
        "cleared",
        "depth",
        "retained_bytes",
        "writes",
    )

    def __init__(
        self,
        beneath: "TransactionStack | None",
        depth: int,
        reads: TrackedReads,
        writes: Entries[Write],
        own_bytes: int,
        visible_bytes: int,
        frames_bytes: int,
        cleared: bool,  # noqa: FBT001  # by position, as the others: the compiler calls that faster
    ) -> None:
        """Make a stack.

        Args:
            beneath: The stack on which the innermost frame was pushed; None for the outermost frame.
            depth: See the class.
            reads: The read set of all frames.
            writes: See the class.
            own_bytes: Upper bound of the memory that the innermost frame adds to the one beneath.
            visible_bytes: Exact size of all the entries in ``writes``.
            frames_bytes: Memory charged for all frames.
            cleared: See the class.
        """
        self._beneath = beneath
        self.depth: Final = depth
        self._reads = reads
        self.writes: Final = writes
        self.cleared: Final = cleared
        self._own_bytes = own_bytes
        self._visible_bytes = visible_bytes
        self._frames_bytes = frames_bytes
        self.retained_bytes: Final = frames_bytes + reads.held_bytes

    @property
    def snapshot(self) -> object:
        """The engine's snapshot, opaque here; None when idle."""
        return self._reads.snapshot

    @property
    def read_ranges(self) -> Ranges:
        """The ranges in the read set."""
        return self._reads.range_set

    def pending(self, key: Key) -> Write | None:
        """Return the pending value or tombstone of a key, or None. One probe at any depth."""
        return entry(self.writes, key)

    def start(self, snapshot: object, *, read_only: bool = False) -> "TransactionStack":
        """Open the outermost frame on a snapshot. O(1).

        Args:
            snapshot: The snapshot to read.
            read_only: Whether writes are refused, in this frame and in all frames inside it.

        Raises:
            NestingError: A transaction is open already.
        """
        if self.depth:
            raise NestingError
        reads = TrackedReads(snapshot, NO_KEYS, NO_RANGES, 0, 0, tracked=not read_only)
        return TransactionStack(None, 1, reads, _NO_WRITES, 0, 0, FRAME_OVERHEAD_BYTES, cleared=False)

    def nest(self, *, read_only: bool = False) -> "TransactionStack":
        """Push a frame, which is read-only if the one beneath is. O(1).

        Args:
            read_only: Whether writes are refused in it.

        Raises:
            NoTransactionError: No transaction is open.
            UsageError: It is to be read-only and the one beneath is not: its reads would have to be tracked after
                all, because the writes beneath may depend on them.
        """
        self._check_open()
        if read_only and self._reads.tracked:
            raise UsageError("START READONLY opens a transaction, and there is one that may write; START nests in it.")
        frames_bytes = self._frames_bytes + FRAME_OVERHEAD_BYTES + RANGE_BYTES * len(self._reads.range_set)
        return TransactionStack(
            self, self.depth + 1, self._reads, self.writes, 0, self._visible_bytes, frames_bytes, self.cleared
        )

    def put(self, key: Key, value: Value) -> "TransactionStack":
        """Make a value pending. Reads nothing, so the read set stays as it is. O(log n), flat in depth."""
        return self._write(key, value)

    def delete(self, key: Key) -> "TransactionStack":
        """Make a delete pending. The caller observes whether the key exists. O(log n), flat in depth."""
        return self._write(key, TOMBSTONE)

    def clear(self) -> "TransactionStack":
        """Delete every key. Reads nothing, and drops the pending writes of the innermost frame. O(1)."""
        self.check_may_write()
        frames_bytes = self._frames_bytes - self._own_bytes
        return TransactionStack(self._beneath, self.depth, self._reads, _NO_WRITES, 0, 0, frames_bytes, cleared=True)

    def check_may_write(self) -> None:
        """Check that the transaction may write. For DEL, which reads first."""
        if not self._reads.tracked:
            self._check_open()
            raise UsageError("START READONLY promised not to write; end this transaction first: COMMIT or ROLLBACK.")

    def observe(self, key: Key) -> "TransactionStack":
        """Add a key, present or absent, to the read set."""
        reads = self._reads
        if not reads.tracked:
            self._check_open()
            return self  # read-only: there is nothing to note
        if self.cleared or key in reads.key_set:
            return self
        held_bytes = reads.held_bytes + len(key) + ENTRY_OVERHEAD_BYTES
        keys = with_key(reads.key_set, key)
        return self._reading(TrackedReads(reads.snapshot, keys, reads.range_set, held_bytes, reads.ranges_bytes))

    def observe_range(self, low: Key, high: Key | None) -> "TransactionStack":
        """Add the range [low, high) to the read set, so that phantoms conflict; None means no upper bound."""
        reads = self._reads
        if not reads.tracked:
            self._check_open()
            return self  # read-only: there is nothing to note
        if self.cleared or (high is not None and high <= low):
            return self
        ranges = with_range(reads.range_set, KeyRange(low, high))
        if ranges is reads.range_set:
            return self
        ranges_bytes = range_bytes(ranges)
        held_bytes = reads.held_bytes - reads.ranges_bytes + ranges_bytes
        return self._reading(TrackedReads(reads.snapshot, reads.key_set, ranges, held_bytes, ranges_bytes))

    def commit(self) -> "tuple[TransactionStack, CommitRequest | None]":
        """Merge the innermost frame into its parent, or end the outermost one. O(1).

        Returns:
            The next stack; and, from the outermost frame, the request for the engine, else None.
        """
        self._check_open()
        parent = self._beneath
        if parent is None:
            return IDLE, self.request()
        own = min(parent._own_bytes + self._own_bytes, self._visible_bytes)
        frames_bytes = parent._frames_bytes - parent._own_bytes + own
        merged = TransactionStack(
            parent._beneath,
            parent.depth,
            self._reads,
            self.writes,
            own,
            self._visible_bytes,
            frames_bytes,
            self.cleared,
        )
        return merged, None

    def request(self, watched: tuple[ReadSet, ...] = ()) -> CommitRequest:
        """Return the request that commits the transaction. O(watched).

        Args:
            watched: Read sets to validate in addition to the transaction's.
        """
        reads: tuple[ReadSet, ...] = (self._reads,)
        return CommitRequest(watched + reads if watched else reads, self.writes, self.cleared)

    def rollback(self) -> "TransactionStack":
        """Discard the innermost frame; its reads stay in the read set. O(1)."""
        self._check_open()
        return IDLE if self._beneath is None else self._beneath._reading(self._reads)

    def parts(self) -> list[Any]:
        """Return the containers of all frames, to drop one at a time. O(frames)."""
        parts: list[Any] = []
        frame: TransactionStack | None = self
        while frame is not None:
            beneath = frame._beneath
            for own, inherited in (
                (frame.writes, None if beneath is None else beneath.writes),
                (frame._reads.key_set, None if beneath is None else beneath._reads.key_set),
            ):
                if own is not inherited:
                    shared = set() if inherited is None else {id(part) for part in parts_of(inherited)}
                    parts += [part for part in parts_of(own) if id(part) not in shared]
            frame = beneath
        return parts

    def _check_open(self) -> None:
        if not self.depth:
            raise NoTransactionError("There is no transaction; START opens one.")

    def _reading(self, reads: TrackedReads) -> "TransactionStack":
        """Return this stack with another read set."""
        return TransactionStack(
            self._beneath,
            self.depth,
            reads,
            self.writes,
            self._own_bytes,
            self._visible_bytes,
            self._frames_bytes,
            self.cleared,
        )

    def _write(self, key: Key, write: Write) -> "TransactionStack":
        """Return this stack with one more pending write in its innermost frame."""
        self.check_may_write()
        old = entry(self.writes, key)
        inherited = None if self._beneath is None else entry(self._beneath.writes, key)
        size = entry_bytes(key, write)
        own, visible = self._own_bytes, self._visible_bytes + size
        if old is not None:
            old_size = entry_bytes(key, old)
            visible -= old_size
            if old is not inherited:
                own -= old_size
        if write is not inherited:  # the same object, e.g. an interned b"", costs nothing more
            own += size
        frames_bytes = self._frames_bytes - self._own_bytes + own
        writes = with_entry(self.writes, key, write)
        return TransactionStack(
            self._beneath, self.depth, self._reads, writes, own, visible, frames_bytes, self.cleared
        )


IDLE: Final = TransactionStack(
    None, 0, TrackedReads(None, NO_KEYS, NO_RANGES, 0, 0, tracked=False), _NO_WRITES, 0, 0, 0, cleared=False
)
"""No transaction: a shared constant, so a session outside a transaction holds no memory."""
