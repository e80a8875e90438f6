"""Showing answers in a notebook: as HTML, and updated in place while they arrive."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

from .terminal import strip_control_characters

DRAW_INTERVAL = 0.2
"""Seconds between two updates of an answer that is arriving, at least."""

MAX_DRAWING_SHARE = 0.05
"""The share of the time that drawing may take: the longer an answer, the fewer updates."""

MAX_HTML_LENGTH = 50_000
"""Characters; the time to render hostile Markdown grows with the square of its length."""


class ArrivingText(Protocol):
    """Text that arrives in chunks, and what has arrived of it so far."""

    @property
    def text(self) -> str: ...

    def __iter__(self) -> Iterator[str]: ...


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel; nothing is imported to find out."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if get_ipython is not None else None
    # By name and including base classes, because Colab has its own subclass of the shell.
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)


def to_html(*texts: str) -> str | None:
    """Markdown texts as HTML that is safe to show, each of them rendered separately.

    Returns:
        ``None`` if the front end should show plain text instead: there is no text, it is longer
        than ``MAX_HTML_LENGTH``, or ``markdown-it-py`` (extra ``notebook``) is not installed.
    """
    if not 0 < sum(map(len, texts)) <= MAX_HTML_LENGTH:
        return None
    try:
        from .safe_html import markdown_to_html
    except ImportError:
        return None
    return "".join(map(markdown_to_html, texts))


def show_arriving(answer: ArrivingText) -> None:
    """Show an answer that is updated in place until it ends or fails."""
    drawing = _Drawing()
    try:
        for _ in answer:
            if time.monotonic() >= drawing.next_time:
                drawing.draw(answer.text)
    finally:
        drawing.draw(answer.text)


class _Drawing:
    """One output of a cell, and when it may be updated again."""

    def __init__(self) -> None:
        self.next_time = 0.0
        self._shown = ""
        self._handle: Any = None

    def draw(self, text: str) -> None:
        from IPython.display import display

        if text == self._shown:
            return
        started = time.monotonic()
        html = to_html(text)
        bundle = {} if html is None else {"text/html": html}
        bundle["text/plain"] = strip_control_characters(text)
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
        self._shown = text
        now = time.monotonic()
        self.next_time = now + max(DRAW_INTERVAL, (now - started) / MAX_DRAWING_SHARE)
