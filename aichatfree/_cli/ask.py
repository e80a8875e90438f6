"""``aichatfree ask``: one question."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from .._output.terminal import write_chunks
from ..errors import AIChatFreeError
from .messages import print_json, report, show_retries, words_of
from .options import open_client, site_options, usage_errors

if TYPE_CHECKING:
    from ..stream import Stream


@click.command()
@click.argument("prompt", nargs=-1, metavar="[PROMPT]")
@click.option("--system", help="A system prompt.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@site_options
def ask(prompt: tuple[str, ...], system: str | None, as_json: bool, **site: Any) -> int:
    """Ask one question and print the answer as it arrives.

    PROMPT is read from standard input if it is left out or "-". If both are given, the piped text
    comes first.

    \b
    Examples:
      aichatfree ask --local "Hello, how are you?"
      echo "Name three rivers." | aichatfree ask --local --json
      echo "The Nile is long." | aichatfree ask --local "Is this true?"
    """
    show_retries()
    if len(prompt) > 1:
        raise click.UsageError('Put the prompt in quotes: aichatfree ask "Hello, how are you?"')
    question = _question(None if prompt in ((), ("-",)) else prompt[0])
    with open_client(**site) as client:
        with usage_errors():
            stream = client.stream(question, system=system)
        return _print_as_json(stream) if as_json else print_answer(stream)


def print_answer(stream: Stream) -> int:
    """Print an answer as it arrives, and return the exit code."""
    with stream:
        try:
            write_chunks(stream)
        except AIChatFreeError as error:
            return report(error)
    return 0


def _question(prompt: str | None) -> str:
    """The piped text and the prompt with an empty line between them, or the one that is given."""
    if sys.stdin.isatty():
        if prompt is None:
            raise click.UsageError('Give a prompt, or pipe one in: echo "Hello" | aichatfree ask')
        return prompt
    return "\n\n".join(filter(None, [_piped_text(), prompt]))


def _piped_text() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise click.UsageError(
            f"Standard input is not UTF-8 text (byte {error.start}): convert it first, for "
            "example with iconv."
        ) from error


def _print_as_json(stream: Stream) -> int:
    failure: AIChatFreeError | None = None
    rest: dict[str, Any]
    try:
        reply = stream.reply()
        times = {"elapsed": reply.elapsed, "time_to_first_chunk": reply.time_to_first_chunk}
        rounded = {name: round(seconds, 3) for name, seconds in times.items()}
        rest = {**rounded, "site": reply.site}
    except AIChatFreeError as error:
        failure = error
        rest = {"error": {"type": type(error).__name__, "message": words_of(error)}}
    head = {"text": stream.text, "complete": stream.complete, "attempts": stream.attempts}
    print_json({**head, **rest})
    return 0 if failure is None else report(failure)
