"""The output of a batch as a table: its columns, its formats, and what becomes of other files."""

from __future__ import annotations

import csv
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import aichatfree
from aichatfree.batch import BatchResult
from aichatfree.batch._journal import Journal
from aichatfree.batch._prompts import Items
from aichatfree.batch._table import write_table
from aichatfree.batch._tables.row_prompts import RowPrompts
from aichatfree.testing import Answer, FakeSite, Request
from helpers import UNREACHABLE, ClientFor, echo

from .journals import ids_in, table_of

TEMPLATE = "Classify: {review}"

#: The columns that a batch adds.
ADDED = ["answer", "error", "attempts", "elapsed", "time_to_first_chunk", "site"]


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_text('id,review\n07,good\n8,"bad,\nreally"\n9,\n10,=SUM(A1)\n')
    return path


def refuse_bad(request: Request) -> Answer:
    if "bad" in request.text:
        return Answer(status=400, body="no such thing")
    return Answer(echo(request))


def test_a_table_has_the_input_and_the_answers(
    client_for: ClientFor, reviews: Path, tmp_path: Path
) -> None:
    """Each row of the input has its answer or its error, in the order of the input.

    Cells of the input and answers are written as they are, also if they begin with "=".
    """
    output = tmp_path / "out.csv"
    with FakeSite(refuse_bad) as site:
        client_for(site.url).batch(
            reviews, template=TEMPLATE, id="id", output=output, skip_empty=True
        ).run()
    header, good, bad, skipped, formula = table_of(output)
    assert header == ["id", "review", *ADDED]
    assert good[:5] == ["07", "good", "echo Classify: good", "", "1"]
    assert float(good[5]) >= float(good[6]) >= 0
    assert good[7] == bad[7] == site.url
    assert bad[:3] == ["8", "bad,\nreally", ""]
    assert bad[3].startswith("BadRequestError: The site answered 400 (no such thing)")
    assert skipped == [
        "9",
        "",
        "",
        "skipped, because a cell that the prompt needs is empty",
        *[""] * 4,
    ]
    assert formula[1:3] == ["=SUM(A1)", "echo Classify: =SUM(A1)"]
    assert sorted(ids_in(tmp_path / "out.csv.jsonl")) == ["07", "10"]
    assert ids_in(tmp_path / "out.csv.errors.jsonl") == ["8"]
    assert not list(tmp_path.glob(".*"))


def test_a_second_run_completes_the_table(
    client_for: ClientFor, reviews: Path, tmp_path: Path
) -> None:
    """The next run sends what failed and replaces the table."""
    output = tmp_path / "out.csv"
    options: dict[str, Any] = {"template": TEMPLATE, "output": output, "skip_empty": True}
    with FakeSite(refuse_bad) as site:
        client_for(site.url).batch(reviews, **options).run()
    with FakeSite(echo) as site:
        assert client_for(site.url).batch(reviews, **options).run().reused == 2
        assert len(site.requests) == 1
    answers = [row[2] for row in table_of(output)[1:]]
    assert answers[:2] == ["echo Classify: good", "echo Classify: bad,\nreally"]


def test_the_next_table_looks_like_its_input(client_for: ClientFor, tmp_path: Path) -> None:
    """A CSV table has the separator of its input, and a byte order mark if that had one."""
    path, output = tmp_path / "reviews.csv", tmp_path / "out.csv"
    path.write_bytes("id;review\r\n1;größer, schöner\r\n".encode("utf-16"))
    with FakeSite(echo) as site:
        client_for(site.url).batch(path, column="review", output=output).run()
    text = output.read_bytes().decode("utf-8-sig")
    assert output.read_bytes().startswith(b"\xef\xbb\xbf")
    header, row = text.splitlines()
    assert header.split(";") == ["id", "review", *ADDED]
    assert row.startswith("1;größer, schöner;echo größer")


def test_answers_with_any_characters_are_read_as_they_were(
    client_for: ClientFor, tmp_path: Path
) -> None:
    """Separators, quotes and line ends of all kinds in an answer do not break the table."""
    answer = 'a,b;c\t"d"\r\ne\rf\ng\u2028\x0bh'
    with FakeSite([Answer(answer)]) as site:
        client_for(site.url).batch(["x"], output=tmp_path / "out.csv").run()
    assert table_of(tmp_path / "out.csv")[1][:2] == ["x", answer]


SOURCES: dict[str, tuple[Any, list[str], list[str]]] = {
    "strings": (["x"], ["prompt"], ["x"]),
    "messages": (
        [[{"role": "user", "content": "x"}]],
        ["messages"],
        ['[{"role": "user", "content": "x"}]'],
    ),
    "dicts": ([{"prompt": "x", "n": 1.5, "none": None}], ["prompt", "n", "none"], ["x", "1.5", ""]),
    "a lazy iterable": (iter(["x"]), ["custom_id"], ["0"]),
    "pandas": (pd.DataFrame({"prompt": ["x"], "n": [1]}), ["prompt", "n"], ["x", "1"]),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_can_have_a_table(client_for: ClientFor, tmp_path: Path, kind: str) -> None:
    """What can be read again keeps its columns; for a lazy input the ids are all there is."""
    source, columns, cells = SOURCES[kind]
    with FakeSite(echo) as site:
        client_for(site.url).batch(source, output=tmp_path / "out.csv").run()
    header, row = table_of(tmp_path / "out.csv")
    assert header == [*columns, *ADDED]
    assert row[: len(columns) + 1] == [*cells, "echo x"]


def test_a_table_in_parquet_has_types(client_for: ClientFor, tmp_path: Path) -> None:
    """Numbers, times and missing values stay what they are; mixed columns and lists become text."""
    parquet = pytest.importorskip("pyarrow.parquet")
    frame = pd.DataFrame(
        {
            "q": ["x", "y"],
            "n": [1, 2],
            "when": pd.to_datetime(["2026-01-01", None]),
            "mixed": [1, "one"],
            "list": [[1, "one"], None],
        }
    )
    first, second = tmp_path / "out.parquet", tmp_path / "again.parquet"
    with FakeSite(echo) as site:
        client_for(site.url).batch(frame, column="q", output=first).run()
    table = parquet.read_table(first)
    kinds = {field.name: str(field.type) for field in table.schema}
    assert (kinds["n"], kinds["mixed"], kinds["list"]) == ("int64", "string", "string")
    assert kinds["when"].startswith("timestamp")
    assert (kinds["answer"], kinds["attempts"], kinds["elapsed"]) == ("string", "int64", "double")
    row = table.to_pylist()[1]
    assert (row["when"], row["mixed"], row["list"], row["answer"]) == (None, "one", None, "echo y")
    assert (kinds["time_to_first_chunk"], kinds["site"]) == ("double", "string")
    given = table.drop(ADDED)
    parquet.write_table(given, tmp_path / "given.parquet")
    with FakeSite(echo) as site:
        client_for(site.url).batch(tmp_path / "given.parquet", column="q", output=second).run()
    assert parquet.read_table(second).schema.types[:5] == given.schema.types


def test_a_table_in_parquet_without_any_answer_has_the_same_types(
    client_for: ClientFor, tmp_path: Path
) -> None:
    """The types of the columns that are added do not depend on what was answered."""
    parquet = pytest.importorskip("pyarrow.parquet")
    output = tmp_path / "out.parquet"
    with FakeSite(Answer(status=400, body="no")) as site:
        client_for(site.url).batch([{"q": "x"}], column="q", output=output).close()
    schema = parquet.read_schema(output)
    assert [str(kind) for kind in schema.types[1:]] == [
        *("string", "string", "int64", "double", "double", "string")
    ]


def test_arrays_are_json_and_numbers_of_parquet_files_stay_nan(
    client_for: ClientFor, tmp_path: Path
) -> None:
    """A cell with an array of numpy is a list in CSV; NaN in a Parquet file is not made null."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    given = pyarrow.table({"q": ["x", "y"], "n": [float("nan"), None]})
    parquet.write_table(given, tmp_path / "given.parquet")
    frame = pd.DataFrame({"q": ["x"], "array": [pd.Series([1, 2]).to_numpy()]})
    with FakeSite(echo) as site:
        client = client_for(site.url)
        client.batch(tmp_path / "given.parquet", column="q", output=tmp_path / "out.parquet").run()
        client.batch(frame, column="q", output=tmp_path / "out.csv").run()
    assert str(parquet.read_table(tmp_path / "out.parquet")["n"].to_pylist()) == "[nan, None]"
    assert table_of(tmp_path / "out.csv")[1][:2] == ["x", "[1, 2]"]


@pytest.mark.parametrize("kind", ["a directory", "a device"])
def test_a_table_must_be_a_regular_file(client_for: ClientFor, tmp_path: Path, kind: str) -> None:
    """A table does not replace a directory or a device, such as /dev/full, through a link."""
    output = tmp_path / "out.csv"
    if kind == "a device":
        output.symlink_to("/dev/full")
    else:
        output.mkdir()
    with pytest.raises(OSError, match="not a regular file"):
        client_for(UNREACHABLE).batch(["x"], output=output)


def test_a_frame_is_returned_with_the_answers(client_for: ClientFor) -> None:
    """to_pandas() keeps the index and the types of a frame, and adds the answers to its rows."""
    frame = pd.DataFrame({"q": ["good", "bad", None], "n": [1, 2, 3]}, index=["a", "a", "c"])
    with FakeSite(refuse_bad) as site:
        batch = client_for(site.url).batch(frame, column="q", skip_empty=True)
        answers = batch.to_pandas()
    assert answers.index.to_list() == ["a", "a", "c"]
    assert answers["n"].dtype == frame["n"].dtype
    assert answers["answer"].fillna("").to_list() == ["echo good", "", ""]
    assert answers["error"].str.split(":").str[0].to_list()[1] == "BadRequestError"
    assert list(frame.columns) == ["q", "n"]


@pytest.mark.parametrize("lazy", [False, True])
def test_any_batch_can_become_a_frame(client_for: ClientFor, lazy: bool) -> None:
    """to_pandas() has the prompts of a list, and the ids of a lazy input, in their order."""
    prompts = [f"q{n}" for n in range(20)]
    with FakeSite(echo) as site:
        batch = client_for(site.url).batch(iter(prompts) if lazy else prompts, ordered=False)
        frame = batch.to_pandas()
    assert frame["answer"].to_list() == [f"echo {prompt}" for prompt in prompts]
    column = "custom_id" if lazy else "prompt"
    assert frame[column].to_list() == ([str(n) for n in range(20)] if lazy else prompts)


def test_to_pandas_needs_all_results(client_for: ClientFor) -> None:
    """A batch whose iteration has begun has returned results already, which is an error."""
    with FakeSite(echo) as site, client_for(site.url).batch(["a", "b"]) as batch:
        next(batch)
        with pytest.raises(Exception, match="instead of iterating"):
            batch.to_pandas()


@pytest.mark.parametrize("column", ADDED)
def test_a_column_of_the_input_is_never_replaced(
    client_for: ClientFor, tmp_path: Path, column: str
) -> None:
    """An input with a column that the table adds is an error before anything is sent."""
    rows = [{"q": "x"}, {"q": "y", column: "mine"}]
    with FakeSite(echo) as site:
        client = client_for(site.url)
        with pytest.raises(ValueError, match=f"column '{column}', which the table adds"):
            client.batch(rows, column="q", output=tmp_path / "out.csv")
        with pytest.raises(ValueError, match=f"column '{column}', which the table adds"):
            client.batch(rows, column="q").to_pandas()
        assert site.requests == []
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_is_not_from_a_batch_is_not_replaced(
    client_for: ClientFor, reviews: Path, tmp_path: Path
) -> None:
    """A file of the user's, and the input itself, are never overwritten."""
    output = tmp_path / "out.csv"
    output.write_text("mine\n")
    client = client_for(UNREACHABLE)
    with pytest.raises(ValueError, match=r"not from a batch.*out\.csv\.jsonl"):
        client.batch(reviews, column="review", output=output, skip_empty=True)
    with pytest.raises(ValueError, match="overwrite the file with the prompts"):
        client.batch(reviews, column="review", output=reviews, skip_empty=True)
    assert output.read_text() == "mine\n"
    assert {path.name for path in tmp_path.iterdir()} == {"out.csv", "reviews.csv"}


def test_a_refused_run_does_not_write_a_table(client_for: ClientFor, tmp_path: Path) -> None:
    """If the answers belong to other prompts, the table stays as it was."""
    output = tmp_path / "out.csv"
    with FakeSite(echo) as site:
        client = client_for(site.url)
        client.batch(["one"], output=output).run()
        before = output.read_bytes()
        with pytest.raises(ValueError, match="has changed"):
            client.batch(["other"], output=output)
    assert output.read_bytes() == before


def test_the_table_is_found_after_a_change_of_directory(
    client_for: ClientFor, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths are those of the time when the batch was made."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    with FakeSite(echo) as site:
        batch = client_for(site.url).batch(
            "reviews.csv", column="review", output="out.csv", skip_empty=True
        )
        next(batch)
        monkeypatch.chdir(elsewhere)
        batch.run()
    assert len(table_of(tmp_path / "out.csv")) == 5
    assert list(elsewhere.iterdir()) == []


def test_a_table_of_100_000_rows_needs_little_memory(tmp_path: Path) -> None:
    """While a table is written, only the ids of its rows and their places are in memory."""
    source, journal = tmp_path / "r.csv", tmp_path / "out.csv.jsonl"
    count = 100_000
    with source.open("w", newline="") as file:
        csv.writer(file).writerows([["q"], *([f"question {n} " + "x" * 200] for n in range(count))])
    Journal(journal, {}).close()
    with journal.open("w") as file:
        for n in range(count):
            row = {"custom_id": str(n), "prompt_digest": f"{n:016x}", "index": n, "text": "x" * 200}
            file.write(json.dumps(row, separators=(",", ":")) + "\n")
    items = Items(source, lambda *_: None, RowPrompts.from_arguments(column="q"))
    tracemalloc.start()
    try:
        write_table(tmp_path / "out.csv", journal, items)
        assert tracemalloc.get_traced_memory()[1] < 300 * count
    finally:
        tracemalloc.stop()
    assert len(table_of(tmp_path / "out.csv")) == count + 1


def test_results_of_a_journal_are_written_in_the_order_of_the_input(tmp_path: Path) -> None:
    """Without the input, a table has the ids of the journal, with failures among the answers."""
    path = tmp_path / "a.jsonl"
    journal = Journal(path, {})
    items = list(Items([f"q{n}" for n in range(4)], lambda *_: None, RowPrompts()))
    for n in (2, 0, 3, 1):
        error = ValueError("no") if n == 3 else None
        journal.append(items[n], BatchResult(str(n), n, f"answer {n}", error))
    journal.close()
    write_table(tmp_path / "out.csv", path, None)
    rows = [row[:3] for row in table_of(tmp_path / "out.csv")[1:]]
    assert rows == [
        *(["0", "answer 0", ""], ["1", "answer 1", ""], ["2", "answer 2", ""]),
        ["3", "", "ValueError: no"],
    ]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_link_to_itself_is_an_ordinary_error(tmp_path: Path, suffix: str) -> None:
    """A path that is a link to itself cannot be read, and fails like any other missing file."""
    link = tmp_path / f"link{suffix}"
    link.symlink_to(link)
    with aichatfree.Client(UNREACHABLE) as client, pytest.raises(OSError, match="link"):
        client.batch(link, output=tmp_path / "answers.jsonl")
