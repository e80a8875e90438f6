"""How far a batch is, for whoever watches: a bar on a terminal or in a notebook, else nothing."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from typing import Any

from ..terminal import in_notebook


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
        if show if show is not None else (in_notebook() or sys.stderr.isatty()):
            self._bar = _tqdm()(total=total, unit=" prompts", file=sys.stderr, smoothing=0.05)

    @property
    def shown(self) -> bool:
        """Whether anybody sees it."""
        return self._bar is not None

    def update(self, done: int, failed: int, waiting: int, *, now: bool = False) -> None:
        """Show these counts, unless that was done a moment ago."""
        if self._bar is None or (not now and time.monotonic() - self._drawn < self.EVERY):
            return
        self._drawn = time.monotonic()
        notes = {"failed": failed, "waiting for the limit": waiting}
        self._bar.set_postfix({name: n for name, n in notes.items() if n}, refresh=False)
        self._bar.update(done - self._bar.n)
        self._bar.refresh()

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
