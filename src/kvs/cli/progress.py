"""Progress bars with rate and time left, on standard error if that is a terminal."""

import sys
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Final, Self, TypeVar

import click

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

T = TypeVar("T")

DRAWN_EVERY_S: Final = 0.1


class Bar:
    """A progress bar, drawn while it is entered as a context manager.

    Args:
        label: The activity.
        total: The final position; None if it is unknown.
        position: Returns the current position, if it is not the number of items.
        unit: Plural of the items, for the rate.
        shown: Whether the bar may be shown.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        position: Callable[[], int] | None = None,
        *,
        unit: str = "keys",
        shown: bool = True,
    ) -> None:
        self._label = label
        self._total = total
        self._position = position
        self._unit = unit
        self._shown = shown
        self._started_s = monotonic()
        self._due_s = self._started_s
        self._bar: ProgressBar[str] | None = None

    def __enter__(self) -> Self:
        if self._shown and self._total != 0 and sys.stderr.isatty():
            self._bar = click.progressbar(
                iterable=None if self._total is not None else iter(str, ""),  # of unknown length
                length=self._total,
                label=self._label,
                show_pos=self._position is None,
                show_percent=self._total is not None,
                item_show_func=lambda rate: rate,
                file=sys.stderr,
            )
            self._bar.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.render_finish()

    def through(self, items: Iterable[T]) -> Iterable[T]:
        """Return the same items, and move the bar as they are consumed."""
        return items if self._bar is None else self._moving(items, self._bar)

    def _moving(self, items: Iterable[T], bar: "ProgressBar[str]") -> Iterator[T]:
        self._due_s = self._started_s + DRAWN_EVERY_S
        count = 0
        for item in items:
            yield item
            count += 1
            if monotonic() >= self._due_s:
                self._draw(bar, count)
        self._draw(bar, count)

    def reach(self, count: int, total: int) -> None:
        """Move the bar to ``count`` of ``total``."""
        if self._bar is not None and (count >= total or monotonic() >= self._due_s):
            self._bar.length = total
            self._draw(self._bar, count)

    def _draw(self, bar: "ProgressBar[str]", count: int) -> None:
        now_s = monotonic()
        self._due_s = now_s + DRAWN_EVERY_S
        position = count if self._position is None else self._position()
        rate = count / max(now_s - self._started_s, 0.001)
        bar.update(position - bar.pos, f"{rate:,.0f} {self._unit}/s")


class Bars:
    """A context manager that shows one progress bar after the other."""

    def __init__(self) -> None:
        self._label = ""
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(*exception)

    def reach(self, label: str, unit: str, count: int, total: int) -> None:
        """Move the bar of this label to ``count`` of ``total``; a new label begins a new bar."""
        if label != self._label:
            self.__exit__()
            self._label = label
            self._bar = Bar(label, total, unit=unit).__enter__()
        if self._bar is not None:
            self._bar.reach(count, total)
