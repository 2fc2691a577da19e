"""Values: what a record costs."""

import gc
import sys

import pytest

from kvs.build import BUILD
from kvs.domain.values import Record


@pytest.mark.skipif(BUILD != "compiled", reason="Python itself tracks every object of a class")
def test_a_record_is_not_tracked_by_the_garbage_collector() -> None:
    """A million of them would be looked at in a full collection, and take 16 MB more."""
    record = Record(b"payload", 1)
    assert not gc.is_tracked(record)
    assert sys.getsizeof(record) <= 48
