"""How far a dump or a load has come, with rate and time left: on a terminal, and nothing anywhere else."""

import sys
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Final, Self, TypeVar

import click

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

T = TypeVar("T")

DRAWN_EVERY_S: Final = 0.1


class Progress:
    """A bar on standard error, to be used as a context manager, so that it is left in order whatever happens.

    Args:
        label: What is being done.
        total: How far it goes; None if that is not known.
        position: How far it has come, if not by one for each item.
        unit: What is counted for the rate.
        shown: Whether it may be shown.
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
        self._bar: ProgressBar[str] | None = None

    def __enter__(self) -> Self:
        if self._shown and self._total != 0 and sys.stderr.isatty():
            self._bar = click.progressbar(
                iterable=None if self._total is not None else iter(str, ""),  # whose length cannot be told
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
        """Return the same items, which move the bar as they are taken."""
        return items if self._bar is None else self._moving(items, self._bar)

    def _moving(self, items: Iterable[T], bar: "ProgressBar[str]") -> Iterator[T]:
        due_s = self._started_s + DRAWN_EVERY_S
        count = 0
        for item in items:
            yield item
            count += 1
            now_s = monotonic()
            if now_s >= due_s:
                due_s = now_s + DRAWN_EVERY_S
                self._draw(bar, count)
        self._draw(bar, count)

    def reach(self, count: int, total: int) -> None:
        """Move the bar to where somebody else says that it is."""
        if self._bar is not None:
            self._bar.length = total
            self._draw(self._bar, count)

    def _draw(self, bar: "ProgressBar[str]", count: int) -> None:
        position = count if self._position is None else self._position()
        rate = count / max(monotonic() - self._started_s, 0.001)
        bar.update(position - bar.pos, f"{rate:,.0f} {self._unit}/s")
