"""Prompts made from rows of any source: templates, columns, ids and empty cells."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from aichatfree.testing import FakeSite
from helpers import ClientFor, echo

ROWS: list[dict[str, Any]] = [
    {"id": 7, "review": "good", "stars": 5},
    {"id": 8, "review": "bad", "stars": None},
]


def polars_frame() -> Any:
    return pytest.importorskip("polars").DataFrame(ROWS)


def parquet_file(folder: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    path = folder / "rows.parquet"
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(ROWS), path)
    return path


def text_file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


SOURCES: dict[str, Callable[[Path], Any]] = {
    "CSV": lambda folder: text_file(folder, "r.csv", "id,review,stars\n7,good,5\n8,bad,\n"),
    "TSV": lambda folder: text_file(folder, "r.tsv", "id\treview\tstars\n7\tgood\t5\n8\tbad\t\n"),
    "JSON lines": lambda folder: text_file(
        folder, "r.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS)
    ),
    "Parquet": parquet_file,
    "pandas": lambda folder: pd.DataFrame(ROWS, index=["x", "y"]),
    "Polars": lambda folder: polars_frame(),
    "dicts": lambda folder: ROWS,
    "a generator": lambda folder: iter(ROWS),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_template_makes_a_prompt_of_each_row(
    client_for: ClientFor, tmp_path: Path, kind: str
) -> None:
    """Names in braces stand for the cells of a row, and id= names the column that identifies it."""
    with FakeSite(echo) as site:
        batch = client_for(site.url).batch(
            SOURCES[kind](tmp_path), template="Classify: {review}", id="id"
        )
        results = [(result.custom_id, result.index, result.text) for result in batch]
    assert results == [("7", 0, "echo Classify: good"), ("8", 1, "echo Classify: bad")]


@pytest.mark.parametrize("kind", SOURCES)
def test_a_column_may_have_the_prompts(client_for: ClientFor, tmp_path: Path, kind: str) -> None:
    """column= names the column whose cells are the prompts; the ids are then positions."""
    with FakeSite(echo) as site:
        batch = client_for(site.url).batch(SOURCES[kind](tmp_path), column="review")
        results = [(result.custom_id, result.text) for result in batch]
    assert results == [("0", "echo good"), ("1", "echo bad")]


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if kind != "a generator"])
@pytest.mark.parametrize("place", ["template", "id", "column"])
def test_a_column_that_does_not_exist_is_an_error_before_anything_is_sent(
    client_for: ClientFor, tmp_path: Path, kind: str, place: str
) -> None:
    """The error names the columns that exist, and the one that was probably meant."""
    options: dict[str, Any] = {
        "template": {"template": "Classify: {reviw}"},
        "id": {"template": "{stars}", "id": "Reviews"},
        "column": {"column": "REVIEW"},
    }[place]
    words = r"does not have the column .*'id', 'review', 'stars'.* Did you mean 'review'\?"
    with FakeSite(echo) as site:
        with pytest.raises(ValueError, match=words):
            client_for(site.url).batch(SOURCES[kind](tmp_path), **options)
        assert site.requests == []


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if kind != "a generator"])
def test_an_empty_cell_that_a_prompt_needs_is_an_error_unless_such_rows_are_skipped(
    client_for: ClientFor, tmp_path: Path, kind: str
) -> None:
    """The error names the row and the column; skip_empty=True leaves the row out.

    The other rows keep their positions.
    """
    source, template = SOURCES[kind](tmp_path), "{review}: {stars}"
    with FakeSite(echo) as site:
        with pytest.raises(
            ValueError, match=r"(line|row|prompt) [23]: the column 'stars' is empty"
        ):
            client_for(site.url).batch(source, template=template)
        assert site.requests == []
        batch = client_for(site.url).batch(source, template=template, skip_empty=True)
        assert [(result.index, result.custom_id) for result in batch] == [(0, "0")]
        assert batch.summary.complete


def test_results_are_in_order_when_rows_are_skipped(client_for: ClientFor) -> None:
    """Skipped rows leave gaps in the positions of the results, and nothing waits for them."""
    rows = [{"q": "" if n % 3 == 1 else f"question {n}"} for n in range(30)]
    with FakeSite(echo) as site:
        batch = client_for(site.url).batch(rows, column="q", skip_empty=True, max_workers=4)
        results = [(result.index, result.text) for result in batch]
    assert results == [(n, f"echo question {n}") for n in range(30) if n % 3 != 1]


def test_a_batch_of_empty_rows_has_no_prompts(client_for: ClientFor) -> None:
    """If all rows are skipped, that is an error as for an empty input."""
    with FakeSite(echo) as site, pytest.raises(ValueError, match="no prompts"):
        client_for(site.url).batch([{"q": " "}], column="q", skip_empty=True)


TEMPLATES = {
    "{a}": "x",
    "{{a}}": "{a}",
    "{{{a}}}": "{x}",
    'Answer as {{"stars": 5}}: {a b}!': 'Answer as {"stars": 5}: y z!',
    "{a}{a}\n{n}": "xx\n1.5",
    "{list} {a}": '["ä", 1] x',
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_how_templates_are_filled(client_for: ClientFor, template: str) -> None:
    """Double braces are braces; cells are text, with lists and dicts as JSON."""
    row: dict[str, Any] = {"a": "x", "b": "", "a b": "y z", "n": 1.5, "list": ["ä", 1]}
    prompt = TEMPLATES[template]
    if template == "{{a}}":
        template, prompt = template + "{a}", prompt + "x"
    with FakeSite(echo) as site:
        (result,) = client_for(site.url).batch([row], template=template)
    assert result.text == f"echo {prompt}"


BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "an opening brace": ({"template": "Hello {"}, r"character 7 .*write \{\{"),
    "a closing brace": ({"template": "{a}}"}, r"character 4 .*write \}\}"),
    "a brace within braces": ({"template": "{a{b}"}, "character 1 "),
    "no column": ({"template": "Hello"}, "names no column"),
    "a template and a column": ({"template": "{a}", "column": "a"}, "exclude each other"),
    "a template that is not text": ({"template": 5}, "template must be a str"),
    "an id that is not text": ({"column": "a", "id": 5}, "id must be a str"),
    "an id that is empty": ({"column": "a", "id": "b"}, "prompt 1: .*'b'.* empty"),
}


@pytest.mark.parametrize("kind", BAD_OPTIONS)
def test_options_that_cannot_be_used_are_errors(client_for: ClientFor, kind: str) -> None:
    """A template or an id that cannot be used is an error before anything is sent."""
    options, words = BAD_OPTIONS[kind]
    with FakeSite(echo) as site:
        with pytest.raises((TypeError, ValueError), match=words):
            client_for(site.url).batch([{"a": "x", "b": None}], **options)
        assert site.requests == []


def test_prompts_that_are_not_rows_have_no_columns(client_for: ClientFor) -> None:
    """A template for plain strings is an error that names what is needed."""
    with FakeSite(echo) as site, pytest.raises(TypeError, match=r"prompt 1: .*dicts, .* not str"):
        client_for(site.url).batch(["Hello"], template="{a}")


def test_the_column_custom_id_has_the_ids_unless_another_is_named(client_for: ClientFor) -> None:
    """Without id=, rows may have their ids in ``custom_id``, and then each id is used once."""
    rows: list[dict[str, Any]] = [{"custom_id": "a", "q": "x"}, {"custom_id": None, "q": "y"}]
    with FakeSite(echo) as site:
        client = client_for(site.url)
        assert [result.custom_id for result in client.batch(rows, column="q")] == ["a", "1"]
        with pytest.raises(ValueError, match="prompt 2: the custom_id 'a' is used twice"):
            client.batch([rows[0], rows[0]], column="q")


def test_dicts_with_prompts_may_have_their_ids_in_any_key(client_for: ClientFor) -> None:
    """id= also applies to dicts that have a prompt, without a template."""
    with FakeSite(echo) as site:
        (result,) = client_for(site.url).batch([{"prompt": "x", "key": 3}], id="key")
    assert (result.custom_id, result.text) == ("3", "echo x")


def test_missing_values_of_pandas_are_empty_cells(client_for: ClientFor) -> None:
    """None, NaN, NaT and NA are all empty cells."""
    missing = [None, float("nan"), pd.NaT, pd.NA]
    frame = pd.DataFrame({"q": pd.Series([*missing, "x"], dtype=object)})
    with FakeSite(echo) as site:
        batch = client_for(site.url).batch(frame, column="q", skip_empty=True)
        assert [(result.index, result.text) for result in batch] == [(4, "echo x")]


def test_a_frame_without_a_template_needs_a_column_of_prompts(client_for: ClientFor) -> None:
    """Rows without template= or column= have their prompts in the column ``prompt``."""
    with FakeSite(echo) as site:
        client = client_for(site.url)
        (result,) = client.batch(pd.DataFrame({"prompt": ["x"]}))
        assert result.text == "echo x"
        with pytest.raises(
            ValueError, match=r"DataFrame does not have .*'prompt', only 'q'.*column="
        ):
            client.batch(pd.DataFrame({"q": ["x"]}))


def test_a_frame_with_a_column_twice_is_refused(client_for: ClientFor) -> None:
    """Two columns of the same name are an error, because it would not be clear which is meant."""
    frame = pd.DataFrame([["x", "y"]], columns=["q", "q"])
    with (
        FakeSite(echo) as site,
        pytest.raises(ValueError, match="DataFrame has the column 'q' twice"),
    ):
        client_for(site.url).batch(frame, column="q")


def test_a_file_that_is_not_parquet_is_refused(client_for: ClientFor, tmp_path: Path) -> None:
    """A broken Parquet file is an error that names it."""
    pytest.importorskip("pyarrow")
    path = tmp_path / "r.parquet"
    path.write_bytes(b"nonsense, but long enough")
    with FakeSite(echo) as site, pytest.raises(ValueError, match=r"r\.parquet: not a Parquet file"):
        client_for(site.url).batch(path, column="q")


def test_without_pyarrow_the_error_says_how_to_install_it(
    client_for: ClientFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parquet files need an extra, and only they do."""
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "r.parquet").touch()
    client = client_for("http://127.0.0.1:1")
    with pytest.raises(ImportError, match=r"pip install .*\[parquet\]"):
        client.batch(tmp_path / "r.parquet", column="q")
    with pytest.raises(ImportError, match=r"pip install .*\[parquet\]"):
        client.batch(["x"], output=tmp_path / "a.parquet")
