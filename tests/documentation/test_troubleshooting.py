"""Each error message leads to its entry in docs/troubleshooting.md.

An entry shows messages in a ``text`` block, one in each line, with ``…`` for what varies.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import aichatfree
from aichatfree import errors
from aichatfree._protocol import meanings
from helpers import PAGES, blocks

PACKAGE = Path(aichatfree.__file__).parent
ENTRIES = {
    line.strip()
    for block in blocks(PAGES["docs/troubleshooting.md"])
    if block.tag == "text"
    for line in block.text.splitlines()
}

#: So short a part of a message may be that of another one.
SHORTEST = 15


def template(node: ast.expr) -> str:
    """The text of a string, with ``…`` for what varies; ``""`` for other expressions."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) for part in node.values)
    return "…" if isinstance(node, ast.FormattedValue) else ""


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), ast.parse(path.read_text("utf-8"))


def raised(module: str, tree: ast.Module) -> Iterator[str]:
    """The messages of the errors that a module makes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            kind = getattr(errors, node.func.id, None)
            if isinstance(kind, type) and issubclass(kind, errors.AIChatFreeError):
                message = node.args[0]
                if isinstance(message, ast.Name):  # a constant, or else built from other messages
                    yield str(getattr(import_module(module), message.id, ""))
                else:
                    yield template(message)


def advice() -> Iterator[str]:
    """How the errors end that the response of a site causes."""
    for value in vars(meanings).values():
        for meaning in value.values() if isinstance(value, dict) else [value]:
            if isinstance(meaning, meanings.Meaning):
                yield meaning.advice


MESSAGES = {
    *advice(),
    *(message for module in modules() for message in raised(*module) if len(message) >= SHORTEST),
}
STRINGS = {
    template(node)
    for _, tree in modules()
    for node in ast.walk(tree)
    if isinstance(node, (ast.Constant, ast.JoinedStr))
}


def test_every_message_leads_to_an_entry() -> None:
    """The messages of all errors are shown in docs/troubleshooting.md, at least in part."""
    without = [text for text in sorted(MESSAGES) if not any(part in text for part in ENTRIES)]
    assert not without, "\n".join(without)


@pytest.mark.parametrize("entry", sorted(ENTRIES))
def test_every_entry_is_a_message(entry: str) -> None:
    """A message that docs/troubleshooting.md shows is one that the package can print."""
    assert len(entry) >= SHORTEST
    assert any(entry in text for text in STRINGS)
