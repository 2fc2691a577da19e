"""Client-side caching: messages that invalidate what clients have read.

The tick hands over the changes that have become durable, and then lets the messages leave in shares, behind the replies
of the tick. A message says that a client's copy may be out of date, so one too many does no harm. Therefore:

- more changes than are worth listing become one message that all keys have changed;
- the table of who has read what is bounded: the oldest of its keys are invalidated as if they had changed.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, final

from kvs.adapters.inbound.protocol.prefixes import Audience, Prefixes
from kvs.adapters.inbound.protocol.tracking_table import Tracker, TrackingTable, no_push
from kvs.application.changes import MAX_KEYS, SERVER, Change, ChangeFeed
from kvs.application.memory_budget import MemoryBudget
from kvs.build import BUILD
from kvs.domain.keyspace import RESERVED_BYTE, clients_key
from kvs.domain.values import Key
from kvs.ports.session import COPIED_BYTES_PER_UNIT, Steps

UNITS_PER_TICK: Final = 4000 if BUILD == "compiled" else 1000
"""Units of work for messages in a tick: some 4 ms."""

PUSH_UNITS: Final = 8
"""Units of work of a message, most of which are the call that sends it."""

KEYS_PER_UNIT: Final = 4
"""Keys registered, or put into a message, per unit of work."""

MESSAGE_BYTES: Final = 1 << 16
"""Length of keys from which messages leave before more is collected."""

KEY_HEAD_BYTES: Final = 12
"""Length of what a message has of a key besides its bytes, at most."""

BUDGET_SHIFT: Final = 2
"""The table may hold a quarter of the memory of all clients."""

EVICTED_AT_ONCE: Final = 500

NO_LIMIT: Final = 0


@final
class Tracking:
    """The clients that track keys, the table of what they have read, and the messages to them.

    Args:
        changes: What commits change.
        budget: Memory budget of all clients.
        max_keys: Maximum number of keys in the table; 0: no limit.
        encode: Returns the message that keys have changed; None: all of them.
        tick_bytes: Length of the messages to one client in a tick, at most, but for one long key: one that has more
            unread is closed.
        units: Units of work in a tick.

    Attributes:
        changes: See above.
        table: Who has read what.
        prefixes: Who gets a message of every change under which prefix.
        max_keys: See above.
    """

    def __init__(
        self,
        changes: ChangeFeed,
        budget: MemoryBudget,
        max_keys: int,
        encode: Callable[[list[Key] | None], bytes],
        tick_bytes: int,
        units: int = UNITS_PER_TICK,
    ) -> None:
        self.changes = changes
        self.table = TrackingTable()
        self.prefixes = Prefixes()
        self.max_keys = max_keys
        self._budget = budget
        self._max_bytes = budget.limit_bytes >> BUDGET_SHIFT
        self._encode = encode
        self._units = units
        self._left = 0
        self._tick_bytes = tick_bytes
        self._sent_bytes = 0  # in this tick
        self._charged_bytes = 0
        self._is_used = False
        self._trackers: dict[int, Tracker] = {}
        self._durable: deque[Change] = deque()
        self._durable_keys = 0
        self._departed: deque[Tracker] = deque()  # that have left keys in the table
        self._retired: list[dict[Key, int]] = []  # to be freed in parts
        self._readers: list[Tracker] = []  # with messages that are being collected
        self._collected_bytes = 0
        self._audiences: list[Audience] = []
        self._steps: Steps[None] | None = None

    def __len__(self) -> int:
        return len(self._trackers)

    def use_workers(self) -> None:
        """Be safe for several threads: workers register keys, and end tracking."""
        self.table.use_workers()

    # Clients.

    @property
    def is_full(self) -> bool:
        """Whether the clients together hold as much memory as they may, so that nobody may begin to track."""
        return self._budget.exhausted()

    def add(self, tracker: Tracker, prefixes: list[Key]) -> None:
        """Send a client messages from now on, or under more prefixes than before."""
        self._is_used = True
        self._trackers[tracker.number] = tracker
        for prefix in prefixes:
            self.prefixes.add(prefix, tracker)
        self.changes.begin()

    def remove(self, tracker: Tracker) -> None:
        """Send a client nothing any more."""
        tracker.push = no_push
        self._departed.append(tracker)  # first: the loop finds it in one of both, whenever it looks
        if self._trackers.get(tracker.number) is tracker:
            del self._trackers[tracker.number]

    def register(self, tracker: Tracker, keys: list[Key]) -> int:
        """Register keys that a client is about to read; return the units of work that took."""
        if tracker.is_broadcast:
            return 0
        self.table.register(tracker, keys, self.changes.number)
        return 1 + len(keys) // KEYS_PER_UNIT

    # The tick.

    @property
    def has_work(self) -> bool:
        """Whether :meth:`step` has anything to do."""
        return self._is_used and (
            len(self._durable) > 0
            or self._steps is not None
            or len(self._departed) > 0
            or self._charged_bytes != self._held_bytes()
            or len(self._retired) > 0
            or (len(self.table) > 0 and self._is_too_large())
        )

    def became_durable(self, changes: list[Change]) -> None:
        """Take changes of which messages may be sent."""
        for change in changes:
            keys = change.keys
            self._durable_keys += 1 if keys is None else len(keys)
            self._durable.append(change)
        if self._durable_keys > MAX_KEYS:
            self._durable.clear()
            self._durable_keys = 1
            self._durable.append(Change(None, changes[-1].number, SERVER))

    def step(self) -> None:
        """Send some of the messages that are due, and keep the table in its bounds."""
        self._left = self._units
        self._sent_bytes = 0
        if self._steps is None:
            self._steps = self._work()
        for _ in self._steps:
            break
        else:
            self._steps = None
        self._settle()
        if not self._trackers:
            self._is_used = self.has_work

    def _settle(self) -> None:
        """Charge the budget with what the table has grown."""
        held_bytes = self._held_bytes()
        self._budget.used_bytes += held_bytes - self._charged_bytes
        self._charged_bytes = held_bytes

    def _held_bytes(self) -> int:
        return self.table.held_bytes + self.prefixes.held_bytes

    def _work(self) -> Steps[None]:
        """Do all that is to be done; yield when the units of a tick are used up."""
        while self._departed or self._durable:
            if self._departed:
                yield from self._remove_departed()
                continue
            change = self._durable.popleft()
            if change.keys is None:
                self._durable_keys -= 1
                yield from self._invalidate_all()
            else:
                self._durable_keys -= len(change.keys)
                for key in change.keys:
                    self._note(key, change)
                    if self._left <= 0 or self._collected_bytes > min(MESSAGE_BYTES, self._tick_bytes // 4):
                        yield from self._send()
        while self._is_too_large() and len(self.table):
            for key in self.table.oldest(EVICTED_AT_ONCE):
                self._collect(key, self.changes.number + 1, SERVER)
                if self._left <= 0 or self._collected_bytes > min(MESSAGE_BYTES, self._tick_bytes // 4):
                    yield from self._send()
            self._settle()
        yield from self._send()
        while self._retired:
            keys = self._retired[-1]
            if not keys:
                self._retired.pop()
                continue
            for _ in range(min(len(keys), KEYS_PER_UNIT)):
                keys.popitem()
            self._left -= 1
            if self._left <= 0:
                yield

    def _is_too_large(self) -> bool:
        return (
            NO_LIMIT < self.max_keys < len(self.table)
            or self.table.held_bytes > self._max_bytes
            or self._budget.exhausted()
        )

    def _remove_departed(self) -> Steps[None]:
        while self._departed:
            tracker = self._departed[0]
            self.prefixes.remove(tracker)
            while tracker.keys:
                self.table.forget_any(tracker)
                self._left -= 1
                if self._left <= 0:
                    yield
            self._departed.popleft()
        if not self._trackers:
            self.changes.end()
            self._durable.clear()
            self._durable_keys = 0

    def _note(self, key: Key, change: Change) -> None:
        """Collect a key for those who have read it, and for those with a prefix of it."""
        if key[0] == RESERVED_BYTE:
            key = clients_key(key)
        self._collect(key, change.number, change.author)
        if len(self.prefixes):
            audiences, seen_bytes = self.prefixes.audiences_of(key)
            self._left -= seen_bytes // COPIED_BYTES_PER_UNIT
            for audience in audiences:
                if audience.invalidate(key, change.author):
                    self._audiences.append(audience)
                self._collected_bytes += len(key) + KEY_HEAD_BYTES
                self._left -= 1

    def _collect(self, key: Key, number: int, author: int) -> None:
        """Collect a key for those who have read it."""
        self._left -= 1
        for tracker in self.table.take(key, number, author):
            if not tracker.invalid:
                self._readers.append(tracker)
            tracker.invalid.append(key)
            self._collected_bytes += len(key) + KEY_HEAD_BYTES

    def _send(self) -> Steps[None]:
        """Send what has been collected."""
        while self._readers:
            tracker = self._readers.pop()
            keys, tracker.invalid = tracker.invalid, []
            self._push(tracker, self._encode(keys), len(keys))
            if self._left <= 0:
                yield
        while self._audiences:
            audience = self._audiences.pop()
            invalid, audience.invalid = audience.invalid, {}
            message = self._encode(list(invalid))
            self._left -= len(invalid) // KEYS_PER_UNIT
            for tracker in list(audience.trackers):
                if tracker.skips_own:
                    keys = [key for key, author in invalid.items() if author != tracker.number]
                    if keys:
                        self._push(tracker, self._encode(keys), len(invalid))
                else:
                    self._push(tracker, message, 0)
                if self._left <= 0:
                    yield
        self._sent_bytes += self._collected_bytes
        self._collected_bytes = 0
        if self._left <= 0 or self._sent_bytes > self._tick_bytes // 2:
            yield

    def _push(self, tracker: Tracker, message: bytes, keys: int) -> None:
        tracker.push(message)
        self._left -= PUSH_UNITS + keys // KEYS_PER_UNIT + len(message) // COPIED_BYTES_PER_UNIT

    def _invalidate_all(self) -> Steps[None]:
        """Invalidate all keys of all clients."""
        trackers = list(self._trackers.values())
        self._retired += self.table.clear([*trackers, *self._departed])
        message = self._encode(None)
        for tracker in trackers:
            self._push(tracker, message, 0)
            if self._left <= 0:
                yield
