"""``aichatfree batch``: its input, output, progress bar and options."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from aichatfree.testing import Answer, FakeSite, Request
from helpers import COMMAND, LONG, SHORT, echo, run, terminal, wait_until


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "prompts.txt"
    path.write_text("one\ntwo\n")
    return str(path)


def test_batch_reads_and_writes_pipes() -> None:
    """Results are JSON lines in the order of the prompts; the exit code is 1 for failures.

    The summary and the last failure go to standard error.
    """

    def answer(request: Request) -> Answer:
        if request.text == "two":
            return Answer(status=400, body="no such thing")
        return Answer(echo(request))

    with FakeSite([answer]) as site:
        done = run("batch", url=site.url, stdin="one\n\ntwo\nПривет\n".encode())
    rows = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert [row.get("text") for row in rows] == ["echo one", None, "echo Привет"]
    assert rows[1]["error"]["type"] == "BadRequestError"
    assert done.returncode == 1
    assert b"2 answered, 1 failed" in done.stderr
    assert b"no such thing" in done.stderr


def test_batch_reads_json_lines_from_a_pipe() -> None:
    """Standard input may be JSON lines, whose ``custom_id`` is in the results."""
    with FakeSite([echo]) as site:
        done = run("batch", url=site.url, stdin=b'{"custom_id": "a", "prompt": "one"}\n')
    assert (done.returncode, json.loads(done.stdout)["custom_id"]) == (0, "a")


def test_rows_on_a_pipe_are_json_lines() -> None:
    """A template applies to rows on standard input if they are JSON lines, not CSV."""
    command = ["batch", "--prompt", "Classify: {review}", "--id", "id"]
    with FakeSite([echo]) as site:
        done = run(*command, url=site.url, stdin=b'{"id": 7, "review": "good"}\n')
        row = json.loads(done.stdout)
        assert (row["custom_id"], row["text"]) == ("7", "echo Classify: good")
        done = run(*command, url=site.url, stdin=b"id,review\n7,good\n")
        assert done.returncode == 2
        assert b"name a .csv file" in done.stderr
        assert len(site.requests) == 1


def test_a_progress_bar_is_shown_on_a_terminal_only(prompts: str, tmp_path: Path) -> None:
    """A terminal shows a bar and the summary; standard error in a pipe gets the summary only."""
    command = ["batch", prompts, "-o", str(tmp_path / "answers.jsonl")]
    with FakeSite([echo]) as site:
        with terminal(*command, url=site.url) as session:
            session.wait_for("2/2")
            session.wait_for("2 answered")
            assert session.finish() == 0
        quiet = run(*command, url=site.url)
    assert quiet.stdout == b""
    assert quiet.stderr.startswith(b"0 answered, 0 failed, 2 reused")


@pytest.mark.parametrize("columns", [40, 80])
def test_the_progress_bar_fits_on_the_terminal(columns: int, prompts: str, tmp_path: Path) -> None:
    """No count is cut off, and there is room for the ^C that the terminal shows."""
    command = ["batch", prompts, "-o", str(tmp_path / "answers.jsonl")]
    with (
        FakeSite(Answer(status=400, body="no")) as site,
        terminal(*command, url=site.url, columns=columns) as session,
    ):
        drawn = session.wait_for("failed=2]")
        assert session.finish() == 1
    assert "2/2" in drawn
    assert max(map(len, re.split("[\r\n]", f"{drawn}failed=2]"))) <= columns - len("^C")


def test_answers_on_a_terminal_are_not_mixed_with_a_progress_bar(prompts: str) -> None:
    """If the answers themselves are printed on a terminal, there is no progress bar."""
    with FakeSite([echo]) as site, terminal("batch", prompts, url=site.url) as session:
        answers = session.wait_for("2 answered").splitlines()
        assert session.finish() == 0
    assert [json.loads(line)["text"] for line in answers] == ["echo one", "echo two"]


OPTIONS = {
    "--column": (["--column", "q"], 0),
    "--max-workers": (["--column", "q", "--max-workers", "1"], 0),
    "--rpm": (["--column", "q", "--rpm", "6000"], 0),
    "--max-errors": (["--column", "q", "--max-errors", "0"], 0),
    "a missing column": ([], 2),
    "no workers": (["--column", "q", "--max-workers", "0"], 2),
    "an impossible rate limit": (["--column", "q", "--rpm", "0"], 2),
    "a directory that does not exist": (["--column", "q", "-o", "no/such/directory.jsonl"], 2),
    "Dask and the local model": (["--column", "q", "--dask", "x", "--local"], 2),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_batch_options(kind: str, tmp_path: Path) -> None:
    """Each option works, or is rejected with exit code 2 before anything is sent."""
    arguments, code = OPTIONS[kind]
    (tmp_path / "p.csv").write_text("q\none\ntwo\n")
    with FakeSite([echo]) as site:
        done = run("batch", str(tmp_path / "p.csv"), *arguments, url=site.url)
        assert done.returncode == code, done.stderr
        assert len(site.requests) == (0 if code else 2)
    assert b"Traceback" not in done.stderr


def test_an_output_of_other_prompts_is_wrong_usage(prompts: str, tmp_path: Path) -> None:
    """If the prompts have changed since the output was written, nothing is sent."""
    command = ["batch", prompts, "-o", str(tmp_path / "answers.jsonl")]
    with FakeSite([echo]) as site:
        assert run(*command, url=site.url).returncode == 0
        sent = len(site.requests)
        Path(prompts).write_text("other\n")
        done = run(*command, url=site.url)
        assert (done.returncode, len(site.requests)) == (2, sent)
    assert b"has changed" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_summary_names_the_file_of_the_failures(prompts: str, tmp_path: Path) -> None:
    """When prompts fail, the last line names the file that has them."""
    output = tmp_path / "a.jsonl"
    with FakeSite(Answer(status=400, body="no such thing")) as site:
        done = run("batch", prompts, "-o", str(output), url=site.url)
    assert str(tmp_path / "a.errors.jsonl").encode() in done.stderr.splitlines()[-1]


def test_a_fatal_error_is_reported_once(prompts: str, tmp_path: Path) -> None:
    """The error that stops a run is not repeated as its last failure."""
    with FakeSite(Answer(status=401, body="Invalid password")) as site:
        done = run("batch", prompts, "-o", str(tmp_path / "a.jsonl"), url=site.url)
    assert done.stderr.count(b"Invalid password") == 1


def test_a_run_that_stops_says_once_how_to_continue(prompts: str, tmp_path: Path) -> None:
    """The error that stops a run says how to continue it, and nothing repeats that."""
    with FakeSite(Answer(status=401, body="Invalid password")) as site:
        done = run("batch", prompts, "-o", str(tmp_path / "a.jsonl"), url=site.url)
    assert done.stderr.count(b"to continue") == 1


@pytest.mark.parametrize("answered", [0, 1])
def test_an_interrupted_run_says_what_is_finished(
    prompts: str, tmp_path: Path, answered: int
) -> None:
    """After Ctrl-C the output is said to have what is finished only if something is."""
    output = tmp_path / "a.jsonl"
    answers = [Answer("fine")] * answered + [Answer("half", end="stall")]
    with FakeSite(answers) as site:
        command = [*COMMAND, "batch", prompts, "-o", str(output), "--base-url", site.url]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            wait_until(lambda: len(site.requests) == 2)
            wait_until(lambda: output.read_bytes().count(b"\n") == answered)
            process.send_signal(signal.SIGINT)
            time.sleep(SHORT)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=LONG)
    assert b"Run it again to continue" in errors
    assert (b"has what is finished" in errors) == bool(answered)


def test_a_resumed_progress_bar_counts_reused_answers_separately(
    prompts: str, tmp_path: Path
) -> None:
    """The bar of a second run names the answers of the first one."""
    command = ["batch", prompts, "-o", str(tmp_path / "answers.jsonl")]
    with FakeSite([echo]) as site:
        run(*command, url=site.url)
        with terminal(*command, url=site.url) as session:
            session.wait_for("reused=2")
            assert session.finish() == 0
