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
``put``        ``NoTransactionError``               depth n, key pending
``delete``     ``NoTransactionError``               depth n, tombstone pending
``observe*``   ``NoTransactionError``               depth n, read set grown
``commit``     ``NoTransactionError``               n > 1: merged into depth n - 1
                                                    n = 1: ``IDLE`` and a ``CommitRequest``
``rollback``   ``NoTransactionError``               n > 1: depth n - 1; n = 1: ``IDLE``
=============  ===================================  =========================================

*Writes.* Every frame holds one persistent map that contains its parent's entries by structural sharing. START shares
the map, an inner COMMIT replaces the parent's map by the child's, ROLLBACK drops it; a look-up is one probe at any
depth. All three cost O(1) in depth, in the size of the store and in the number of pending writes.

*Reads.* There is one read set for the whole stack, not one per frame: what was read in a frame that was rolled back
has still been seen by the client, who may have acted on it. What is put into the read set decides the isolation, and
that is decided here and in the session, never in an engine: the engine only tells whether an observed key or prefix has
changed since the snapshot.

*Commit.* The outermost commit touches nothing. It returns a :class:`CommitRequest` for the engine, to which the
snapshot, opaque here, means something.

*Bytes.* A frame retains the values it shadows, so a thousand frames over one key can hold a thousand values. Each frame
is charged with ``own_bytes``, the entries in its map that are not its parent's very own, found by identity with two
probes. When a child is merged, the exact figure would cost a walk; the smaller of ``own + child's own`` and of all that
is visible is never too small and costs O(1).

Source of the scheme: H. T. Kung and J. T. Robinson, "On Optimistic Methods for Concurrency Control", 1981; the frames
follow J. E. B. Moss, "Nested Transactions", 1981, without siblings running side by side.
"""

from collections.abc import Collection, Mapping
from typing import Final, final

from immutables import Map

from kvs.domain.errors import NoTransactionError
from kvs.domain.values import ENTRY_OVERHEAD_BYTES, TOMBSTONE, Key, Pending, Value, entry_bytes

FRAME_OVERHEAD_BYTES: Final = 256
"""Charged for a frame: its objects and the path of the persistent map it does not share. Measured with ``tracemalloc``
over 1,000 frames: 210 to 250 B."""


class NestingError(Exception):
    """Raised when a stack that is already open is started on another snapshot: a mistake in the caller."""


@final
class Validation:
    """What must not have changed since a snapshot, for a commit to succeed.

    Attributes:
        snapshot: The engine's own snapshot.
        keys: Keys observed, present or absent.
        prefixes: Prefixes whose set of keys was observed.
    """

    __slots__ = ("keys", "prefixes", "snapshot")

    def __init__(self, snapshot: object, keys: Collection[Key], prefixes: Collection[Key]) -> None:
        self.snapshot = snapshot
        self.keys = keys
        self.prefixes = prefixes


@final
class CommitRequest:
    """What an engine is asked to apply, all of it or nothing.

    Attributes:
        validations: Each names a snapshot and what was observed in it. A transaction has one; there is room for several
            because a client may fix a baseline per key.
        writes: Pending values and tombstones by key. A tombstone for an absent key changes nothing.
    """

    __slots__ = ("validations", "writes")

    def __init__(self, validations: tuple[Validation, ...], writes: Mapping[Key, Pending]) -> None:
        self.validations = validations
        self.writes = writes


@final
class Committed:
    """The answer to a commit that was applied."""

    __slots__ = ()


@final
class Conflict:
    """The answer to a commit that was not applied, because something observed has changed since.

    Attributes:
        keys: Some of the keys that changed, at most :data:`MAX_CONFLICTS_NAMED`.
        prefixes: Some of the prefixes under which keys appeared or went, likewise bounded.
    """

    __slots__ = ("keys", "prefixes")

    def __init__(self, keys: tuple[Key, ...], prefixes: tuple[Key, ...]) -> None:
        self.keys = keys
        self.prefixes = prefixes


COMMITTED: Final = Committed()
MAX_CONFLICTS_NAMED: Final = 8

_NO_WRITES: Final[Map[Key, Pending]] = Map()
_NO_KEYS: Final[Map[Key, None]] = Map()


@final
class _Frame:
    """One level of the stack.

    Attributes:
        parent: The frame beneath; None for the outermost.
        depth: 1 for the outermost.
        writes: Pending values and tombstones of this frame and of all beneath it.
        own_bytes: Upper bound of what this frame holds beyond its parent.
        visible_bytes: Exact size of all the entries in ``writes``.
        below_bytes: What the frames beneath retain.
        retained_bytes: What this frame and all beneath it retain.
    """

    __slots__ = ("below_bytes", "depth", "own_bytes", "parent", "retained_bytes", "visible_bytes", "writes")

    def __init__(
        self,
        parent: "_Frame | None",
        depth: int,
        writes: Map[Key, Pending],
        own_bytes: int,
        visible_bytes: int,
        below_bytes: int,
    ) -> None:
        self.parent = parent
        self.depth = depth
        self.writes = writes
        self.own_bytes = own_bytes
        self.visible_bytes = visible_bytes
        self.below_bytes = below_bytes
        self.retained_bytes = below_bytes + own_bytes + FRAME_OVERHEAD_BYTES

    def write(self, key: Key, pending: Pending) -> "_Frame":
        """Return this frame with one more pending write. O(log n) in the pending writes, flat in depth."""
        parent = self.parent
        old = self.writes.get(key)
        inherited = None if parent is None else parent.writes.get(key)
        size = entry_bytes(key, pending)
        own, visible = self.own_bytes, self.visible_bytes + size
        if old is not None:
            old_size = entry_bytes(key, old)
            visible -= old_size
            if old is not inherited:
                own -= old_size
        if pending is not inherited:  # the very same object, e.g. an interned b"", costs nothing more
            own += size
        return _Frame(parent, self.depth, self.writes.set(key, pending), own, visible, self.below_bytes)


@final
class TransactionStack:
    """A session's transaction, as an immutable value; see the head of this module.

    Attributes:
        snapshot: The engine's snapshot, opaque here; None when idle.
        retained_bytes: What the transaction holds: every frame's writes, shadowed ones included, and the read set.
    """

    __slots__ = ("_frame", "_prefixes", "_reads", "_reads_bytes", "retained_bytes", "snapshot")

    def __init__(
        self,
        snapshot: object,
        frame: _Frame | None,
        reads: Map[Key, None],
        prefixes: Map[Key, None],
        reads_bytes: int,
    ) -> None:
        self.snapshot = snapshot
        self._frame = frame
        self._reads = reads
        self._prefixes = prefixes
        self._reads_bytes = reads_bytes
        self.retained_bytes: Final = 0 if frame is None else frame.retained_bytes + reads_bytes

    @property
    def depth(self) -> int:
        """Number of open frames; 0 when idle."""
        return 0 if self._frame is None else self._frame.depth

    @property
    def writes(self) -> Mapping[Key, Pending]:
        """Everything pending, as the innermost frame sees it."""
        return _NO_WRITES if self._frame is None else self._frame.writes

    def pending(self, key: Key) -> Pending | None:
        """Return the pending value or tombstone of a key, or None. One probe at any depth."""
        return None if self._frame is None else self._frame.writes.get(key)

    def start(self, snapshot: object) -> "TransactionStack":
        """Open the outermost frame on a snapshot. O(1).

        Raises:
            NestingError: A transaction is open already.
        """
        if self._frame is not None:
            raise NestingError
        return TransactionStack(snapshot, _Frame(None, 1, _NO_WRITES, 0, 0, 0), _NO_KEYS, _NO_KEYS, 0)

    def nest(self) -> "TransactionStack":
        """Push a frame. O(1).

        Raises:
            NoTransactionError: There is no frame to nest in.
        """
        parent = self._open_frame()
        return self._with(
            _Frame(parent, parent.depth + 1, parent.writes, 0, parent.visible_bytes, parent.retained_bytes)
        )

    def put(self, key: Key, value: Value) -> "TransactionStack":
        """Make a value pending. Reads nothing, so the read set stays as it is.

        Raises:
            NoTransactionError: There is no transaction.
        """
        return self._with(self._open_frame().write(key, value))

    def delete(self, key: Key) -> "TransactionStack":
        """Make a delete pending. That the key is there was observed by whoever asks.

        Raises:
            NoTransactionError: There is no transaction.
        """
        return self._with(self._open_frame().write(key, TOMBSTONE))

    def observe(self, key: Key) -> "TransactionStack":
        """Put a key, present or absent, into the read set.

        Raises:
            NoTransactionError: There is no transaction.
        """
        frame = self._open_frame()
        if key in self._reads:
            return self
        size = self._reads_bytes + len(key) + ENTRY_OVERHEAD_BYTES
        return TransactionStack(self.snapshot, frame, self._reads.set(key, None), self._prefixes, size)

    def observe_prefix(self, prefix: Key) -> "TransactionStack":
        """Put the set of keys under a prefix into the read set, so that a phantom is a conflict.

        Raises:
            NoTransactionError: There is no transaction.
        """
        frame = self._open_frame()
        if prefix in self._prefixes:
            return self
        size = self._reads_bytes + len(prefix) + ENTRY_OVERHEAD_BYTES
        return TransactionStack(self.snapshot, frame, self._reads, self._prefixes.set(prefix, None), size)

    def commit(self) -> "tuple[TransactionStack, CommitRequest | None]":
        """Merge the innermost frame into its parent, or ask for the outermost to be applied. O(1).

        Returns:
            The next stack, and None or, from the outermost frame, what the engine is to apply.

        Raises:
            NoTransactionError: There is no transaction.
        """
        frame = self._open_frame()
        parent = frame.parent
        if parent is None:
            return IDLE, CommitRequest((Validation(self.snapshot, self._reads, self._prefixes),), frame.writes)
        own = min(parent.own_bytes + frame.own_bytes, frame.visible_bytes)
        merged = _Frame(parent.parent, parent.depth, frame.writes, own, frame.visible_bytes, parent.below_bytes)
        return self._with(merged), None

    def rollback(self) -> "TransactionStack":
        """Discard the innermost frame; its reads stay in the read set. O(1).

        Raises:
            NoTransactionError: There is no transaction.
        """
        parent = self._open_frame().parent
        return IDLE if parent is None else self._with(parent)

    def _open_frame(self) -> _Frame:
        if self._frame is None:
            raise NoTransactionError("There is no transaction; START opens one.")
        return self._frame

    def _with(self, frame: _Frame) -> "TransactionStack":
        return TransactionStack(self.snapshot, frame, self._reads, self._prefixes, self._reads_bytes)


IDLE: Final = TransactionStack(None, None, _NO_KEYS, _NO_KEYS, 0)
"""No transaction. One shared constant, so that a session outside a transaction holds nothing."""
