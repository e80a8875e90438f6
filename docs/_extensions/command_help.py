"""The directive ``command-help``: what a command prints with ``--help``."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from aichatfree._cli.main import cli

WIDTH = 84


def help_of(command: str) -> str:
    """What ``aichatfree COMMAND --help`` prints, or ``aichatfree --help`` for no command."""
    arguments = [*command.split(), "--help"]
    ran = CliRunner().invoke(cli, arguments, prog_name="aichatfree", terminal_width=WIDTH)
    return ran.output


class CommandHelp(Directive):
    """Shows the help of the command that is its argument."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        text = help_of(self.arguments[0] if self.arguments else "")
        return [nodes.literal_block(text, text, language="none")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
