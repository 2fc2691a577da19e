"""How long a key will exist."""

from kvs.domain.values import Key
from kvs.ports.session import Session


def time_left_ms(session: Session, key: Key, deadline_ms: int) -> int:
    """Return the time until the deadline of a key that the session sees.

    A transaction judges by the clock of its snapshot, which is behind the server's; but a relative deadline that it has
    set itself counts from the server's time, and must not seem longer than it was set.
    """
    clock_ms = session.now_ms if session.is_pending(key) else session.read_ms
    return max(0, deadline_ms - clock_ms)
