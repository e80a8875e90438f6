"""``aichatfree chat``: a conversation, on a terminal or from lines that are piped in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from .ask import print_answer
from .messages import INTERRUPTED, show_retries
from .options import open_client, site_options

if TYPE_CHECKING:
    from ..chat import Chat


@click.command()
@click.option("--system", help="A system prompt.")
@site_options
def chat(system: str | None, **site: Any) -> int:
    """Have a conversation. Ctrl-C stops an answer, Ctrl-D ends the conversation.

    Lines that are piped in are asked one after the other.

    \b
    Example:
      aichatfree chat --local --system "Answer in one sentence."
    """
    show_retries()
    interactive = sys.stdin.isatty()
    if interactive:
        with suppress(ImportError):
            import readline  # noqa: F401  (gives input() line editing)
        click.echo("Ctrl-C stops an answer, Ctrl-D ends the conversation.", err=True)
    with open_client(**site) as client:
        conversation = client.chat(system=system, on_partial="keep")
        codes = [_ask(conversation, line, interactive) for line in _questions(interactive)]
    return 0 if interactive else max(codes, default=0)


def _ask(conversation: Chat, question: str, interactive: bool) -> int:
    try:
        return print_answer(conversation.stream(question))
    except KeyboardInterrupt:
        if not interactive:
            raise
        click.echo()
        return INTERRUPTED


def _questions(interactive: bool) -> Iterator[str]:
    while True:
        try:
            line = input("> ") if interactive else _read_line()
        except EOFError:
            if interactive:
                click.echo()
            return
        except KeyboardInterrupt:
            if not interactive:
                raise
            click.echo()  # Ctrl-C discards the line, as in a shell
            continue
        if line.strip():
            yield line


def _read_line() -> str:
    line = sys.stdin.buffer.readline()
    if not line:
        raise EOFError
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise click.UsageError("Standard input is not UTF-8 text: convert it first.") from error
