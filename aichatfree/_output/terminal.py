"""Writing answers to a terminal, a pipe or a file."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterable
from contextlib import suppress

# C0 except tab and newline, DEL, C1, and the characters that reorder the text around them (the
# "Trojan Source" set). A site must not be able to control the reader's terminal.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def strip_control_characters(text: str) -> str:
    """Drop carriage returns, and replace every other control character by U+FFFD."""
    return _CONTROL.sub("\ufffd", text.replace("\r", ""))


def width_of_stderr() -> int:
    """The columns of the terminal of standard error; 0 if it is no terminal or does not say."""
    if sys.stderr.isatty():
        with suppress(OSError):
            return os.get_terminal_size(sys.stderr.fileno()).columns
    return 0


def wrapped(message: str) -> str:
    """A message in lines that fit on the terminal of standard error, broken between words.

    If standard error is not a terminal, the message is not changed.
    """
    columns = width_of_stderr()
    if not columns:
        return message
    return "\n".join(
        textwrap.fill(line, columns, break_long_words=False, break_on_hyphens=False)
        for line in message.split("\n")
    )


def escape_control_characters(json_text: str) -> str:
    """Escape the control characters that JSON allows in a string, so that none is lost."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)


def write_answer(text: str) -> None:
    """Write a part of an answer at once: unchanged to a pipe or file, sanitized to a terminal."""
    sys.stdout.write(strip_control_characters(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def write_chunks(chunks: Iterable[str]) -> None:
    """Write an answer as it arrives; its last line always gets an end, even after an error."""
    chunk = "\n"
    try:
        for chunk in chunks:
            write_answer(chunk)
    finally:
        if not chunk.endswith("\n"):
            write_answer("\n")
