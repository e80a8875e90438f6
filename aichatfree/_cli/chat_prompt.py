"""The prompt of ``aichatfree chat``: line editing, questions of several lines, and history."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from .chat_history import History

_MARK: Final = '"""'


class ChatPrompt:
    """Reads questions from a terminal.

    GNU readline since 8.1 returns pasted lines as one text (bracketed paste); with another one,
    such as libedit, a question of several lines needs its marks.

    Args:
        history: earlier questions, to which new ones are added; ``None`` to keep none.
    """

    def __init__(self, history: History | None) -> None:
        self._history = history
        self._last = ""
        self._add_to_readline: Callable[[str], None] = _ignore
        with suppress(ImportError):
            # Here, because it may write to standard output when it is imported.
            import readline

            readline.set_auto_history(False)  # which takes each line of a question for an entry
            self._add_to_readline = readline.add_history
        for question in history.load() if history else ():
            with suppress(UnicodeEncodeError):  # the locale was another one then
                self._add_to_readline(question)

    def read(self) -> str:
        """The next question, without its marks.

        Raises:
            EOFError: the user pressed Ctrl-D.
            KeyboardInterrupt: the user pressed Ctrl-C.
            UnicodeDecodeError: what was typed is not text in the terminal's encoding.
        """
        text = input("> ")
        if text.startswith(_MARK):
            text = text.removeprefix(_MARK)
            while not text.rstrip().endswith(_MARK):
                text += "\n" + input("... ")
            text = text.rstrip().removesuffix(_MARK).strip("\n")
        if text.strip() and text != self._last:
            self._remember(text)
        return text

    def _remember(self, text: str) -> None:
        self._last = text
        self._add_to_readline(text)
        if self._history is not None:
            self._history.add(text)


def _ignore(_: str) -> None:
    """Python was built without readline: there are no keys to get at earlier questions."""
