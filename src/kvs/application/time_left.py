"""How long a key will exist."""

from kvs.ports.session import Session


def time_left_ms(session: Session, deadline_ms: int) -> int:
    """Return the time until the deadline of a key that the session sees.

    A transaction judges by the clock of its snapshot, which is behind the server's and stands still. A deadline that it
    has set itself counts from the server's time at that moment, and so does not seem longer than it was set.
    """
    return max(0, deadline_ms - session.counts_from_ms(deadline_ms))
