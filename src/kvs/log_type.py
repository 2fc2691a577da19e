"""The type of loggers, for annotations: ``structlog`` takes long to import, and what logs nothing does without it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger
else:
    FilteringBoundLogger = object

__all__ = ["FilteringBoundLogger"]
