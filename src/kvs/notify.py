"""Tells the service manager how the server fares: the protocol of systemd's ``sd_notify``.

Each message is one datagram to the socket that ``$NOTIFY_SOCKET`` names. Sending never blocks and never raises: a
manager that does not read changes nothing.

Source: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, final

SOCKET_VARIABLE: Final = "NOTIFY_SOCKET"
WATCHDOG_VARIABLE: Final = "WATCHDOG_USEC"
WATCHDOG_PID_VARIABLE: Final = "WATCHDOG_PID"

USEC_PER_S: Final = 1e6

STATUSES: Final[Mapping[str, str]] = {
    "loading": "Loading",
    "loaded": "Loaded",
    "standing_by": "Standing by",
    "following": "Standing by, and following the leader",
    "leading": "Leading",
    "listening": "Serving",
    "lead_lost": "The lead is lost",
    "stopping": "Stopping",
}
"""The statuses, by the events of the log at which they begin."""

FIELDS: Final = ("keys", "journal_rows", "entries", "host", "port", "reason", "clients")
"""Fields of an event that its status has."""


@final
class Notifier:
    """Sends messages to the service manager, if there is one. Any thread may call it.

    Args:
        address: The socket; a name of the abstract namespace begins with ``@``. Empty: nothing is sent.
        watchdog_s: Time without a sign of life after which the manager ends this process; 0: it does not.

    Attributes:
        watchdog_s: See above.
    """

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        self.watchdog_s: Final = watchdog_s
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address.startswith(("/", "@")) and hasattr(socket, "AF_UNIX"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0))
            self._socket.settimeout(0.0)

    def ready(self) -> None:
        """Tell that the server accepts clients, or does so again after it has reloaded."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Tell that files are being read again, until :meth:`ready`."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Tell that the stop has begun."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Give a sign of life."""
        if self.watchdog_s:
            self._send("WATCHDOG=1")

    def see(self, _: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Tell the status that begins with an event. A processor of the log, which changes nothing in it."""
        status = STATUSES.get(event["event"])
        if status is not None and self._socket is not None:
            details = ", ".join([f"{name} {event[name]}" for name in FIELDS if name in event])
            text = f"{status}: {details}" if details else status
            self._send("STATUS=" + text.replace("\n", " "))
        return event

    def close(self) -> None:
        """Send nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        sock = self._socket  # another thread may close it meanwhile
        if sock is not None:
            try:
                sock.sendto(message.encode(errors="replace"), self._address)
            except OSError:  # the manager does not read, or is gone
                return


def open_notifier(environment: MutableMapping[str, str] = os.environ) -> Notifier:
    """Return the notifier of this process, and take its variables out of the environment: they are for nobody else."""
    address = environment.pop(SOCKET_VARIABLE, "")
    watchdog_usec = environment.pop(WATCHDOG_VARIABLE, "")
    pid = environment.pop(WATCHDOG_PID_VARIABLE, "")
    ours = not pid or pid == str(os.getpid())
    watched = ours and watchdog_usec.isascii() and watchdog_usec.isdigit()
    return Notifier(address, int(watchdog_usec) / USEC_PER_S if watched else 0.0)
