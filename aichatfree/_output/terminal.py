"""Showing text: whether that is in a notebook, and what may be written to a terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

# Text that a site sent must not steer the terminal.
# C0 but tab and newline, DEL, C1, and what reorders the text around it (the "Trojan Source" set).
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def without_control(text: str) -> str:
    """The text without carriage returns, and with every other control character made visible."""
    return _STEERING.sub("\ufffd", text.replace("\r", ""))


def write_answer(text: str) -> None:
    """Write a piece of an answer at once: exactly into a pipe or file, harmless on a terminal."""
    sys.stdout.write(without_control(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def write_chunks(chunks: Iterable[str]) -> None:
    """Write an answer as it arrives, and end its last line wherever it ends."""
    chunk = "\n"
    try:
        for chunk in chunks:
            write_answer(chunk)
    finally:
        if not chunk.endswith("\n"):
            write_answer("\n")


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this; nothing is imported to find out."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if get_ipython is not None else None
    # By name and with what it inherits from, because Colab has a shell of its own.
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)
