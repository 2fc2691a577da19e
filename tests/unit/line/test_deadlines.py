"""EXPIRE, PERSIST and TTL while time passes."""

from tests.support.harness import OK
from tests.unit.line.test_connection import Wire, absent, check, result


def later(wire: Wire, seconds: float) -> None:
    """Let time pass, and begin a tick."""
    wire.bench.clock.now_s += seconds
    wire.bench.expiry.end_tick()
    wire.bench.expiry.begin_tick()


class TestTimePasses:
    """A key with a deadline."""

    def test_key_is_there_until_its_deadline(self) -> None:
        wire = Wire().feed([b"PUT k v\nEXPIRE k 10\n"])
        later(wire, 9.999)
        wire.feed([b"GET k\nTTL k\nCOUNT\n"])
        later(wire, 0.001)
        wire.feed([b"GET k\nTTL k\nCOUNT\nKEYS\n"])
        before = [OK, result(True), result("v"), result(0.001), result(1)]
        check(wire, [*before, absent("k"), absent("k"), result(0), result([])])

    def test_put_stays_after_the_deadline(self) -> None:
        wire = Wire().feed([b"PUT k v\nEXPIRE k 1\nPUT k w\n"])
        later(wire, 1)
        check(wire.feed([b"GET k\n"]), [OK, result(True), OK, result("w")])

    def test_transaction_judges_by_its_snapshot(self) -> None:
        wire = Wire().feed([b"PUT k v\nEXPIRE k 10\nSTART\n"])
        later(wire, 20)
        wire.feed([b"GET k\nTTL k\nCOUNT\nROLLBACK\nGET k\n"])
        check(wire, [OK, result(True), OK, result("v"), result(10.0), result(1), OK, absent("k")])

    def test_deadline_counts_from_the_command(self) -> None:
        wire = Wire().feed([b"PUT k v\nSTART\n"])
        later(wire, 20)
        wire.feed([b"EXPIRE k 10\nTTL k\n"])
        later(wire, 5)
        wire.feed([b"TTL k\nCOMMIT\nTTL k\n"])
        check(wire, [OK, OK, result(True), result(10.0), result(10.0), OK, result(5.0)])

    def test_pending_record_stays_until_commit_and_is_then_due(self) -> None:
        wire = Wire().feed([b"START\nPUT k v\nEXPIRE k 10\n"])
        later(wire, 20)
        wire.feed([b"GET k\nCOMMIT\n"])
        later(wire, 0)
        check(wire.feed([b"GET k\n"]), [OK, OK, result(True), result("v"), OK, absent("k")])
