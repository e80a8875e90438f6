"""An answer that grows in place, in the output of a notebook's cell."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Protocol

from IPython.display import display

from .markdown import harmless
from .terminal import without_control

EVERY = 0.2
"""Seconds between two drawings of an answer that grows."""

SHARE = 0.05
"""Of the time that drawing may take; a very long answer is drawn less often."""


class Growing(Protocol):
    """Text that arrives chunk by chunk, and what there is of it so far."""

    @property
    def text(self) -> str: ...

    def __iter__(self) -> Iterator[str]: ...


def show_growing(stream: Growing) -> None:
    """Show an answer as Markdown that grows in place, to its end or to where it breaks off."""
    answer = _Drawing()
    try:
        for _ in stream:
            if time.monotonic() >= answer.due:
                answer.draw(stream.text)
    finally:
        answer.draw(stream.text)


class _Drawing:
    """One output of a cell, drawn over again."""

    def __init__(self) -> None:
        self.due = 0.0
        self._shown = ""
        self._handle: Any = None

    def draw(self, text: str) -> None:
        if text == self._shown:
            return
        began = time.monotonic()
        bundle = {"text/markdown": harmless(text), "text/plain": without_control(text)}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
        self._shown = text
        now = time.monotonic()
        self.due = now + max(EVERY, (now - began) / SHARE)
