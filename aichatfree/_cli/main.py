"""The command ``aichatfree``: its subcommands and its exit codes."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import click

from .._version import __version__
from ..errors import AIChatFreeError
from .ask import ask
from .batch import batch
from .chat import chat
from .check import check
from .export import export
from .messages import INTERRUPTED
from .messages import report as report_error
from .report import report
from .serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="aichatfree")
def cli() -> None:
    """Talk to a chat site that speaks the AIChatFree protocol, or to a model on this machine.

    The site and its keys come from AICHATFREE_BASE_URL, AICHATFREE_DIALECT, AICHATFREE_SECRET,
    AICHATFREE_PASSWORD and AICHATFREE_MODEL, or those of several sites from the file that
    AICHATFREE_SITES names. Secrets have no options, because other users of a machine can see a
    command line.

    \b
    Example:
      aichatfree ask --local "Hello, how are you?"

    \b
    To complete commands, options and files with Tab, in the startup file:
      eval "$(_AICHATFREE_COMPLETE=bash_source aichatfree)"  # bash
      eval "$(_AICHATFREE_COMPLETE=zsh_source aichatfree)"   # zsh
      _AICHATFREE_COMPLETE=fish_source aichatfree | source   # fish
    """


for command in (ask, batch, chat, check, export, report, serve):
    cli.add_command(command)


def run() -> int:
    """Run one command.

    Returns:
        The exit code: 0 for success, 1 for failure, 2 for wrong usage, 130 after an interrupt.
    """
    _prepare_standard_streams()
    try:
        return int(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except AIChatFreeError as error:
        with click.Context(cli):  # it has the options that the message may name
            return report_error(error)
    except (KeyboardInterrupt, click.Abort):
        if sys.stderr.isatty():
            click.echo(err=True)  # start a new line after the ^C that the terminal shows
        return INTERRUPTED
    except OSError as error:
        # The disk is full, or the reader of a pipe has gone (no message then). Python would report
        # it again when it flushes standard output at exit, so what is left goes to the null device.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1 if isinstance(error, BrokenPipeError) else report_error(error)


def _prepare_standard_streams() -> None:
    """Open the streams that are missing, as under a daemon, and never fail on a character."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
