"""The commands of a session: reads look at the stack first, then at the snapshot, and are observed.

A command that exceeds a limit has computed the next stack and not stored it, so it has no effect.
"""

from typing import final

from kvs.application.listing import (
    LISTED_KEYS_PER_UNIT,
    NO_KEYS,
    WriteIndex,
    count_clients,
    count_keys,
    list_page,
    scan_clients,
)
from kvs.application.memory_budget import MemoryBudget
from kvs.application.only_bytes import OfBytes
from kvs.application.slot import SessionContext
from kvs.application.transact import TransactingSession
from kvs.domain.commit import COMMITTED, CommitRequest, Committed, Conflict, KeyRange, page_range, prefix_range
from kvs.domain.errors import LimitError, TooLargeError, UnsupportedError, UsageError, WrongTypeError
from kvs.domain.keyspace import (
    RESERVED_BYTE,
    clients_keys,
    stored_key,
    stored_keys,
    without_reserved,
)
from kvs.domain.transaction import IDLE, TransactionStack
from kvs.domain.updates import Update, Updated
from kvs.domain.values import NEVER_MS, TOMBSTONE, Key, Record, Value
from kvs.override import override
from kvs.ports import autocommit
from kvs.ports.session import Steps
from kvs.ports.storage import Snapshot


@final
class EngineSession(TransactingSession):
    """A session over any engine."""

    __slots__ = ("_closed",)

    def __init__(self, session_id: int, context: SessionContext, budget: MemoryBudget) -> None:
        super().__init__(session_id, context, budget)
        self._closed = False

    @override
    def get(self, key: Key) -> Value | None:
        if key[0] == RESERVED_BYTE:
            key = stored_key(key)
        snapshot = self._snapshot
        if snapshot is not None:
            value = self._read(key, snapshot)
        else:
            try:
                value = self._storage.get(key)
                if isinstance(value, Record) and self._expiry.is_due(value):
                    self._expiry.delete_due(key)
                    value = None
            except Exception as error:
                raise self.translate_error(error) from None
        if value is None:
            self.lookups.misses += 1
        else:
            self.lookups.hits += 1
        return value

    def _read(self, key: Key, snapshot: Snapshot) -> Value | None:
        """Return the value of a stored key in a transaction."""
        try:
            pending = self._stack.pending(key)
            if pending is not None or self._stack.cleared:
                return None if pending is TOMBSTONE else pending
            observed = self.check_size(self._stack.observe(key))
            value = snapshot.get(key)
            if isinstance(value, Record) and self.is_gone(value):
                value = None
        except Exception as error:
            raise self.translate_error(error) from None
        self.set_stack(observed)
        return value

    @override
    def put(self, key: Key, value: Value) -> None:
        if key[0] == RESERVED_BYTE:
            key = stored_key(key)
        if self._snapshot is not None:
            if isinstance(value, Record):
                self.admit(value)
            self.set_stack(self.check_size(self._stack.put(key, value)))
            return
        if isinstance(value, Record):
            self.check_records()
        try:
            if isinstance(value, Record) and self._expiry.is_due(value):
                self._storage.delete(key)
            else:
                self._storage.put(key, value)
        except Exception as error:
            raise self.translate_error(error, writing=True) from None
        if self._changes.wanted:
            self.note_change(key)

    @override
    def delete(self, key: Key) -> bool:
        if key[0] == RESERVED_BYTE:
            key = stored_key(key)
        if self._snapshot is None:
            try:
                if self._expiry.lagging and self._expiry.delete_due(key):
                    return False
                deleted = self._storage.delete(key)
            except Exception as error:
                raise self.translate_error(error, writing=True) from None
            if self._changes.wanted and deleted:
                self.note_change(key)
            return deleted
        stack = self._stack
        stack.check_may_write()
        pending = stack.pending(key)
        if pending is TOMBSTONE or (pending is None and stack.cleared):
            return False
        if pending is None:
            stack = stack.observe(key)
            try:
                value = self._snapshot.get(key)
                present = value is not None and not (isinstance(value, Record) and self.is_gone(value))
            except Exception as error:
                raise self.translate_error(error) from None
            if not present:
                self.set_stack(self.check_size(stack))
                return False
        self.set_stack(self.check_size(stack.delete(key)))
        return True

    @override
    def keys(self, prefix: Key, after: Key, limit: int) -> Steps[list[Key]]:
        snapshot = self._snapshot
        prefix, after = stored_key(prefix), stored_key(after)
        rest = page_range(prefix, after, [], limit)
        self.check_horizon(rest)
        try:
            if snapshot is None:
                page = scan_clients(self._storage, prefix, after, limit)
                attempts = 0
                while self._expiry.lagging and self._expiry.may_be_due(page):
                    if attempts == autocommit.MAX_RETRIES:
                        raise autocommit.contention_error()
                    attempts += 1
                    yield from self._expiry.catch_up(self.work, rest, limit)
                    page = scan_clients(self._storage, prefix, after, limit)
                self.work.left -= len(page) // LISTED_KEYS_PER_UNIT
                return clients_keys(page)
            index = yield from self._sorted_writes()
            beneath = NO_KEYS if self._stack.cleared else snapshot
            page = yield from list_page(beneath, index, prefix, after, limit, self.work)
            observed = self._observing(page_range(prefix, after, page, limit))
        except Exception as error:
            raise self.translate_error(error) from None
        self.set_stack(observed)
        return clients_keys(page)

    @override
    def count(self, prefix: Key) -> Steps[int]:
        snapshot = self._snapshot
        prefix = stored_key(prefix)
        self.check_horizon(prefix_range(prefix))
        try:
            if snapshot is None:
                if self._expiry.lagging:
                    yield from self._expiry.catch_up(self.work, prefix_range(prefix))
                return count_clients(self._storage, prefix)
            observed = self._observing(prefix_range(prefix))
            index = yield from self._sorted_writes()
            beneath = NO_KEYS if self._stack.cleared else snapshot
            number = yield from count_keys(beneath, index, prefix, self.work)
        except Exception as error:
            raise self.translate_error(error) from None
        self.set_stack(observed)
        return number

    @override
    def update(self, key: Key, update: Update) -> Updated:
        if self._snapshot is None:
            try:
                key = stored_key(key)
                if self._expiry.lagging:
                    self._expiry.delete_due(key)
                old, new = self._storage.update(key, update if self._records else OfBytes(update))
                if self._changes.wanted and new is not old:
                    self.note_change(key)
                if isinstance(new, Record) and self._expiry.is_due(new):
                    self._expiry.delete_due(key)
                    new = None
            except (UsageError, TooLargeError, WrongTypeError, UnsupportedError):
                raise  # from the update
            except Exception as error:
                raise self.translate_error(error, writing=True) from None
            return old, new
        before = self._stack
        before.check_may_write()
        key = stored_key(key)
        old = self._read(key, self._snapshot)
        pending = update(old)
        if pending is None or (pending is TOMBSTONE and old is None):
            return old, old
        if isinstance(pending, Record):
            self.admit(pending, old)
        stack = self._stack
        stack = stack.delete(key) if pending is TOMBSTONE else stack.put(key, pending)
        try:
            self.set_stack(self.check_size(stack))
        except LimitError:
            self.set_stack(before)  # undo its reads, too
            raise
        return old, None if pending is TOMBSTONE else pending

    @override
    def put_all(self, keys: list[Key], values: list[Value]) -> None:
        keys = stored_keys(keys)
        self.work.left -= len(keys)
        if self._snapshot is not None:
            self.admit_all(values)
            stack = self._stack
            for at, key in enumerate(keys):
                stack = self.check_size(stack.put(key, values[at]))
            self.set_stack(stack)
            return
        self._first_deadline_ms = NEVER_MS
        self.admit_all(values)
        try:
            if self._first_deadline_ms != NEVER_MS and self._first_deadline_ms <= self._expiry.now_ms:
                entries = self.without_due(dict(zip(keys, values, strict=True)))
                autocommit.write(self._storage, CommitRequest((), entries))
            else:
                self._storage.put_all(keys, values)
        except Exception as error:
            raise self.translate_error(error, writing=True) from None
        if self._changes.wanted:
            self._changes.add([*dict.fromkeys(keys)], self.id)
            self.work.left -= len(keys)

    @override
    def clear(self) -> None:
        if self._snapshot is not None:
            self.set_stack(self._stack.clear())
            return
        try:
            self._storage.clear()
        except Exception as error:
            raise self.translate_error(error, writing=True) from None
        if self._changes.wanted:
            self._changes.add(None, self.id)

    @override
    def start(self, *, read_only: bool = False) -> None:
        if self._watched is not None:
            raise UsageError("START while keys are watched; UNWATCH first: a transaction validates all that it reads.")
        if self._snapshot is None:
            self.begin(read_only=read_only)
        elif self._stack.depth >= self._limits.max_transaction_depth:
            raise LimitError(
                f"The transaction is {self._stack.depth} levels deep and max_transaction_depth is "
                f"{self._limits.max_transaction_depth}."
            )
        else:
            self.set_stack(self.check_size(self._stack.nest(read_only=read_only)))

    @override
    def prepare_commit(self) -> Steps[None] | None:
        if not self._expiry.lagging or self._stack.depth > 1:
            return None
        return self._catch_up_with_reads() if self._stack.read_ranges else None

    def _catch_up_with_reads(self) -> Steps[None]:
        """Delete what is due in the ranges that the transaction has read."""
        for keys in self._stack.read_ranges:
            if self._expiry.lagging:
                yield from self.catch_up(keys)

    @override
    def commit(self) -> Committed | Conflict:
        stack, request = self._stack.commit()
        if request is None:
            self.set_stack(stack)
            return COMMITTED
        outcome = self.apply(request) if request.writes or request.clears else COMMITTED
        self.end()
        if isinstance(outcome, Committed):
            self.counters.committed += 1
            return outcome
        return self.conflicted(outcome)

    @override
    def rollback(self) -> None:
        stack = self._stack.rollback()
        if stack is IDLE:
            self.end()
        else:
            self.set_stack(stack)

    @override
    def reset(self) -> None:
        self.unwatch()
        self.end()

    @override
    def info(self) -> dict[str, dict[str, object]]:
        try:
            figures = self._storage.stats()
        except Exception as error:
            raise self.translate_error(error) from None
        session: dict[str, object] = {"id": self.id, "depth": self.depth}
        if self._snapshot is not None:
            session["pending_writes"] = len(self._stack.writes)
            session["transaction_bytes"] = self._stack.retained_bytes
            session["snapshot_age_s"] = round(self._context.clock() - self.started_at_s, 3)
        return {"session": session, "server": {**self._context.server_info(), **figures}}

    @override
    def abort(self) -> None:
        self.unwatch()
        if self._snapshot is not None:
            self.abort_transaction()

    @override
    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.abort()
        self._context.on_close(self)

    def _observing(self, keys: KeyRange) -> TransactionStack:
        """Return the stack with a range of stored keys observed."""
        stack = self._stack
        for low, high in without_reserved(keys):
            stack = stack.observe_range(low, high)
        return self.check_size(stack)

    def _sorted_writes(self) -> Steps[WriteIndex]:
        """Return the index of the pending writes, cached until the next write."""
        writes = self._stack.writes
        index = self._index
        if index is None or index.writes is not writes:
            self.drop_index()
            index = WriteIndex(writes)
            yield from index.sort(self.work, self._context.disposal)
            self._index = index if writes else None
        return index
