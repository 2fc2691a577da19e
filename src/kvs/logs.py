"""Structured logs: JSON for machines, text for terminals, on standard error.

Events are fixed words; everything that varies is in fields. A line of JSON begins with the time in UTC, the level and
the event; a line for people with the local time, without the date. Whatever a client sent is escaped in both formats,
so that it can neither forge a line nor drive a terminal. Logging never raises: an event that cannot be rendered is
dropped and counted, as one that cannot be written is (:mod:`kvs.standard_streams`).
"""

import logging
import os
import re
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from kvs.errors import escaped
from kvs.standard_streams import BackgroundStream

DROPPED_EVENT: Final = "log_events_dropped"

RESET, BOLD, DIM = "\x1b[0m", "\x1b[1m", "\x1b[2m"
LEVEL_COLORS: Final = {
    "debug": DIM,
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}
SEVERITIES: Final = logging.getLevelNamesMapping()

_QUOTED: Final = re.compile('[ "=]')
"""Characters that would make an unquoted value ambiguous."""


class LogLevel:
    """The least severity that is logged, which may change.

    Args:
        name: ``debug``, ``info``, ``warning``, ``error`` or ``critical``.
    """

    def __init__(self, name: str) -> None:
        self.set(name)

    def set(self, name: str) -> None:
        """Change it."""
        self._least = SEVERITIES[name.upper()]

    def admits(self, method: str) -> bool:
        """Return whether what a method of a logger is given is logged."""
        return SEVERITIES[method.upper()] >= self._least


def make_logger(
    level: str | LogLevel, form: str, stream: TextIO | BackgroundStream | None = None, see: Processor | None = None
) -> FilteringBoundLogger:
    """Return the root logger.

    Args:
        level: Minimum severity to log.
        form: ``json``, ``console``, or ``auto`` for console on a terminal and json elsewhere.
        stream: Where to write; standard error by default.
        see: Gets every event that is logged, before it is rendered.
    """
    stream = stream or sys.stderr
    least = LogLevel(level) if isinstance(level, str) else level
    console = form == "console" or (form == "auto" and stream.isatty())
    processors: list[Processor] = [
        *([] if see is None else [see]),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
        structlog.processors.format_exc_info,  # without local variables: they may hold values
    ]
    if console:
        processors.append(_ConsoleRenderer(colors=stream.isatty() and not os.environ.get("NO_COLOR")))
    else:
        processors += [_begin_with_time, structlog.processors.JSONRenderer()]
    filtering = structlog.make_filtering_bound_logger(logging.NOTSET)  # for it cannot change its mind

    class SafeLogger(filtering):  # type: ignore[valid-type,misc]  # a class made at run time
        """Leaves out what is less severe than is wanted, and drops an event that cannot be rendered or written."""

        def _proxy_to_logger(self, method_name: str, event: str | None = None, **fields: Any) -> Any:
            if not least.admits(method_name):
                return None
            try:
                return super()._proxy_to_logger(method_name, event, **fields)
            except Exception as error:  # noqa: BLE001  # whatever it is, it must not change what the server does
                if isinstance(stream, BackgroundStream):
                    stream.drop(f"{event}: {type(error).__name__}")

    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(cast("TextIO", stream)),
        processors=processors,
        wrapper_class=SafeLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    ).bind()
    if isinstance(stream, BackgroundStream):
        stream.notice = _notice(processors)
    return logger


def _notice(processors: list[Processor]) -> Callable[[int, str], str]:
    """Return a renderer of the event that reports dropped events."""
    report = structlog.wrap_logger(
        structlog.ReturnLogger(), processors=processors, wrapper_class=structlog.BoundLogger, context_class=dict
    )

    def render(count: int, reason: str) -> str:
        return f"{report.warning(DROPPED_EVENT, dropped=count, reason=reason)}\n"

    return render


def _begin_with_time(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: event.pop(name) for name in ("timestamp", "level", "event")} | dict(event)


class _ConsoleRenderer:
    """Renders an event for people: time, level, event, and the fields in the order in which they were given.

    The default of structlog pads events to 30 columns and sorts fields by their names.
    """

    def __init__(self, *, colors: bool) -> None:
        self._colors = colors

    def __call__(self, _: object, __: str, event: MutableMapping[str, Any]) -> str:
        time, level, name = (event.pop(each) for each in ("timestamp", "level", "event"))
        exception = event.pop("exception", None)
        parts = [
            self._colored(time, DIM),
            self._colored(f"{level:<7}", LEVEL_COLORS.get(level, BOLD)),
            self._colored(escaped(str(name)), BOLD),
            *(f"{self._colored(field, DIM)}={_value(value)}" for field, value in event.items()),
        ]
        line = " ".join(parts)
        return line if exception is None else "\n".join([line, *map(escaped, str(exception).split("\n"))])

    def _colored(self, text: str, color: str) -> str:
        return f"{color}{text}{RESET}" if self._colors else text


def _value(value: object) -> str:
    text = escaped(str(value))
    return text if text and not _QUOTED.search(text) else '"' + text.replace('"', '\\"') + '"'
