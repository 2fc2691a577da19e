"""Structured logs: JSON for machines, text for terminals, on standard error.

Events are fixed words; everything that varies is in fields. Whatever a client sent is escaped in both formats, so that
it can neither forge a line nor drive a terminal.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import FilteringBoundLogger, Processor


def make_logger(level: str, form: str, stream: TextIO | None = None) -> FilteringBoundLogger:
    """Return the logger that everything is bound to.

    Args:
        level: Least severe level to log.
        form: ``json``, ``console``, or ``auto`` for console on a terminal and json elsewhere.
        stream: Where to; standard error if not given.
    """
    stream = stream or sys.stderr
    console = form == "console" or (form == "auto" and stream.isatty())
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,  # without local variables: they may hold values
    ]
    if console:
        processors += [_escape_controls, structlog.dev.ConsoleRenderer(colors=stream.isatty())]
    else:
        processors.append(structlog.processors.JSONRenderer())
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(stream),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        context_class=dict,
        cache_logger_on_first_use=True,
    ).bind()
    return logger


def _escape_controls(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what could move the cursor or start a line; tracebacks keep their lines."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            lines = value.split("\n") if name == "exception" else [value]
            event[name] = "\n".join(
                "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
                for line in lines
            )
    return event
