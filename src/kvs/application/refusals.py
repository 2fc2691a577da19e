"""What users have been refused, for ACL LOG. The same refusals, again and again, are one entry that counts."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Final, final

MAX_ENTRIES: Final = 128
MAX_TEXT_CHARACTERS: Final = 256
GROUPING_S: Final = 60.0
"""Within this time, an equal refusal is counted, and not entered again."""

COMPARED: Final = 10
"""How many of the newest entries a refusal is compared with."""


@final
@dataclass(eq=False)
class Refusal:
    """An entry.

    Attributes:
        entry_id: Its number.
        reason: ``auth``, ``command`` or ``key``.
        context: ``toplevel`` or ``multi``.
        object: The command or the key; of a failed authentication, the command by which it came.
        username: Name of the user, as the client gave it.
        client: The client, as CLIENT LIST has it, without the name of a user that may be a secret.
        count: How often.
        created_s: Unix time of the first one.
        updated_s: Unix time of the last one.
    """

    entry_id: int
    reason: str
    context: str
    object: str
    username: str
    client: str
    count: int
    created_s: float
    updated_s: float


@final
class Refusals:
    """The newest refusals.

    Thread-safe: over a blocking engine, workers run requests.

    Args:
        clock: Unix time.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: deque[Refusal] = deque()
        self._next_id = 0
        self._lock = Lock()

    def add(self, reason: str, context: str, item: str, username: str, client: str) -> None:
        """Enter a refusal. Texts are cut."""
        with self._lock:
            self._add(reason, context, item[:MAX_TEXT_CHARACTERS], username[:MAX_TEXT_CHARACTERS], client)

    def _add(self, reason: str, context: str, item: str, username: str, client: str) -> None:
        now_s = self._clock()
        entries = self._entries
        for at in range(min(COMPARED, len(entries))):
            entry = entries[at]
            if (
                entry.reason == reason
                and entry.context == context
                and entry.object == item
                and entry.username == username
                and now_s - entry.updated_s <= GROUPING_S
            ):
                del entries[at]
                entry.count += 1
                entry.updated_s = now_s
                entry.client = client
                entries.appendleft(entry)
                return
        entries.appendleft(Refusal(self._next_id, reason, context, item, username, client, 1, now_s, now_s))
        self._next_id += 1
        if len(entries) > MAX_ENTRIES:
            entries.pop()

    def newest(self, number: int) -> list[Refusal]:
        """Return so many entries at most, the newest first."""
        with self._lock:
            return list(self._entries)[: max(number, 0)]

    def clear(self) -> None:
        """Forget all entries."""
        with self._lock:
            self._entries.clear()
