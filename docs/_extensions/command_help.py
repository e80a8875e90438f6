"""The directive ``command-help``: what a command prints with ``--help``."""

from __future__ import annotations

from typing import Any

import click
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from aichatfree._cli.main import cli

WIDTH = 84


def help_of(command: str) -> str:
    """What ``aichatfree COMMAND --help`` prints, or ``aichatfree --help`` for no command."""
    parent = click.Context(cli, info_name="aichatfree", max_content_width=WIDTH)
    if not command:
        return parent.get_help()
    return click.Context(
        cli.commands[command], parent, info_name=command, max_content_width=WIDTH
    ).get_help()


class CommandHelp(Directive):
    """Shows the help of the command that is its argument."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        text = help_of(self.arguments[0] if self.arguments else "")
        return [nodes.literal_block(text, text, language="text")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
