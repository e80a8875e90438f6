"""What commands print besides answers: errors, log messages and JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

import click

from .._output.terminal import strip_control_characters, wrapped

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells define it: 128 + SIGINT."""


def report(error: BaseException) -> int:
    """Print an error in one line, and return the exit code of a failure."""
    name = "aichatfree:"
    message = wrapped(f"{name} {strip_control_characters(str(error))}")
    click.echo(in_colour(name, "red") + message.removeprefix(name), err=True)
    return 1


def usage_error(error: Exception) -> click.UsageError:
    """The error of wrong usage with this message."""
    begin = "Error: "  # which click adds
    return click.UsageError(wrapped(f"{begin}{error}").removeprefix(begin))


def tell(message: str) -> None:
    """Print a message to standard error."""
    click.echo(wrapped(message), err=True)


def in_colour(text: str, colour: str) -> str:
    """The text in colour for a terminal; ``click.echo`` removes it for everything else."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else click.style(text, fg=colour)


def print_json(data: dict[str, Any]) -> None:
    """Print one line of JSON, in ASCII if standard output cannot encode every character."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    click.echo(json.dumps(data, ensure_ascii=encoding != "utf8"))


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
