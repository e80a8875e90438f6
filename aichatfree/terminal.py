"""What may be written to a terminal: text that a site sent must not steer it."""

from __future__ import annotations

import re
import sys
from typing import TextIO

# C0 but tab and newline, DEL, C1, and what reorders the text around it (the "Trojan Source" set).
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def without_control(text: str) -> str:
    """The text without carriage returns, and with every other control character made visible."""
    return _STEERING.sub("\ufffd", text.replace("\r", ""))


def write_answer(text: str, stream: TextIO | None = None) -> None:
    """Write a piece of an answer at once: exactly into a pipe or file, harmless on a terminal."""
    stream = sys.stdout if stream is None else stream
    stream.write(without_control(text) if stream.isatty() else text)
    stream.flush()
