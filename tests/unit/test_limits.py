"""Limits are filled from settings by their names."""

from dataclasses import fields

import pytest

from kvs.adapters.inbound.line.limits import LineLimits
from kvs.adapters.inbound.net.timeouts import ServerLimits
from kvs.adapters.inbound.resp.limits import RespLimits
from kvs.application.slot import SessionLimits
from kvs.config import Settings
from kvs.limits import from_settings


def test_fields_without_a_default_are_settings() -> None:
    """All of them, with their values."""
    settings = Settings(idle_timeout_s=7.0, max_clients=5)
    limits = from_settings(ServerLimits, settings)
    assert (limits.idle_timeout_s, limits.max_clients, limits.linger_timeout_s) == (7.0, 5, 1.0)
    for field in fields(ServerLimits):
        assert getattr(limits, field.name) == getattr(settings, field.name, field.default)


@pytest.mark.parametrize("of_client", [LineLimits, RespLimits, SessionLimits])
def test_limits_of_a_client_are_settings(of_client: type[LineLimits | RespLimits | SessionLimits]) -> None:
    """All of them, but for those that are computed from the others."""
    settings = Settings()
    limits: object = from_settings(of_client, settings)
    computed = {"max_line_bytes", "max_bulk_bytes"}
    names = {field.name for field in fields(of_client)} - computed
    assert {name: getattr(limits, name) for name in names} == {name: getattr(settings, name) for name in names}


def test_limits_never_forbid_what_a_longer_one_allows() -> None:
    """The longest PUT fits into a line; the longest SET and a page of SCAN with one key fit into what RESP has."""
    settings = Settings(max_key_bytes=100, max_value_bytes=50_000, max_request_bytes=1, max_reply_bytes=1024)
    line, resp = from_settings(LineLimits, settings), from_settings(RespLimits, settings)
    assert line.max_line_bytes > len("PUT  ") + 100 + 50_000
    assert resp.max_bulk_bytes > 50_000
    assert resp.max_request_bytes > 100 + 50_000
    assert resp.max_reply_bytes >= 50_000


def test_what_is_given_comes_first() -> None:
    """Before a setting, and before a default."""
    limits = from_settings(ServerLimits, Settings(), max_clients=3, linger_timeout_s=0.05)
    assert (limits.max_clients, limits.linger_timeout_s) == (3, 0.05)


def test_a_field_that_is_no_setting_is_a_mistake() -> None:
    """Found at the start, and not when it is asked for."""
    with pytest.raises(TypeError, match="drain_timeout_s"):
        from_settings(ServerLimits, object(), max_clients=1)
