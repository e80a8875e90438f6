"""``aichatfree chat``: a conversation, on a terminal or from lines that are piped in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from .ask import print_answer
from .chat_history import open_history
from .chat_prompt import ChatPrompt
from .chat_session import ChatSession
from .messages import show_retries
from .options import open_client, site_options, usage_errors


@click.command()
@click.option("--system", help="A system prompt.")
@click.option(
    "--no-history",
    is_flag=True,
    envvar="AICHATFREE_NO_HISTORY",
    help="Keep no file with the questions (AICHATFREE_NO_HISTORY=1).",
)
@site_options
def chat(system: str | None, no_history: bool, **site: Any) -> int:
    """Have a conversation. Ctrl-C stops an answer, Ctrl-D ends the conversation.

    On a terminal, pasted lines are one question, and /help lists the commands. Lines that are piped
    in are asked one after the other.

    \b
    Example:
      aichatfree chat --local --system "Answer in one sentence."
    """
    show_retries()
    with open_client(**site) as client:
        conversation = client.chat(system=system, on_partial="keep")
        if sys.stdin.isatty():
            from ..router import secrets_of  # here, to keep --help fast

            history = None if no_history else open_history(secrets_of(client))
            ChatSession(conversation, ChatPrompt(history)).run()
            return 0
        with usage_errors():
            return max((print_answer(conversation.stream(line)) for line in _lines()), default=0)


def _lines() -> Iterator[str]:
    """The lines of standard input that are not empty."""
    for line in sys.stdin.buffer:
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            message = "Standard input is not UTF-8 text: convert it first."
            raise click.UsageError(message) from error
        if text.strip():
            yield text
