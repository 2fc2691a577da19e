"""Limits are filled from settings by their names."""

from dataclasses import fields

import pytest

from kvs.adapters.inbound.net.timeouts import ServerLimits
from kvs.config import Settings
from kvs.limits import from_settings


def test_fields_without_a_default_are_settings() -> None:
    """All of them, with their values."""
    settings = Settings(idle_timeout_s=7.0, max_clients=5)
    limits = from_settings(ServerLimits, settings)
    assert (limits.idle_timeout_s, limits.max_clients, limits.linger_timeout_s) == (7.0, 5, 1.0)
    for field in fields(ServerLimits):
        assert getattr(limits, field.name) == getattr(settings, field.name, field.default)


def test_what_is_given_comes_first() -> None:
    """Before a setting, and before a default."""
    limits = from_settings(ServerLimits, Settings(), max_clients=3, linger_timeout_s=0.05)
    assert (limits.max_clients, limits.linger_timeout_s) == (3, 0.05)


def test_a_field_that_is_no_setting_is_a_mistake() -> None:
    """Found at the start, and not when it is asked for."""
    with pytest.raises(TypeError, match="drain_timeout_s"):
        from_settings(ServerLimits, object(), max_clients=1)
