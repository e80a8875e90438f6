"""How far a batch is, for whoever watches: a bar on a terminal or in a notebook, else nothing."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, Final

from .._output.notebook import in_notebook

_NARROW: Final = 60  # columns; tqdm cuts what does not fit, and the counts come last
_SHORT: Final = "{n_fmt}/{total_fmt} [{remaining}{postfix}]"
_ROOM: Final = 3  # columns left free for a terminal's ^C, which else breaks the line


class Progress:
    """A tqdm bar with what is done, failed and waiting, redrawn a few times a second.

    Args:
        show: ``None`` shows it on a terminal and in a notebook only.
        total: how many items there are, if that is known.
    """

    EVERY = 0.2  # seconds

    def __init__(self, show: bool | None, total: int | None) -> None:
        self._bar: Any = None
        self._drawn = 0.0
        self._in_the_way = False
        if show if show is not None else (in_notebook() or sys.stderr.isatty()):
            self._bar = _tqdm()(
                total=total, unit=" prompts", file=sys.stderr, smoothing=0.05, **_shape()
            )

    @property
    def shown(self) -> bool:
        """Whether anybody sees it."""
        return self._bar is not None

    def update(self, done: int, failed: int, waiting: int, *, now: bool = False) -> None:
        """Show these counts, unless that was done a moment ago."""
        if self._bar is None or (not now and time.monotonic() - self._drawn < self.EVERY):
            return
        self._drawn = time.monotonic()
        notes = {"failed": failed, "waiting": waiting}
        for name, value in _shape().items():
            setattr(self._bar, name, value)
        self._bar.set_postfix({name: n for name, n in notes.items() if n}, refresh=False)
        self._bar.update(done - self._bar.n)
        self._bar.refresh()
        self._in_the_way = not in_notebook()

    def make_room(self) -> None:
        """Take the bar off the terminal until it is drawn again: the caller may write there."""
        if self._in_the_way:
            self._bar.clear()
            self._in_the_way = False

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def _tqdm() -> Any:
    """The widget where it can be shown; ``tqdm.auto`` would warn where it cannot."""
    if in_notebook() and find_spec("ipywidgets"):
        from tqdm.notebook import tqdm as widget

        return widget
    from tqdm import tqdm

    return tqdm


def _shape() -> dict[str, Any]:
    """What of the bar fits on the terminal, as wide as it is now."""
    columns = 0
    if sys.stderr.isatty():
        with suppress(OSError):
            columns = os.get_terminal_size(sys.stderr.fileno()).columns
    if not columns:  # no terminal, or one that does not know
        return {}
    return {
        "ncols": max(columns - _ROOM, 1),
        "bar_format": _SHORT if columns < _NARROW else None,
    }
