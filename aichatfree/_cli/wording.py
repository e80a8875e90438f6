"""Messages in the words of the command line.

The package's messages name arguments of Python, such as ``base_url= (AICHATFREE_BASE_URL)``. An
argument that is an option of a command becomes its name, ``--base-url``; another one is replaced by
its environment variables.
"""

from __future__ import annotations

import re
from typing import Final

import click

_ARGUMENT: Final = re.compile(
    r"""
    (?<![\w-])(?P<name>[a-z]+(?:_[a-z]+)*)=        # base_url=
    (?:True|[A-Z]\w+\([^()]*\)|'(?P<value>[^']*)')?  # =True, =Timeout(read=...), ='openai'
    (?![\w'"])                                     # but not a=b, which a site may have said
    (?:[ ]\((?P<variables>[A-Z]+_[A-Z_]+[^()]*)\))? # (AICHATFREE_BASE_URL)
    """,
    re.VERBOSE,
)
_FIRST_WORD: Final = re.compile(r"Timeout\.[a-z]+\b|[a-z]+_[a-z_]+\b(?!=)")
_CALLS: Final = {"client.check()": "aichatfree check", "Client.local()": "--local"}
_OTHER_NAMES: Final = {"id": "id_column", "max_requests_per_minute": "rpm"}


def for_command_line(message: str) -> str:
    """A message of the package with options and variables in the place of Python's arguments."""
    options = _options()

    def replacement(found: re.Match[str]) -> str:
        option, variables = options.get(found["name"]), found["variables"]
        if option is None:
            return variables or f"{found[0]} in Python"
        value = f" {found['value']}" if found["value"] else ""
        return f"{option}{value}" + (f" ({variables})" if variables else "")

    for call, words in _CALLS.items():
        message = message.replace(call, words)
    first = _FIRST_WORD.match(message)  # "max_workers must be a number"
    if first is not None:
        name = first[0].partition(".")[0].lower()
        message = options.get(name, first[0]) + message[first.end() :]
    return _ARGUMENT.sub(replacement, message)


def _options() -> dict[str, str]:
    """The options of all commands by the name of their argument; those of the current one win."""
    context = click.get_current_context(silent=True)
    if context is None:
        return {}
    root, current = context.find_root().command, context.command
    others = list(root.commands.values()) if isinstance(root, click.Group) else []
    options = {}
    for command in (*others, current):
        where = "" if current in (command, root) else f" of aichatfree {command.name}"
        for option in command.params:
            if isinstance(option, click.Option) and option.name is not None:
                options[option.name] = max(option.opts, key=len) + where
    for name, other in _OTHER_NAMES.items():
        options[name] = options.get(other, name)
    return options
