"""What the fast path of the line protocol counts."""

import pytest

from kvs.adapters.inbound.line.replies import LONG_BYTES
from kvs.adapters.inbound.protocol import run_loop
from tests.unit.line.test_connection import Wire


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("size", [10, LONG_BYTES, LONG_BYTES + 1])
def test_value_is_one_hit_however_long(monkeypatch: pytest.MonkeyPatch, fast: bool, size: int) -> None:
    """Also if the fast path has looked it up and leaves it to the long way."""
    monkeypatch.setattr(run_loop, "HAS_FAST_PATH", fast)
    wire = Wire()
    wire.bench.storage.put(b"k", b"v" * size)
    wire.feed([b"PING\n", b"GET k\nGET none\n"])
    assert len(wire.replies()) == 3
    lookups = wire.connection.session.lookups
    assert (lookups.hits, lookups.misses) == (1, 1)
