"""The example that answers a column of pandas, run as a user runs it."""

from __future__ import annotations

import csv
import itertools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from string import ascii_uppercase

import pandas as pd
import pytest

from aichatfree.testing import Answer, FakeSite, Request
from helpers import LONG, ClientFor, echo, terminal, wait_until

EXAMPLE = [sys.executable, str(Path(__file__).parents[2] / "examples" / "pandas_column.py")]
PROMPTS = [f"Name a river that begins with {letter}." for letter in ascii_uppercase]

#: Threads of the example's batch: the default.
WORKERS = 16

#: Seconds for the start of the example, which imports pandas.
START = 2 * LONG


@pytest.fixture(autouse=True)
def in_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows() -> list[dict[str, str]]:
    """The table that the example wrote; a missing value is an empty cell."""
    with open("alphabet.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run_to_the_end(site: FakeSite) -> None:
    environment = {**os.environ, "AICHATFREE_BASE_URL": site.url}
    done = subprocess.run(EXAMPLE, env=environment, capture_output=True, text=True, timeout=START)
    assert done.returncode == 0, done.stderr


def test_an_interrupted_column_can_be_continued() -> None:
    """After Ctrl-C and a second run each prompt was sent once, and each answer is in its row."""
    numbers, answer_the_rest = itertools.count(), threading.Event()

    def answer(request: Request) -> str:
        if next(numbers) >= 8:
            assert answer_the_rest.wait(START)
        return echo(request)

    with FakeSite(answer) as site:
        with terminal(*EXAMPLE, url=site.url, command=[]) as session:
            session.wait_for(" 8/26 [", seconds=START)
            wait_until(lambda: len(site.requests) == 8 + WORKERS)
            session.interrupt()
            session.wait_for("Ctrl-C again")
            answer_the_rest.set()
            session.wait_for("run the same again to continue")
            assert session.finish() == -signal.SIGINT
        assert len(site.requests) == 8 + WORKERS
        run_to_the_end(site)
    assert sorted(request.text for request in site.requests) == PROMPTS
    assert [row["letter"] for row in rows()] == list(ascii_uppercase)
    assert [row["river"] for row in rows()] == [f"echo {prompt}" for prompt in PROMPTS]


def test_a_failure_is_a_missing_value_beside_its_error() -> None:
    """The row of a failed prompt has its error but no answer; the next run sends only that one."""

    def refuse_x(request: Request) -> str | Answer:
        refused = "with X" in request.text
        return Answer(status=400, body="no such river") if refused else "a river"

    with FakeSite(refuse_x) as site:
        run_to_the_end(site)
        failed = [row for row in rows() if not row["river"]]
        run_to_the_end(site)
    assert [row["letter"] for row in failed] == ["X"]
    assert "no such river" in failed[0]["error"]
    assert [row["error"] for row in rows() if row["river"]] == [""] * 25
    assert [request.text for request in site.requests[26:]] == [PROMPTS[23]]


@pytest.mark.parametrize("dtype", ["object", "string"])
def test_a_missing_prompt_is_an_error_before_anything_is_sent(
    dtype: str, client_for: ClientFor
) -> None:
    """A missing value of pandas (NaN, None or NA) is named by its place in a TypeError."""
    prompts = pd.Series(["Name a river.", None], dtype=dtype)
    with FakeSite() as site, pytest.raises(TypeError, match="prompt 2: a prompt is a str"):
        client_for(site.url).batch(prompts.tolist())
    assert site.requests == []
