"""Progress bars with rate and time left, on standard error if that is a terminal."""

import sys
from time import monotonic
from typing import TYPE_CHECKING, Final, Self

import click

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

DRAWN_EVERY_S: Final = 0.1


class Bars:
    """A context manager that shows one progress bar after the other.

    Args:
        shown: Whether bars may be shown.
    """

    def __init__(self, *, shown: bool = True) -> None:
        self._shown = shown and sys.stderr.isatty()
        self._label = ""
        self._bar: ProgressBar[str] | None = None
        self._started_s = self._due_s = 0.0
        self._position = 0
        self._rate = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._draw(self._bar)
            self._bar.render_finish()

    def reach(self, label: str, unit: str, count: int, total: int | None, position: int | None = None) -> None:
        """Move the bar of this label; see :class:`kvs.progress.Progress`."""
        if not self._shown:
            return
        if label != self._label:
            self.__exit__()
            self._begin(label, total, counts_items=position is None)
        if self._bar is None:
            return
        now_s = monotonic()
        self._bar.length = total
        self._position = count if position is None else position
        self._rate = f"{count / max(now_s - self._started_s, 0.001):,.0f} {unit}/s"
        if now_s >= self._due_s:
            self._due_s = now_s + DRAWN_EVERY_S
            self._draw(self._bar)

    def _begin(self, label: str, total: int | None, *, counts_items: bool) -> None:
        self._label = label
        self._bar = None
        self._started_s = monotonic()
        self._due_s = self._started_s + DRAWN_EVERY_S
        if total != 0:
            self._bar = click.progressbar(
                iterable=None if total is not None else iter(str, ""),  # of unknown length
                length=total,
                label=label,
                show_pos=counts_items,
                show_percent=total is not None,
                item_show_func=lambda rate: rate,
                file=sys.stderr,
            )
            self._bar.__enter__()

    def _draw(self, bar: "ProgressBar[str]") -> None:
        bar.update(self._position - bar.pos, self._rate)
