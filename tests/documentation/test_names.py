"""The documentation has everything that users can name; the names are taken from the code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import click
import pytest

import aichatfree
from aichatfree import AIChatFreeError, Client, RetryPolicy, Timeout
from aichatfree._cli.main import cli
from aichatfree.gateway import Gateway
from helpers import PAGES, blocks

PUBLIC = {
    f"{module}.{name}"
    for module in ("aichatfree", "aichatfree.batch", "aichatfree.gateway", "aichatfree.testing")
    for name in import_module(module).__all__
}
ERRORS = [
    name
    for name in aichatfree.__all__
    if inspect.isclass(value := getattr(aichatfree, name)) and issubclass(value, AIChatFreeError)
]
METHODS = [method for name, method in vars(Client).items() if not name.startswith("_")]
ARGUMENTS = {
    name
    for of in (Client, Timeout, RetryPolicy, Gateway, *METHODS)
    for name in inspect.signature(getattr(of, "__func__", of)).parameters
} - {"self", "cls", "changes"}
OPTIONS = {
    option
    for command in cli.commands.values()
    for parameter in command.params
    if isinstance(parameter, click.Option)
    for option in parameter.opts
    if option.startswith("--")
}
SOURCES = [path.read_text() for path in Path(aichatfree.__file__).parent.rglob("*.py")]
# A name that begins with an underscore is click's.
VARIABLES = {
    name for source in SOURCES for name in re.findall(r"(?<!_)AICHATFREE_[A-Z_]+(?!\w)", source)
} - {"AICHATFREE_"}


def code_of(*pages: str) -> str:
    """What is set as code on some pages: fenced blocks, and text between backticks."""
    fence_or_span = r"^ *```.*?^ *```|`[^`]+`"
    return "\n".join(
        code
        for page in pages
        for code in re.findall(fence_or_span, PAGES[page], re.MULTILINE | re.DOTALL)
    )


def assert_occurs(names: Iterable[str], code: str) -> None:
    missing = [
        name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", code)
    ]
    assert not missing, " ".join(sorted(missing))


MANUAL = code_of(*(page for page in PAGES if page not in ("README.md", "docs/api.md")))


def test_the_api_reference_has_every_public_name_once() -> None:
    """docs/api.md documents each public name once, and nothing else."""
    documented = []
    module = ""
    directive = r"^\.\. (py:currentmodule|py:data|auto\w+):: (\w[\w.]*)$"
    for kind, name in re.findall(directive, PAGES["docs/api.md"], re.MULTILINE):
        if kind == "py:currentmodule":
            module = name
        else:
            documented.append(f"{module}.{name}")
    assert sorted(documented) == sorted(PUBLIC)


def test_the_manual_has_every_public_name() -> None:
    """Each public name occurs on a page besides the API reference."""
    assert_occurs({name.rpartition(".")[2] for name in PUBLIC}, MANUAL)


def test_the_manual_has_every_argument() -> None:
    """Each argument of a client, its methods, its settings and a gateway occurs in the manual."""
    assert_occurs(ARGUMENTS, MANUAL)


def test_the_manual_has_every_option() -> None:
    """Each long option of the command line occurs in the manual."""
    assert_occurs(OPTIONS, MANUAL)


def test_the_page_on_settings_has_every_variable() -> None:
    """Each variable of the environment that the package reads occurs on the page on settings."""
    assert_occurs(VARIABLES, code_of("docs/sites.md"))


def test_the_page_on_errors_has_every_error() -> None:
    """Each class of errors occurs on the page on errors."""
    assert_occurs(ERRORS, code_of("docs/errors.md"))


@pytest.mark.parametrize("command", ["", *cli.commands])
def test_the_help_of_every_command_is_shown(command: str) -> None:
    """docs/command-line.md shows the help of each command once; the build generates it."""
    tags = [block.tag for block in blocks(PAGES["docs/command-line.md"])]
    assert tags.count(f"{{command-help}} {command}".strip()) == 1
