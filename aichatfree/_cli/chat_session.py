"""A conversation on a terminal: questions, and commands that begin with a slash."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from .ask import print_answer
from .chat_prompt import ChatPrompt
from .messages import report

if TYPE_CHECKING:
    from ..chat import Chat

_HELP: Final = [
    ("/help", "Show this list."),
    ("/clear", "Forget the conversation, except for the system prompt."),
    ("/save FILE", "Write the conversation to a file, as JSON for Chat.from_dict."),
    ("/system TEXT", "Set the system prompt; without a text, remove it."),
    ("/retry", "Ask the last question again."),
    ('"""', "Begins and ends a question of several lines; pasted lines need no marks."),
    ("Ctrl-C", "Stop an answer. What has arrived of it stays in the conversation."),
    ("exit, quit", "Leave; so does Ctrl-D, during an answer after its end."),
]
_LEAVE: Final = {"exit", "quit", "/exit", "/quit"}
_COMMAND: Final = re.compile(r"(/[a-z]+)(?:\s+(.*))?", re.DOTALL)


class ChatSession:
    """Reads questions and commands until the user leaves."""

    def __init__(self, chat: Chat, prompt: ChatPrompt) -> None:
        self._chat = chat
        self._prompt = prompt
        self._last_question: str | None = None
        self._saved: set[str] = set()
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": self._help,
            "/clear": self._clear,
            "/save": self._save,
            "/system": self._set_system,
            "/retry": self._retry,
        }

    def run(self) -> None:
        """Return when the user leaves."""
        click.echo(
            "Ctrl-C stops an answer, Ctrl-D ends the conversation, /help lists more.", err=True
        )
        while True:
            try:
                text = self._prompt.read()
                if text.strip() in _LEAVE:
                    return
                self._answer_or_obey(text)
            except KeyboardInterrupt:  # it discards the line, as in a shell, or stops the answer
                click.echo()
            except EOFError:
                click.echo()
                return
            except ValueError as error:  # the text cannot be decoded, or not be sent
                report(error)

    def _answer_or_obey(self, text: str) -> None:
        command = _COMMAND.fullmatch(text.rstrip())
        if command is not None and command[1] in self._commands:
            self._commands[command[1]](command[2] or "")
        elif command is None or "\n" in text:
            self._ask(text)
        else:
            _say(f"{command[1]} is not a command: see /help, or put a space before it to ask it.")

    def _ask(self, question: str) -> None:
        if not question.strip():
            return
        self._last_question = question
        with _ctrl_d_stays_in_input():
            print_answer(self._chat.stream(question))

    def _help(self, _: str) -> None:
        # With a width, because click's own is never below 50 columns.
        formatter = click.HelpFormatter(width=min(shutil.get_terminal_size().columns - 1, 80))
        formatter.write_dl(_HELP)
        _say(formatter.getvalue().rstrip("\n"))

    def _clear(self, _: str) -> None:
        self._chat.messages[:] = [m for m in self._chat.messages if m["role"] == "system"]
        _say("The conversation is empty.")

    def _save(self, name: str) -> None:
        if not name:
            _say("Name a file: /save FILE")
            return
        path = os.path.abspath(os.path.expanduser(name))
        text = json.dumps(self._chat.to_dict(), ensure_ascii=False, indent=2)
        try:
            # Only a file that this session has written is replaced.
            with open(path, "w" if path in self._saved else "x", encoding="utf-8") as file:
                file.write(text + "\n")
        except FileExistsError:
            _say(f"{name} exists: choose another name.")
        except OSError as error:
            report(error)
        else:
            self._saved.add(path)
            _say(f"{len(self._chat.messages)} messages are in {path}")

    def _set_system(self, text: str) -> None:
        rest = [m for m in self._chat.messages if m["role"] != "system"]
        self._chat.messages[:] = [{"role": "system", "content": text}, *rest] if text else rest
        _say("The system prompt is set." if text else "There is no system prompt now.")

    def _retry(self, _: str) -> None:
        """Ask the last question again; if there is no other answer, the earlier one stays."""
        if self._last_question is None:
            _say("Nothing has been asked so far.")
            return
        messages = self._chat.messages
        earlier = messages[-2:]
        if not earlier or earlier[0] != {"role": "user", "content": self._last_question}:
            earlier = []
        length = len(messages) - len(earlier)
        del messages[length:]
        try:
            self._ask(self._last_question)
        finally:
            if len(messages) == length:
                messages += earlier


def _say(text: str) -> None:
    click.echo(text, err=True)


@contextmanager
def _ctrl_d_stays_in_input() -> Iterator[None]:
    """Keep a Ctrl-D that is typed during the block for the prompt that follows it.

    Otherwise the terminal marks it as the end of the input, and the mark is lost when readline
    changes the mode of the terminal.
    """
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    during = termios.tcgetattr(terminal)
    during[6][termios.VEOF] = bytes([os.fpathconf(terminal, "PC_VDISABLE")])
    termios.tcsetattr(terminal, termios.TCSANOW, during)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
