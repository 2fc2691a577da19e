"""Options that the engine refuses before it calls anybody."""

import sys

import pytest

from kvs.bootstrap import open_storage
from kvs.config import ConfigError, Given, Settings
from kvs.logs import make_logger

pytestmark = pytest.mark.one_build


@pytest.mark.parametrize("address", ["b\u00fccher.example:4000", "a\nb:4000", "a b:4000", f"{'a' * 256}:4000"])
def test_an_address_that_others_could_not_read_is_refused(address: str) -> None:
    """Else no server could go on."""
    given = {"advertise_address": Given(address, "test")}
    log = make_logger("error", "json", sys.stderr)
    settings = Settings(storage="etcd")
    with pytest.raises(ConfigError, match="advertise_address"), open_storage(settings, given, log):
        pass
