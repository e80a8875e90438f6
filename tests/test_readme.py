"""The README: its snippets and commands run, and the tests that it names exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import aichatfree
from aichatfree.gateway import Gateway
from helpers import paste

# One process at a time: the model computes on all cores.
pytestmark = pytest.mark.xdist_group("embedded model")

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def site() -> Iterator[Gateway]:
    with Gateway() as gateway:
        yield gateway


def test_every_python_snippet_runs(
    site: Gateway,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """The Python snippets run from top to bottom as one script, against the embedded model."""
    monkeypatch.setenv("AICHATFREE_BASE_URL", site.url)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for number, snippet in enumerate(blocks("python"), 1):
        exec(compile(snippet, f"README.md, snippet {number}", "exec"), names)
        print()
    printed = capsys.readouterr().out
    assert "True" in printed  # stream.complete
    assert "half of it" in printed
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 3


def test_every_line_of_the_migration_table_runs(site: Gateway) -> None:
    """Each replacement in the table for users of other libraries runs."""
    table = README.partition("## Coming from another library\n")[2].partition("\n## ")[0]
    lines = re.findall(r"\| `([^`|]+)` \|$", table, re.MULTILINE)
    assert len(lines) == table.count("\n|") - 2
    for line in lines:
        messages = [{"role": "user", "content": "Name a colour."}]
        names: dict[str, object] = {"aichatfree": aichatfree, "messages": messages}
        names |= {"client": aichatfree.Client(site.url), "url": site.url, "key": "secret"}
        exec(line, names)


@pytest.mark.parametrize(
    "line", [line[2:] for block in blocks("console") for line in block.splitlines()]
)
def test_every_command_runs(line: str, site: Gateway, tmp_path: Path) -> None:
    """Each command line works as pasted; of a server it is checked that it starts."""
    paste(line, url=site.url, folder=tmp_path)


def test_ci_sets_up_as_the_readme_says() -> None:
    """The set-up commands for a new machine are exactly those that CI runs."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = [block.strip() for block in blocks("sh")]
    assert len(commands) == 2
    for command in commands:
        for part in command.split(" && "):
            assert part in script


PROMISES = re.findall(r"`(tests/[\w/]*test_\w+\.py)(?:::(\w+))?`", README)


@pytest.mark.parametrize(("file", "name"), PROMISES)
def test_every_promise_has_its_test(file: str, name: str) -> None:
    """Each test that the README names exists."""
    assert f"def {name or 'test_'}" in (ROOT / file).read_text(encoding="utf-8")
