"""``aichatfree report``: the report of a batch as an HTML file."""

from __future__ import annotations

from pathlib import Path

import pytest

from aichatfree.testing import FakeSite
from helpers import echo, run


@pytest.fixture(autouse=True)
def answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current directory has the output of a batch."""
    monkeypatch.chdir(tmp_path)
    Path("p.txt").write_text("one\ntwo\n")
    with FakeSite(echo) as site:
        assert run("batch", "p.txt", "-o", "a.jsonl", url=site.url).returncode == 0


def test_a_report_is_written_beside_the_output() -> None:
    """Without -o the report has the name of the output, which is printed."""
    done = run("report", "a.jsonl")
    assert (done.returncode, done.stdout) == (0, b"Written to a.report.html.\n")
    assert "Prompts a " in Path("a.report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.jsonl"], b"none.jsonl"),
        (["p.txt"], b"line 1"),
        (["a.jsonl", "-o", "a.jsonl"], b"must end with .html"),
    ],
)
def test_what_cannot_be_reported_is_wrong_usage(arguments: list[str], words: bytes) -> None:
    """The message says what is wrong, and no file is written."""
    before = sorted(Path().iterdir())
    done = run("report", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert sorted(Path().iterdir()) == before
