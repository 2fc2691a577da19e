"""Structured logs: JSON for machines, text for terminals, on standard error.

Events are fixed words; everything that varies is in fields. Whatever a client sent is escaped in both formats, so that
it can neither forge a line nor drive a terminal. Logging never raises: an event that cannot be rendered is dropped and
counted, as one that cannot be written is (:mod:`kvs.standard_streams`).
"""

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from kvs.standard_streams import BackgroundStream

DROPPED_EVENT: Final = "log_events_dropped"


def make_logger(level: str, form: str, stream: TextIO | BackgroundStream | None = None) -> FilteringBoundLogger:
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
    filtering = structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()])

    class SafeLogger(filtering):  # type: ignore[valid-type,misc]  # a class made at run time
        """Drops an event that cannot be rendered or written."""

        def _proxy_to_logger(self, method_name: str, event: str | None = None, **fields: Any) -> Any:
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
    """Return what renders the event that reports dropped events."""
    report = structlog.wrap_logger(
        structlog.ReturnLogger(), processors=processors, wrapper_class=structlog.BoundLogger, context_class=dict
    )

    def render(count: int, reason: str) -> str:
        return f"{report.warning(DROPPED_EVENT, dropped=count, reason=reason)}\n"

    return render


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
