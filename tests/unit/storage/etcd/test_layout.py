"""Values of keys, which anybody who reaches etcd may have written."""

from typing import Any

import pytest

from kvs.adapters.storage.etcd.layout import LayoutError, LeaderRecord, ServerRecord, decoded

pytestmark = pytest.mark.one_build


@pytest.mark.parametrize("kind", [LeaderRecord, ServerRecord])
@pytest.mark.parametrize(
    ("host", "port"),
    [("h\\n", 1), ("h\\r\\n+x", 1), ("", 1), ("h h", 1), ("h" * 256, 1), ("h", -1), ("h", 65_536), ("h\\u00fc", 1)],
)
def test_addresses_that_no_server_writes_are_refused(kind: Any, host: str, port: int) -> None:
    """They are shown in lines, and are connected to."""
    text = f'{{"id": "i", "version": "1", "host": "{host}", "port": {port}}}'
    good = text.replace(f'"{host}"', '"h"').replace(f": {port}}}", ": 4000}")
    assert decoded(b"key", good.encode(), kind)
    with pytest.raises(LayoutError):
        decoded(b"key", text.encode(), kind)
