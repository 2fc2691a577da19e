"""Setting deadlines: what is written, and updates that change nothing but the deadline of a key.

A deadline that has passed deletes the key.
"""

from typing import Final

from kvs.domain.values import NO_DEADLINE, TOMBSTONE, Value, Write, deadline_of, with_deadline

# When a deadline is set; conditions may be added up.
WITHOUT_DEADLINE: Final = 1
"""The key has no deadline."""

WITH_DEADLINE: Final = 2
"""The key has a deadline."""

IF_LATER: Final = 4
"""The new deadline is later than that of the key; none is the latest."""

IF_EARLIER: Final = 8
"""The new deadline is earlier than that of the key, or the key has none."""


def expiring(value: Value, deadline_ms: int, now_ms: int) -> Write:
    """Return what to write for a value that has a deadline: a tombstone if it has passed."""
    return TOMBSTONE if NO_DEADLINE < deadline_ms <= now_ms else with_deadline(value, deadline_ms)


class SetDeadline:
    """Set the deadline of a key that is present.

    Args:
        deadline_ms: The deadline; it may be any number.
        now_ms: The server's time.
        conditions: Conditions, all of which have to hold; 0: none.
    """

    def __init__(self, deadline_ms: int, now_ms: int, conditions: int = 0) -> None:
        self.deadline_ms = deadline_ms
        self.now_ms = now_ms
        self.conditions = conditions

    def __call__(self, old: Value | None) -> Write | None:
        if old is None or not self.applies_to(old):
            return None
        return TOMBSTONE if self.deadline_ms <= self.now_ms else with_deadline(old, self.deadline_ms)

    def applies_to(self, old: Value | None) -> bool:
        """Return whether a key with this value is present, and the conditions hold."""
        if old is None:
            return False
        conditions, old_ms = self.conditions, deadline_of(old)
        if old_ms == NO_DEADLINE:
            return not conditions & (WITH_DEADLINE | IF_LATER)
        if conditions & WITHOUT_DEADLINE or (conditions & IF_LATER and self.deadline_ms <= old_ms):
            return False
        return not (conditions & IF_EARLIER and self.deadline_ms >= old_ms)


class RemoveDeadline:
    """Remove the deadline of a key."""

    def __call__(self, old: Value | None) -> Write | None:
        return None if old is None or deadline_of(old) == NO_DEADLINE else with_deadline(old, NO_DEADLINE)
