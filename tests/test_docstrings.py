"""The examples in docstrings run."""

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
#: Run by the tests of their subject, because they need more than a client.
RUN_ELSEWHERE = {"aichatfree.batch._ray.RayExecutor": "tests/batch/test_ray.py"}
EXAMPLES = [
    example
    for module in map(import_module, MODULES)
    for example in doctest.DocTestFinder().find(module)
    if example.examples and example.name not in RUN_ELSEWHERE
]

CONVERSATION = {
    "Hello": Answer("Hello!"),
    "Name a river.": Answer("The ", "Nile."),
    "Name a lake.": Answer("Lake ", "Baikal."),
    "Where does it end?": Answer("In the Mediterranean ", "Sea."),
}


def answer(request: Request) -> Answer:
    return CONVERSATION[request.text.splitlines()[-1]]  # after a system prompt, if there is one


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_every_example_runs(
    example: doctest.DocTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each example in a docstring prints what it says, given only ``aichatfree`` and a client."""
    monkeypatch.chdir(tmp_path)
    wrong: list[str] = []
    with FakeSite([answer]) as site, Client(site.url) as client:
        monkeypatch.setenv("AICHATFREE_BASE_URL", site.url)
        example.globs = {"aichatfree": aichatfree, "client": client}
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=wrong.append)
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
def test_every_class_and_every_method_of_a_client_has_an_example(thing: object) -> None:
    """The docstring of each public class and each public method of Client has an example."""
    assert ">>> " in (inspect.getdoc(thing) or "")
