"""The progress bar of a batch: on a terminal or in a notebook, otherwise nothing."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from typing import Any, Final

from .._output.notebook_display import in_notebook
from .._output.terminal import width_of_stderr
from ._summary import Summary

REDRAW_INTERVAL: Final = 0.2  # seconds

_NARROW: Final = 60  # columns; tqdm cuts off the end of a bar that is too long, with the counts
_SHORT_FORMAT: Final = "{n_fmt}/{total_fmt} [{remaining}{postfix}]"
_SPARE_COLUMNS: Final = 3  # for the ^C that a terminal prints, which would break the line


class Progress:
    """A tqdm bar with the numbers of prompts that are done, failed and waiting.

    Args:
        show: whether to show it; ``None`` shows it on a terminal and in a notebook only.
        total: the number of prompts, if it is known.
    """

    def __init__(self, show: bool | None, total: int | None) -> None:
        self._show = show
        self._total = total
        self._bar: Any = None  # from start() on, if it is shown
        self._drawn_at = 0.0
        self._on_terminal = False  # whether it occupies the terminal's current line

    @property
    def shown(self) -> bool:
        """Whether the user sees it."""
        return self._bar is not None

    def start(self) -> None:
        """Draw the bar for the first time."""
        show = self._show
        if show if show is not None else (in_notebook() or sys.stderr.isatty()):
            self._bar = _tqdm()(
                total=self._total, unit=" prompts", file=sys.stderr, smoothing=0.05, **_shape()
            )
            self._on_terminal = not in_notebook()

    def update(self, summary: Summary, waiting: int, *, now: bool = False) -> None:
        """Show these counts, unless the bar was drawn a moment ago."""
        if self._bar is None or (not now and time.monotonic() - self._drawn_at < REDRAW_INTERVAL):
            return
        self._drawn_at = time.monotonic()
        notes = {"failed": summary.failed, "reused": summary.reused, "waiting": waiting}
        for name, value in _shape().items():
            setattr(self._bar, name, value)
        self._bar.set_postfix({name: n for name, n in notes.items() if n}, refresh=False)
        # Reused results are not part of the bar's rate, from which it estimates the time left.
        reused = summary.reused - self._bar.initial
        self._bar.initial += reused
        self._bar.n += reused
        self._bar.last_print_n += reused
        self._bar.update(summary.done - self._bar.n)
        self._bar.refresh()
        self._on_terminal = not in_notebook()

    def clear(self) -> None:
        """Remove the bar from the terminal until it is drawn again: the caller may print there."""
        if self._on_terminal:
            self._bar.clear()
            self._on_terminal = False

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def _tqdm() -> Any:
    """The notebook widget where it can be shown; ``tqdm.auto`` would warn where it cannot."""
    if in_notebook() and find_spec("ipywidgets"):
        from tqdm.notebook import tqdm as widget

        return widget
    from tqdm import tqdm

    return tqdm


def _shape() -> dict[str, Any]:
    """The width and the format of the bar, for the terminal's present width."""
    columns = width_of_stderr()
    if not columns:
        return {}
    return {
        "ncols": max(columns - _SPARE_COLUMNS, 1),
        "bar_format": _SHORT_FORMAT if columns < _NARROW else None,
    }
