"""Sizes that keep the code readable: a function fits on a screen, a file has one subject."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import aichatfree

MAX_FILE_LINES = 400
MAX_BODY_LINES = 40

PACKAGE = Path(aichatfree.__file__).parent
TESTS = Path(__file__).parent
FILES = {
    f"{directory.name}/{path.relative_to(directory)}": path
    for directory in (PACKAGE, TESTS)
    for path in sorted(directory.rglob("*.py"))
}


def lines_of(name: str) -> list[str]:
    return FILES[name].read_text(encoding="utf-8").splitlines()


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines from the first statement after the docstring to the end of the function."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def long_functions(name: str) -> Iterator[str]:
    for node in ast.walk(ast.parse("\n".join(lines_of(name)))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = body_lines(node)
            if length > MAX_BODY_LINES:
                yield f"{node.name}: {length} lines"


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_too_long(name: str) -> None:
    """Every file of the package and of the tests has at most 400 lines."""
    length = len(lines_of(name))
    assert length <= MAX_FILE_LINES


@pytest.mark.parametrize("name", FILES)
def test_no_function_is_too_long(name: str) -> None:
    """Every function of the package and of the tests has a body of at most 40 lines."""
    assert list(long_functions(name)) == []
