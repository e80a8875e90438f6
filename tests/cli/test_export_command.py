"""``aichatfree export``: the journal of a batch as a table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aichatfree.testing import FakeSite
from helpers import echo, run

BATCH = ["--prompt", "Classify: {review}", "--id", "key", "--skip-empty"]
INPUT = ["--input", "reviews.csv", "--id", "key"]


@pytest.fixture(autouse=True)
def answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current directory has reviews.csv, and a journal with answers to all rows but one."""
    monkeypatch.chdir(tmp_path)
    Path("reviews.csv").write_text("key,review\nb,bad\nc,\na,good\n")
    with FakeSite(echo) as site:
        done = run("batch", "reviews.csv", *BATCH, "-o", "answers.jsonl", url=site.url)
    assert done.returncode == 0, done.stderr


def test_a_journal_is_exported_without_its_input() -> None:
    """A table of the ids and the answers, in the order of the input, is written."""
    done = run("export", "answers.jsonl", "-o", "out.csv")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    lines = Path("out.csv").read_text().splitlines()
    assert lines[0] == "custom_id,answer,error,attempts,elapsed,time_to_first_chunk,site"
    assert [line.split(",")[:2] for line in lines[1:]] == [
        ["b", "echo Classify: bad"],
        ["a", "echo Classify: good"],
    ]


def test_an_export_with_the_input_has_all_its_rows() -> None:
    """With --input the table has the columns of the input, also of rows without an answer."""
    assert run("export", "answers.jsonl", "-o", "out.jsonl", *INPUT).returncode == 0
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [(row["key"], row["review"], row["answer"]) for row in rows] == [
        ("b", "bad", "echo Classify: bad"),
        ("c", "", None),
        ("a", "good", "echo Classify: good"),
    ]


@pytest.mark.parametrize("prompt", [BATCH[:2], ["--column", "review"]], ids=["text", "column"])
def test_an_export_tells_skipped_rows_from_those_without_an_answer(prompt: list[str]) -> None:
    """With the prompt of the batch, a row that --skip-empty skipped has an error that says so."""
    with Path("reviews.csv").open("a") as file:
        file.write("d,added after the batch\n")
    assert run("export", "answers.jsonl", "-o", "out.jsonl", *INPUT, *prompt).returncode == 0
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    skipped = "skipped, because a cell that the prompt needs is empty"
    assert {row["key"]: row["error"] for row in rows} == {
        "b": None,
        "c": skipped,
        "a": None,
        "d": None,
    }


def test_the_journal_of_a_table_is_found() -> None:
    """The name of a table stands for the journal beside it."""
    Path("answers.jsonl").rename("table.csv.jsonl")
    assert run("export", "table.csv", *INPUT, "-o", "so-far.csv").returncode == 0
    assert len(Path("so-far.csv").read_text().splitlines()) == 4


def test_the_journal_of_a_run_that_has_no_results_yet_is_exported() -> None:
    """With an empty journal the table has the rows of the input, all of them without an answer."""
    Path("answers.jsonl").write_text("")
    done = run("export", "answers.jsonl", "-o", "out.jsonl", *INPUT)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [(row["key"], row["answer"]) for row in rows] == [("b", None), ("c", None), ("a", None)]


def test_a_foreign_file_of_failures_is_named_with_the_line() -> None:
    """If the file of failures is not from a batch, the message has its name and the line."""
    Path("answers.errors.jsonl").write_text("mine\n")
    done = run("export", "answers.jsonl", "-o", "out.csv")
    assert done.returncode == 2
    assert b"answers.errors.jsonl, line 1: not a line of a batch's output" in done.stderr


WRONG = {
    "another format": (["answers.jsonl", "-o", "out.xlsx"], b"must end with .csv"),
    "no journal": (["none.jsonl", "-o", "out.csv"], b"The file 'none.jsonl' does not exist"),
    "no directory": (["answers.jsonl", "-o", "no/out.csv"], b"directory 'no' does not exist"),
    "a file that is not a journal": (["reviews.csv.jsonl", "-o", "out.csv"], b"line 1"),
    "the wrong ids": (["answers.jsonl", "-o", "out.csv", *INPUT[:2]], b"--id"),
    "an id without an input": (["answers.jsonl", "-o", "out.csv", "--id", "key"], b"--input"),
    "a prompt without an input": (["answers.jsonl", "-o", "o.csv", *BATCH[:2]], b"need --input"),
    "an id that is not a column": (
        ["answers.jsonl", "-o", "out.csv", *INPUT[:2], "--id", "kee"],
        b"Did you mean 'key'",
    ),
    "the journal as the output": (["answers.jsonl", "-o", "answers.jsonl"], b"another output"),
    "the input as the output": (["answers.jsonl", "-o", "reviews.csv", *INPUT], b"another output"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_exported_is_wrong_usage(kind: str) -> None:
    """The message says what is wrong, and no file is written or changed."""
    Path("reviews.csv.jsonl").write_text("not a journal\n")
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    arguments, words = WRONG[kind]
    done = run("export", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert b"Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before
