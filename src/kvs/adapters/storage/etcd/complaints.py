"""What goes wrong again and again is logged once, until it works again."""

import re
from collections.abc import Iterable
from typing import Final, final

from kvs.adapters.storage.etcd.client.endpoints import Endpoint


@final
class Complaints:
    """Which troubles have been logged since something worked last.

    Errors of one kind are one trouble, whichever member they name: a client turns from one member to the next, so each
    attempt would name another.

    Args:
        endpoints: The members.
    """

    def __init__(self, endpoints: Iterable[Endpoint] = ()) -> None:
        names = {name for endpoint in endpoints for name in (str(endpoint), endpoint.host)}
        longest_first = sorted(names, key=len, reverse=True)
        self._members: Final = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._told: set[str] = set()
        self._ended = False

    @property
    def lasts(self) -> bool:
        """Whether there is a trouble that is not over."""
        return bool(self._told)

    def end(self) -> None:
        """Log nothing any more: the server ends, and so do its calls."""
        self._ended = True

    def over(self) -> None:
        """Note that it works: what fails from now on is another trouble."""
        self._told.clear()

    def reason(self, error: Exception) -> str:
        """Return the reason to log for an error; empty: none is to be logged."""
        reason = f"{type(error).__name__}: {error}"
        kind = self._members.sub("", reason)
        if kind in self._told or self._ended:
            return ""
        self._told.add(kind)
        return reason
