"""The transaction stack: nested transactions as an immutable value.

Theory of operation
-------------------

A :class:`TransactionStack` is the whole state of one session's transaction. It never changes: every function returns
the next stack, and one that is not allowed raises and leaves, by construction, everything as it was. The session holds
one stack in one variable; replacing it *is* the state transition, and not replacing it is how a request is refused.

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

*Frames.* A stack holds what its innermost frame sees, and the stack beneath, which is what a ROLLBACK goes back to.

*Writes.* Every frame holds one persistent map that contains its parent's entries by structural sharing. START shares
the map, an inner COMMIT replaces the parent's map by the child's, ROLLBACK drops it; a look-up is one probe at any
depth. All three cost O(1) in depth, in the size of the store and in the number of pending writes. While a map has few
entries it is a plain dict that nobody changes any more (see :func:`_with_entry`).

*Reads.* There is one read set for the whole stack, not one per frame: what was read in a frame that was rolled back
has still been seen by the client, who may have acted on it. What is put into the read set decides the isolation, and
that is decided here and in the session, never in an engine: the engine only finds out whether an observed key or range
has changed since the snapshot.

*Ranges.* A page of keys observes the range that it covers, so the read set has ranges in byte order. Those that touch
or overlap are merged. There are at most :data:`MAX_RANGES`: beyond that, a new one is merged with its nearer neighbour
across the gap between them. A key in that gap can then cause a conflict though nobody looked there, but no conflict is
missed, and validation stays bounded.

*Clear.* Deleting every key is one flag of the frame, a tombstone for the whole range of keys: pending writes are
dropped, and every later read is answered by a later write or by nothing. Such a read depends on nothing that anybody
else can change, so it is not observed. The flag belongs to the frame: a ROLLBACK undoes it, and an inner COMMIT hands
it on with the writes.

*Read-only.* A transaction that was started so has promised not to write, in any of its frames. Who does not write is
never validated, so it has no read set, and holds the same however much it reads. Its read set says so, and so does that
of ``IDLE``: one question tells an ordinary transaction from both, where there would have to be one anyhow.

*Commit.* The outermost commit touches nothing. It returns a :class:`CommitRequest` for the engine, to which the
snapshot, opaque here, means something.

*Bytes.* A frame retains the values it shadows, so a thousand frames over one key can hold a thousand values. Each frame
is charged with ``own_bytes``, the entries in its map that are not its parent's very own, found by identity with two
probes. When a child is merged, the exact figure would cost a walk; the smaller of ``own + child's own`` and of all that
is visible is never too small and costs O(1).

Source of the scheme: H. T. Kung and J. T. Robinson, "On Optimistic Methods for Concurrency Control", 1981; the frames
follow J. E. B. Moss, "Nested Transactions", 1981, without siblings running side by side.
"""

from typing import Final, TypeAlias, TypeVar, final

from immutables import Map

from kvs.domain.commit import CommitRequest, KeyRange, ReadSet
from kvs.domain.errors import NoTransactionError, UsageError
from kvs.domain.values import ENTRY_OVERHEAD_BYTES, TOMBSTONE, Key, Value, Write, entry_bytes

FRAME_OVERHEAD_BYTES: Final = 256
"""Charged for a frame: its objects and the path of the persistent map it does not share. Measured with ``tracemalloc``
over 1,000 frames: 210 to 250 B."""

FEW_ENTRIES: Final = 8
"""Most entries of a map that is copied whole for one more."""

MAX_RANGES: Final = 1024
"""Most ranges in a read set. Each costs the engine two look-ups in its index of keys when it validates."""

RANGE_BYTES: Final = 8
"""Charged to a frame for each range that was observed before it: the frame beneath keeps its own list of them."""

V = TypeVar("V")

Entries: TypeAlias = dict[Key, V] | Map[Key, V]
"""A persistent map: never changed once it is part of a stack."""


Keys: TypeAlias = tuple[Key, ...] | Map[Key, None]
"""A persistent set: a tuple while it is small, for the same reason."""


def _with_key(keys: Keys, key: Key) -> Keys:
    """Return the set with one more key, which is not in it. O(log n)."""
    if not isinstance(keys, tuple):
        return keys.set(key, None)
    if len(keys) >= FEW_ENTRIES:
        return Map(dict.fromkeys(keys)).set(key, None)
    return keys + (key,)  # noqa: RUF005  # (*keys, key) goes by way of a list when compiled: 60 ns more


def _entry(entries: Entries[V], key: Key) -> V | None:
    """Return the value of a key, or None."""
    if isinstance(entries, dict):  # the compiler reaches into a dict, and would look the method up for either
        return entries.get(key)
    return entries.get(key)


def _with_entry(entries: Entries[V], key: Key, value: V) -> Entries[V]:
    """Return the map with one more entry, or one replaced. O(log n).

    Copying a dict of up to eight entries takes 30 to 120 ns, where the persistent map allocates two objects and hashes
    the key anew, 170 to 250 ns; most transactions are that small.
    """
    if not entries:
        return {key: value}
    if not isinstance(entries, dict):
        return entries.set(key, value)
    if len(entries) < FEW_ENTRIES:
        return {**entries, key: value}
    return Map(entries).set(key, value)


Ranges: TypeAlias = tuple[KeyRange, ...]
"""Ranges in byte order that neither touch nor overlap."""


def _with_range(ranges: Ranges, new: KeyRange) -> Ranges:
    """Return the ranges with one more. O(ranges), of which there are at most :data:`MAX_RANGES`."""
    low, high = new
    first, end = 0, len(ranges)
    while first < end:  # find the first that ends where the new one begins, or behind that
        middle = (first + end) // 2
        upper = ranges[middle][1]
        if upper is not None and upper < low:
            first = middle + 1
        else:
            end = middle
    last = first
    while last < len(ranges) and (high is None or ranges[last][0] <= high):
        lower, upper = ranges[last]
        low = min(low, lower)
        high = None if high is None or upper is None else max(high, upper)
        last += 1
    if last == first and len(ranges) >= MAX_RANGES:
        if first == len(ranges) or (first > 0 and _is_nearer(ranges[first - 1], new, ranges[first])):
            first -= 1
            low = ranges[first][0]
        else:
            high = ranges[first][1]
            last += 1
    elif last == first + 1 and ranges[first] == (low, high):
        return ranges
    return (*ranges[:first], KeyRange(low, high), *ranges[last:])


def _is_nearer(before: KeyRange, new: KeyRange, after: KeyRange) -> bool:
    """Return whether the gap to the range before is the smaller one, as far as common prefixes tell."""
    left = before[1] or b""  # neither is None: there is a range after each of the two
    right = new[1] or b""
    return _common_bytes(left, new[0]) >= _common_bytes(right, after[0])


def _common_bytes(one: Key, other: Key) -> int:
    length = min(len(one), len(other))
    for at in range(length):
        if one[at] != other[at]:
            return at
    return length


def _range_bytes(ranges: Ranges) -> int:
    size = 0
    for low, high in ranges:
        size += ENTRY_OVERHEAD_BYTES + len(low) + (0 if high is None else len(high))
    return size


class NestingError(Exception):
    """Raised when a stack that is already open is started on another snapshot: a mistake in the caller."""


_NO_WRITES: Final[dict[Key, Write]] = {}
_NO_KEYS: Final[tuple[Key, ...]] = ()
_NO_RANGES: Final[Ranges] = ()


@final
class _Reads(ReadSet):
    """What has been observed: the read set of the commit, as it grows. Replaced, never changed.

    Attributes:
        key_set: The keys.
        range_set: The ranges.
        held_bytes: What all of them hold.
        ranges_bytes: What the ranges hold.
        tracked: Whether it can ever be validated: there is a transaction, and it may write. If not, it stays empty.
    """

    __slots__ = ("held_bytes", "key_set", "range_set", "ranges_bytes", "tracked")

    def __init__(
        self,
        snapshot: object,
        key_set: Keys,
        range_set: Ranges,
        held_bytes: int,
        ranges_bytes: int,
        *,
        tracked: bool = True,
    ) -> None:
        super().__init__(snapshot, key_set, range_set)
        self.key_set = key_set
        self.range_set = range_set
        self.held_bytes = held_bytes
        self.ranges_bytes = ranges_bytes
        self.tracked = tracked


@final
class TransactionStack:
    """A session's transaction, as an immutable value; see the head of this module.

    Attributes:
        depth: Number of open frames; 0 when idle.
        cleared: Whether the innermost frame has deleted every key, so that nothing of the snapshot is to be seen.
        writes: Everything pending, as the innermost frame sees it.
        retained_bytes: What the transaction holds: every frame's writes, shadowed ones included, and the read set.
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
        reads: _Reads,
        writes: Entries[Write],
        own_bytes: int,
        visible_bytes: int,
        frames_bytes: int,
        cleared: bool,  # noqa: FBT001  # by position, as the others: the compiler calls that faster
    ) -> None:
        """Make a stack.

        Args:
            beneath: Without the innermost frame, as it was when that was pushed; None for the outermost frame.
            depth: See the class.
            reads: The read set of all frames.
            writes: See the class.
            own_bytes: Upper bound of what the innermost frame holds beyond the one beneath.
            visible_bytes: Exact size of all the entries in ``writes``.
            frames_bytes: What all the frames hold.
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

    def pending(self, key: Key) -> Write | None:
        """Return the pending value or tombstone of a key, or None. One probe at any depth."""
        return _entry(self.writes, key)

    def start(self, snapshot: object, *, read_only: bool = False) -> "TransactionStack":
        """Open the outermost frame on a snapshot. O(1).

        Args:
            snapshot: What to read.
            read_only: Whether nothing will be written, in this frame or in any inside it.

        Raises:
            NestingError: A transaction is open already.
        """
        if self.depth:
            raise NestingError
        reads = _Reads(snapshot, _NO_KEYS, _NO_RANGES, 0, 0, tracked=not read_only)
        return TransactionStack(None, 1, reads, _NO_WRITES, 0, 0, FRAME_OVERHEAD_BYTES, cleared=False)

    def nest(self, *, read_only: bool = False) -> "TransactionStack":
        """Push a frame, which is read-only if the one beneath is. O(1).

        Args:
            read_only: Whether nothing will be written in it.

        Raises:
            NoTransactionError: There is no frame to nest in.
            UsageError: It is to be read-only and the one beneath is not: its reads would have to be noted all the same,
                for they decide whether the writes beneath may be applied.
        """
        self._check_open()
        if read_only and self._reads.tracked:
            raise UsageError("START READONLY opens a transaction, and there is one that may write; START nests in it.")
        frames_bytes = self._frames_bytes + FRAME_OVERHEAD_BYTES + RANGE_BYTES * len(self._reads.range_set)
        return TransactionStack(
            self, self.depth + 1, self._reads, self.writes, 0, self._visible_bytes, frames_bytes, self.cleared
        )

    def put(self, key: Key, value: Value) -> "TransactionStack":
        """Make a value pending. Reads nothing, so the read set stays as it is. O(log n), flat in depth.

        Raises:
            NoTransactionError: There is no transaction.
            UsageError: It is read-only.
        """
        return self._write(key, value)

    def delete(self, key: Key) -> "TransactionStack":
        """Make a delete pending. That the key is there was observed by whoever asks. O(log n), flat in depth.

        Raises:
            NoTransactionError: There is no transaction.
            UsageError: It is read-only.
        """
        return self._write(key, TOMBSTONE)

    def clear(self) -> "TransactionStack":
        """Delete every key. Reads nothing, and drops what is pending in the innermost frame. O(1).

        Raises:
            NoTransactionError: There is no transaction.
            UsageError: It is read-only.
        """
        self.check_may_write()
        frames_bytes = self._frames_bytes - self._own_bytes
        return TransactionStack(self._beneath, self.depth, self._reads, _NO_WRITES, 0, 0, frames_bytes, cleared=True)

    def check_may_write(self) -> None:
        """Raise what a write would raise. For a DEL, which reads before it knows whether there is anything to write.

        Raises:
            NoTransactionError: There is no transaction.
            UsageError: It is read-only.
        """
        if not self._reads.tracked:
            self._check_open()
            raise UsageError("START READONLY promised not to write; end this transaction first: COMMIT or ROLLBACK.")

    def observe(self, key: Key) -> "TransactionStack":
        """Put a key, present or absent, into the read set.

        Raises:
            NoTransactionError: There is no transaction.
        """
        reads = self._reads
        if not reads.tracked:
            self._check_open()
            return self  # read-only: there is nothing to note
        if self.cleared or key in reads.key_set:
            return self
        held_bytes = reads.held_bytes + len(key) + ENTRY_OVERHEAD_BYTES
        keys = _with_key(reads.key_set, key)
        return self._reading(_Reads(reads.snapshot, keys, reads.range_set, held_bytes, reads.ranges_bytes))

    def observe_range(self, low: Key, high: Key | None) -> "TransactionStack":
        """Put the set of keys in [low, high) into the read set, so that a phantom is a conflict; None: to the end.

        Raises:
            NoTransactionError: There is no transaction.
        """
        reads = self._reads
        if not reads.tracked:
            self._check_open()
            return self  # read-only: there is nothing to note
        if self.cleared or (high is not None and high <= low):
            return self
        ranges = _with_range(reads.range_set, KeyRange(low, high))
        if ranges is reads.range_set:
            return self
        ranges_bytes = _range_bytes(ranges)
        held_bytes = reads.held_bytes - reads.ranges_bytes + ranges_bytes
        return self._reading(_Reads(reads.snapshot, reads.key_set, ranges, held_bytes, ranges_bytes))

    def commit(self) -> "tuple[TransactionStack, CommitRequest | None]":
        """Merge the innermost frame into its parent, or ask for the outermost to be applied. O(1).

        Returns:
            The next stack, and None or, from the outermost frame, what the engine is to apply.

        Raises:
            NoTransactionError: There is no transaction.
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
        """Return what an engine is asked to apply if everything is kept. O(watched).

        Args:
            watched: What is to be validated besides what was read.
        """
        reads: tuple[ReadSet, ...] = (self._reads,)
        return CommitRequest(watched + reads if watched else reads, self.writes, self.cleared)

    def rollback(self) -> "TransactionStack":
        """Discard the innermost frame; its reads stay in the read set. O(1).

        Raises:
            NoTransactionError: There is no transaction.
        """
        self._check_open()
        return IDLE if self._beneath is None else self._beneath._reading(self._reads)

    def _check_open(self) -> None:
        if not self.depth:
            raise NoTransactionError("There is no transaction; START opens one.")

    def _reading(self, reads: _Reads) -> "TransactionStack":
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
        old = _entry(self.writes, key)
        inherited = None if self._beneath is None else _entry(self._beneath.writes, key)
        size = entry_bytes(key, write)
        own, visible = self._own_bytes, self._visible_bytes + size
        if old is not None:
            old_size = entry_bytes(key, old)
            visible -= old_size
            if old is not inherited:
                own -= old_size
        if write is not inherited:  # the very same object, e.g. an interned b"", costs nothing more
            own += size
        frames_bytes = self._frames_bytes - self._own_bytes + own
        writes = _with_entry(self.writes, key, write)
        return TransactionStack(
            self._beneath, self.depth, self._reads, writes, own, visible, frames_bytes, self.cleared
        )


IDLE: Final = TransactionStack(
    None, 0, _Reads(None, _NO_KEYS, _NO_RANGES, 0, 0, tracked=False), _NO_WRITES, 0, 0, 0, cleared=False
)
"""No transaction. One shared constant, so that a session outside a transaction holds nothing."""
