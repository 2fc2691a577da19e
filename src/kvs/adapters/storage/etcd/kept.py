"""What files have that may be replaced while the server runs: certificates, and the password of etcd's user."""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar, final

from kvs.config import ConfigError
from kvs.log_type import FilteringBoundLogger

T = TypeVar("T")


@final
class Kept(Generic[T]):
    """Reads files anew whenever they are needed, so that it does not matter when they are replaced.

    Files that cannot be used, as one of them is gone or written in this moment, leave what was read before. A pipe can
    be read only once.

    Args:
        read: Reads them.
        paths: Their names; empty ones are left out.
        log: For files that cannot be used; None: there is none.

    Raises:
        ConfigError: They cannot be used, and nothing was read before.

    Concurrency: any thread.
    """

    def __init__(self, read: Callable[[], T], paths: Sequence[str], log: FilteringBoundLogger | None) -> None:
        self._again = all(Path(path).is_file() for path in paths if path)
        self._read = read
        self._log = log
        self._lock = Lock()
        self._complained = ""
        self._value = read()

    def now(self) -> T:
        """Return what they have."""
        if not self._again:
            return self._value
        with self._lock:
            try:
                self._value, self._complained = self._read(), ""
            except ConfigError as error:
                self._complain(str(error))
            return self._value

    def _complain(self, reason: str) -> None:
        is_new, self._complained = reason != self._complained, reason
        if is_new and self._log is not None:
            self._log.warning("etcd_files_unusable", reason=reason)
