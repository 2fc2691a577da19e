"""Logs: what a client sent can neither forge a line nor drive a terminal, in either format."""

import io
import json
import re

import pytest

from kvs.logs import make_logger

pytestmark = pytest.mark.one_build

NASTY = "".join(map(chr, [*range(0x20), 0x7F, 0x85, 0x9B, 0x200B, 0x202E, 0x2028, 0x2029, 0xFEFF, 0xD800]))


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def logged(form: str, stream: io.StringIO, **fields: object) -> str:
    """Log one event; return what was written."""
    make_logger("info", form, stream).warning("an_event", **fields)
    return stream.getvalue()


def test_json_is_one_line_with_every_field() -> None:
    """Event, level and time in UTC are always there."""
    line = logged("json", io.StringIO(), peer="127.0.0.1:5", commands=3)
    event = json.loads(line)
    assert line.count("\n") == 1
    assert (event["event"], event["level"], event["peer"], event["commands"]) == (
        "an_event",
        "warning",
        "127.0.0.1:5",
        3,
    )
    assert event["timestamp"].endswith("Z")


def test_json_begins_with_time_level_and_event() -> None:
    """Whatever fields follow, in the order in which they were given."""
    line = logged("json", io.StringIO(), zebra=1, peer="x", alpha=2)
    assert list(json.loads(line)) == ["timestamp", "level", "event", "zebra", "peer", "alpha"]


LEFT = {"peer": "127.0.0.1:43108", "session": 1, "commands": 12, "committed": 1, "conflicted": 1, "aborted": 1}


def test_the_console_fits_a_terminal() -> None:
    """The time without its date, no columns but one, and the fields in the order in which they were given."""
    line = logged("console", io.StringIO(), **LEFT)
    fields = "peer=127.0.0.1:43108 session=1 commands=12 committed=1 conflicted=1 aborted=1"
    assert re.fullmatch(rf"\d\d:\d\d:\d\d warning an_event {fields}\n", line)


def test_the_console_quotes_what_could_be_taken_for_more() -> None:
    """And nothing else, and nothing twice."""
    line = logged("console", io.StringIO(), received='"GET"', word="GET", words="a b", nothing="", pair="a=b")
    assert line.split(" an_event ")[1] == 'received="\\"GET\\"" word=GET words="a b" nothing="" pair="a=b"\n'


@pytest.mark.parametrize(("no_color", "colored"), [(None, True), ("", True), ("1", False)])
def test_colors_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, no_color: str | None, colored: bool
) -> None:
    """See https://no-color.org."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    assert ("\x1b" in logged("console", Terminal(), peer="x")) == colored
    assert "\x1b" not in logged("console", io.StringIO(), peer="x")


def test_json_escapes_control_characters() -> None:
    """What comes out is one printable line, and reads back as what was sent."""
    line = logged("json", io.StringIO(), received=NASTY)
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert json.loads(line)["received"] == NASTY


@pytest.mark.parametrize(
    "fields", [{"received": NASTY}, {"received": [NASTY]}, {"received": NASTY.encode("utf-8", "replace")}]
)
def test_the_console_escapes_control_characters(fields: dict[str, object]) -> None:
    """Text, text in a list, and bytes."""
    line = logged("console", io.StringIO(), **fields)
    assert line.count("\n") == 1
    assert line[:-1].isprintable()
    assert "an_event" in line
    assert "\\x1b" in line


def test_the_console_escapes_on_a_terminal_too() -> None:
    """The only escapes there are the colours; those of the client are shown as text."""
    line = logged("auto", Terminal(), received="\x1b]0;owned\x07\r\n")
    assert line.count("\n") == 1
    assert "\x1b]" not in line
    assert "\x07" not in line
    assert "\r" not in line
    assert "owned" in line


def test_auto_is_json_unless_on_a_terminal() -> None:
    """Machines get lines of JSON, people get text."""
    assert logged("auto", io.StringIO()).startswith("{")
    assert not logged("auto", Terminal()).startswith("{")
    assert logged("json", Terminal()).startswith("{")
    assert not logged("console", io.StringIO()).startswith("{")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_is_logged_without_the_values_of_variables(form: str) -> None:
    """They may hold what clients store."""
    stream = io.StringIO()
    logger = make_logger("info", form, stream)
    secret = "top " + "secret"
    try:
        raise RuntimeError("broken" + secret[:0])
    except RuntimeError as error:
        logger.error("engine_failed", exc_info=error)
    assert "RuntimeError: broken" in stream.getvalue()
    assert "top secret" not in stream.getvalue()
    assert (stream.getvalue().count("\n") == 1) == (form == "json")


def test_a_traceback_of_a_nasty_message_drives_no_terminal() -> None:
    """An exception may repeat what a client sent."""
    stream = io.StringIO()
    make_logger("info", "console", stream).error("engine_failed", exc_info=RuntimeError("\x1b[2J\x9b"))
    assert "\x1b" not in stream.getvalue()
    assert "\x9b" not in stream.getvalue()


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["info", "warning", "error", "critical"]),
        ("info", ["info", "warning", "error", "critical"]),
        ("warning", ["warning", "error", "critical"]),
        ("error", ["error", "critical"]),
        ("critical", ["critical"]),
    ],
)
def test_what_is_less_severe_is_not_logged(level: str, shown: list[str]) -> None:
    """Each level and those above it."""
    stream = io.StringIO()
    logger = make_logger(level, "json", stream)
    for name in ("info", "warning", "error", "critical"):
        getattr(logger, name)("an_event")
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == shown
