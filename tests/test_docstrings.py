from __future__ import annotations

import doctest
import inspect
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest

import aichatfree
import aichatfree.batch
import aichatfree.gateway
import aichatfree.testing
from aichatfree import Client
from aichatfree.testing import Answer, FakeSite, Request

MODULES = ["aichatfree"] + [
    module.name for module in pkgutil.walk_packages(aichatfree.__path__, "aichatfree.")
]
SNIPPETS = [
    snippet
    for module in map(import_module, MODULES)
    for snippet in doctest.DocTestFinder().find(module)
    if snippet.examples
]

CONVERSATION = {
    "Hello": Answer("Hello!"),
    "Name a river.": Answer("The ", "Nile."),
    "Name a lake.": Answer("Lake ", "Baikal."),
    "Where does it end?": Answer("In the Mediterranean ", "Sea."),
}


def answer(request: Request) -> Answer:
    return CONVERSATION[request.text.splitlines()[-1]]  # a system prompt may stand before it


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.name)
def test_every_snippet_runs(
    snippet: doctest.DocTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each prints what its docstring says; all that it is given is the package and a client."""
    monkeypatch.chdir(tmp_path)
    wrong: list[str] = []
    with FakeSite([answer]) as site, Client(site.url) as client:
        monkeypatch.setenv("AICHATFREE_BASE_URL", site.url)
        snippet.globs = {"aichatfree": aichatfree, "client": client}
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(snippet, out=wrong.append)
    assert not wrong, "".join(wrong)


CLASSES = [
    value
    for module in (aichatfree, aichatfree.batch, aichatfree.gateway, aichatfree.testing)
    for value in (getattr(module, name) for name in module.__all__)
    if inspect.isclass(value) and not issubclass(value, Exception)
]
METHODS = [
    method for name, method in inspect.getmembers(Client, callable) if not name.startswith("_")
]


@pytest.mark.parametrize("thing", [*CLASSES, *METHODS], ids=lambda thing: thing.__qualname__)
def test_what_users_reach_for_first_has_a_snippet(thing: object) -> None:
    """Each public class, and each method of a client, shows in its help() how it is used."""
    assert ">>> " in (inspect.getdoc(thing) or "")
