"""Text as it is written to a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aichatfree._output.terminal import strip_control_characters, write_chunks


def test_control_characters_are_replaced() -> None:
    """Escape sequences, C1 controls and bidirectional overrides cannot reach a terminal."""
    hostile = "\x1b]0;title\x07\x1b[2J\x9b31m\u202etext"
    assert strip_control_characters(hostile) == "�]0;title��[2J�31m�text"


def test_ordinary_text_is_unchanged() -> None:
    """Tabs, line feeds, right-to-left scripts and emoji stay as they are; a CR is dropped."""
    assert strip_control_characters("a\tb\r\nПривет 👋🏽 שלום") == "a\tb\nПривет 👋🏽 שלום"


def test_the_last_line_has_an_end_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed after an answer that failed starts on a new line."""

    def failing() -> Iterator[str]:
        yield "half"
        raise ValueError("cut off")

    with pytest.raises(ValueError, match="cut off"):
        write_chunks(failing())
    assert capsys.readouterr().out == "half\n"
