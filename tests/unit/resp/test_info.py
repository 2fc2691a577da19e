"""INFO, where no real Redis says what it should be."""

from typing import Final

from kvs.ports.storage import Storage
from kvs.testing.drivers import Clock
from tests.support.resp_connection import RespServer, ask
from tests.support.scripted_storage import ScriptedStorage, returning

AHEAD_MS: Final = 3_600_123


def figures_of(server: RespServer, section: bytes) -> dict[str, str]:
    """Return the figures of a section by name."""
    reply = ask(server.connect(), b"INFO", section)
    assert isinstance(reply, bytes)
    return dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)


def ahead() -> Storage:
    """Return an engine that has stored a later time than the clock of this machine tells."""
    return ScriptedStorage({"horizon_ms": returning(int(Clock().now_s * 1000) + AHEAD_MS)})


def test_the_time_is_that_of_deadlines() -> None:
    """It is the time of TIME, also while the clock of the machine is behind; INFO has the difference."""
    server = RespServer(storage=ahead())
    server.pass_time(5.0)
    reply = ask(server.connect(), b"TIME")
    assert isinstance(reply, list)
    seconds, microseconds = (int(str(part, "ascii")) for part in reply if isinstance(part, bytes))
    assert seconds * 1_000_000 + microseconds == int(figures_of(server, b"server")["server_time_usec"])
    assert figures_of(server, b"stats")["server_time_ahead_ms"] == str(AHEAD_MS)
    assert "now_ms" not in figures_of(server, b"everything")
