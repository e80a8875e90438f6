"""What commands print besides answers: errors, log messages and JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

import click

from .._output.terminal import (
    escape_control_characters,
    strip_control_characters,
    wrapped,
)
from .wording import for_command_line

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells define it: 128 + SIGINT."""


def report(error: BaseException) -> int:
    """Print an error in one line, and return the exit code of a failure."""
    name = "aichatfree:"
    message = wrapped(f"{name} {words_of(error)}")
    click.echo(in_colour(name, "red") + message.removeprefix(name), err=True)
    return 1


def usage_error(error: Exception) -> click.UsageError:
    """The error of wrong usage with this message."""
    begin = "Error: "  # which click adds
    return click.UsageError(wrapped(f"{begin}{words_of(error)}").removeprefix(begin))


def tell(message: str) -> None:
    """Print a message to standard error."""
    click.echo(wrapped(message), err=True)


def words_of(error: BaseException) -> str:
    """The message of an error as it can be shown to users of the command line."""
    message = str(error)
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        message = f"The file {error.filename!r} does not exist: correct its name."
    return for_command_line(strip_control_characters(message))


def in_colour(text: str, colour: str) -> str:
    """The text in colour for a terminal; ``click.echo`` removes it for everything else."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else click.style(text, fg=colour)


def print_json(data: dict[str, Any]) -> None:
    """Print one line of JSON, in ASCII if standard output cannot encode every character.

    On a terminal, control characters are escaped.
    """
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    text = json.dumps(data, ensure_ascii=encoding != "utf8")
    click.echo(escape_control_characters(text) if sys.stdout.isatty() else text)


def show_retries() -> None:
    """On a terminal, print why a request is retried."""
    if sys.stderr.isatty():
        show_log("aichatfree.retry", "%(message)s")


def show_log(logger_name: str, line_format: str) -> None:
    """Print the messages of a logger, and of the loggers below it, to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(line_format, "%H:%M:%S"))
    logger = logging.getLogger(logger_name)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
