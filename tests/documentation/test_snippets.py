"""What the README and the pages of ``docs/`` show runs as it is shown.

The tag of a fenced block decides what is done with it. The blocks of a page that run do so from top
to bottom, as one script in one empty folder.
"""

from __future__ import annotations

import configparser
import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from aichatfree.gateway import Gateway
from aichatfree.testing import Answer, FakeSite
from helpers import PAGES, ROOT, Block, blocks, paste

#: How many blocks each page has that cannot run; the reason is in a comment above each of them.
NOT_RUN: dict[str, int] = {}

RUN = ("python", "ipython", "console")
NOT_CHECKED = ("sh", "text", "nginx")  # ``sh`` changes the machine: packages and services
DIRECTIVE = re.compile(r"\{(toctree|eval-rst|command-help|glossary|note|warning|figure|image)\}.*")

ON_THE_MODEL = "<!-- site: model -->"
every_page = pytest.mark.parametrize("page", PAGES)


@contextmanager
def site_of(page: str) -> Iterator[str]:
    """The URL of the embedded model for a page that asks for it, else of a site that is fast."""
    if ON_THE_MODEL in PAGES[page]:
        with Gateway() as gateway:
            yield gateway.url
    else:
        with FakeSite(Answer("The ", "Nile.")) as site:
            yield site.url


class Script:
    """Runs the blocks of one page, which share their variables and the current folder."""

    def __init__(self, page: str, url: str, folder: Path) -> None:
        self._page = page
        self._url = url
        self._folder = folder
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._shell: InteractiveShell | None = None

    def run(self, block: Block) -> None:
        """Run a block, which must not fail."""
        runners = {"python": self._python, "ipython": self._ipython, "console": self._console}
        runners[block.tag](block)

    def _python(self, block: Block) -> None:
        # The empty lines give tracebacks the line numbers of the page.
        code = compile("\n" * (block.line - 1) + block.text, self._page, "exec")
        exec(code, self._names)

    def _ipython(self, block: Block) -> None:
        if self._shell is None:
            config = Config({"HistoryManager": {"enabled": False}})
            self._shell = InteractiveShell(config=config, user_ns=self._names)
        self._shell.run_cell(block.text).raise_error()

    def _console(self, block: Block) -> None:
        for line in block.text.splitlines():
            assert line.startswith("$ "), f"{self._page}: not a command: {line}"
            paste(line[2:], url=self._url, folder=self._folder)


def can_run_here(block: Block) -> bool:
    """Whether this Python has the libraries of a block, which may say ``below python: 3.14``.

    LangChain cannot be installed on newer ones; see `tests/gateway/openai_clients.py`.
    """
    limit = block.marker("below python")
    return limit is None or sys.version_info < tuple(map(int, limit.split(".")))


def of_the_model(page: str) -> Any:
    # One process at a time: the model computes on all cores.
    marks = [pytest.mark.xdist_group("embedded model")] if ON_THE_MODEL in PAGES[page] else []
    return pytest.param(page, marks=marks)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", [of_the_model(page) for page in PAGES])
def test_the_snippets_and_commands_of_a_page_run(
    page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The Python blocks, notebook cells and commands of a page run from top to bottom."""
    to_run = [block for block in blocks(PAGES[page]) if block.tag in RUN]
    monkeypatch.chdir(tmp_path)
    Path("photo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with site_of(page) as url:
        monkeypatch.setenv("AICHATFREE_BASE_URL", url)
        script = Script(page, url, tmp_path)
        for block in to_run:
            if block.marker("not run") is None and can_run_here(block):
                script.run(block)


@every_page
def test_every_block_has_a_tag_that_decides_what_is_done_with_it(page: str) -> None:
    """A block whose tag is missing or misspelt would not be run without anybody noticing."""
    known = {*RUN, *NOT_CHECKED, *DATA}
    unknown = [
        f"line {block.line}: {block.tag!r}"
        for block in blocks(PAGES[page])
        if block.tag not in known and not DIRECTIVE.fullmatch(block.tag)
    ]
    assert not unknown


def test_the_blocks_that_do_not_run_are_counted() -> None:
    """Each block that is not run says why in a comment, and the list in this file has it."""
    counts = Counter(
        page for page, text in PAGES.items() for block in blocks(text) if block.marker("not run")
    )
    assert counts == NOT_RUN


def json_values(text: str) -> None:
    """Read a JSON value, or one in each line."""
    try:
        json.loads(text)
    except ValueError:
        for line in text.splitlines():
            json.loads(line)


DATA: dict[str, Callable[[str], object]] = {
    "json": json_values,
    "toml": tomllib.loads,
    "ini": configparser.ConfigParser(interpolation=None).read_string,
}


@every_page
def test_data_in_a_page_can_be_read(page: str) -> None:
    """JSON, TOML and INI files that a page shows are valid."""
    for block in blocks(PAGES[page]):
        if block.tag in DATA:
            DATA[block.tag](block.text)


@every_page
def test_every_extra_that_a_page_installs_exists(page: str) -> None:
    """A ``pip install ".[extra]"`` on a page names extras that the package has."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "setup.cfg")
    named = re.findall(r"(?:\.|aichatfree)\[([\w,-]+)\]", PAGES[page])
    assert {extra for group in named for extra in group.split(",")} <= set(
        settings["options.extras_require"]
    )


def test_ci_sets_up_as_the_readme_says() -> None:
    """The set-up commands for a new machine are exactly those that CI runs."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = [block.text.strip() for block in blocks(PAGES["README.md"]) if block.tag == "sh"]
    assert len(commands) == 2
    for command in commands:
        for part in command.split(" && "):
            assert part in script


PROMISES = {
    named
    for text in PAGES.values()
    for named in re.findall(r"`(tests/[\w/]*test_\w+\.py)(?:::(\w+))?`", text)
}


@pytest.mark.parametrize(("file", "name"), sorted(PROMISES))
def test_every_test_that_a_page_names_exists(file: str, name: str) -> None:
    """Each test that a page names exists."""
    assert f"def {name or 'test_'}" in (ROOT / file).read_text(encoding="utf-8")
