"""CSV files as the input of a batch: encodings, separators, and where a broken one is broken."""

from __future__ import annotations

import codecs
import csv
import io
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aichatfree.batch._tables.csv_files import read_csv
from aichatfree.testing import FakeSite
from helpers import ClientFor, echo

TEXT = 'id,review\n1,"größer, aber\n""gut"""\n2,好\n'
ROWS = [{"id": "1", "review": 'größer, aber\n"gut"'}, {"id": "2", "review": "好"}]


def rows_of(path: Path) -> list[dict[str, str]]:
    return [row for _, row in read_csv(path).each]


ENCODINGS = {
    "UTF-8": TEXT.encode(),
    "UTF-8 with a byte order mark": TEXT.encode("utf-8-sig"),
    "UTF-16, little endian": codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
    "UTF-16, big endian": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
}


@pytest.mark.parametrize("kind", ENCODINGS)
def test_the_encodings_of_excel_are_read(tmp_path: Path, kind: str) -> None:
    """UTF-8, with or without a byte order mark, and UTF-16 with one are recognised."""
    path = tmp_path / "r.csv"
    path.write_bytes(ENCODINGS[kind])
    assert rows_of(path) == ROWS


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends_are_recognised(
    tmp_path: Path, separator: str, line_end: str
) -> None:
    """Commas, semicolons and tabs are recognised by the header, whose quoted names may have all."""
    path = tmp_path / "r.csv"
    lines = [["id", "a;b,c\td"], ["1", "x,y;z"], [], ["2", 'a "quote"']]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator=line_end).writerows(lines)
    path.write_bytes(text.getvalue().encode())
    assert rows_of(path) == [dict(zip(lines[0], line, strict=True)) for line in lines[1:] if line]


def test_a_table_of_one_column_needs_no_separator(tmp_path: Path) -> None:
    """A file without separators is a table of one column; blank lines before it do not matter."""
    path = tmp_path / "r.csv"
    path.write_text("\nreview\ngood\n\nbad\n")
    assert rows_of(path) == [{"review": "good"}, {"review": "bad"}]


def test_a_cell_may_be_a_long_document(tmp_path: Path) -> None:
    """A cell may have more characters than Python's limit for cells, which is 131,072."""
    path, document = tmp_path / "documents.csv", "a line\n" * 100_000
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "document"], ["1", document]])
    assert [row for _, row in read_csv(path).each] == [{"id": "1", "document": document}]


def test_columns_without_a_name_are_named_by_their_position(tmp_path: Path) -> None:
    """An index that pandas wrote, and empty columns of Excel, do not make a table unusable."""
    path = tmp_path / "r.csv"
    path.write_text(",review,\n0,good,\n")
    assert rows_of(path) == [{"Unnamed: 0": "0", "review": "good", "Unnamed: 2": ""}]


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)


@given(table=st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=5))
@settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_table_that_was_written_is_read(tmp_path: Path, table: list[list[str]]) -> None:
    """What the csv module writes is read again, whatever the cells contain."""
    path = tmp_path / "r.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["a", "b"], *table])
    assert rows_of(path) == [dict(zip("ab", row, strict=True)) for row in table]


BAD: dict[str, tuple[bytes, str]] = {
    "no header": (b"1,good\n2,bad\n", r"header of .*\(line 1\) .*'review', only '1', 'good'"),
    "an empty file": (b"", "line 1: the file is empty"),
    "a column twice": (b"review,id,review\na,1,b\n", r"\(line 1\) has the column 'review' twice"),
    "a million columns": (
        b",".join(b"%d" % n for n in range(1_000_000)) + b"\n",
        r"\(line 1\) has 1,000,000 columns",
    ),
    "an open quote": (b'id,review\n1,"a\n2,b\n3,c\n', "line 2: not CSV .*quote"),
    "a quote over several lines": (b'id,review\n0,x\n1,"a\n2,"b"\n', "line 3: not CSV .*quote"),
    "an open quote in the header": (b'id,"review\n1,a\n', "the header is not CSV"),
    "a quote in the header that is never closed": (
        b'id,"review\n' + (b"1," + b"a" * 97 + b"\n") * 180_000,
        "the header is not CSV",
    ),
    "a quote in the middle of the header": (b'5" id,review\n1,a "b"\n', "the header is not CSV"),
    "too many cells": (b"id,review\n1,a\n2,b, c\n", "line 3: the row has 3 cells.*header has 2"),
    "too few cells": (b"id,review\n1\n", "line 2: the row has 1 cells"),
    "NUL": (b"id,review\n1,a\n2,b\0\n", "line 3: a NUL"),
    "UTF-16 without a byte order mark": (TEXT.encode("utf-16-le"), "line 1: a NUL.*UTF-8"),
    "Windows-1252": ("id,review\n1,größer\n".encode("cp1252"), "line 2: .*0xF6.*iconv"),
    "mixed encodings": (
        "id,review\n1,größer\n".encode() + "2,größer\n".encode("cp1252"),
        "line 3: the byte 0xF6 at column 5 is not UTF-8.*correct this one",
    ),
    "half a character of UTF-16": (
        (TEXT + "3,\ud800\n").encode("utf-16", "surrogatepass"),
        "line 5",
    ),
    "half a unit of UTF-16": (TEXT.encode("utf-16") + b"x", "after line 4: not UTF-16"),
    "an id twice": (b"id,review\n1,a\n1,b\n", "line 3: .*'1' is used twice"),
    "a line without an end": (b"id,review\n1," + b"x" * (1 << 24), "line 2: longer than"),
    "a quote without an end": (b'id,review\n1,"' + b"x\n" * 100_000, "line 2: not CSV .*quote"),
    "a quote without an end in a long file": (
        b'id,review\n1,"' + (b"x" * 1000 + b"\n") * 17_000,
        "line 2: not CSV .*field limit.*quote",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_broken_table_is_an_error_with_file_and_line(
    client_for: ClientFor, tmp_path: Path, kind: str
) -> None:
    """Nothing is sent or written for a table that cannot be read as a whole."""
    content, words = BAD[kind]
    path = tmp_path / "reviews.csv"
    path.write_bytes(content)
    with FakeSite(echo) as site:
        with pytest.raises(ValueError, match=words) as caught:
            client_for(site.url).batch(
                path, template="{review}", id="id", output=tmp_path / "out.csv"
            )
        assert "reviews.csv" in str(caught.value)
        assert len(str(caught.value)) < 2000
        assert site.requests == []
    assert [each.name for each in tmp_path.iterdir()] == ["reviews.csv"]


def test_a_table_of_any_length_is_read_with_the_same_memory(tmp_path: Path) -> None:
    """Reading 100,000 rows needs less than a megabyte."""
    path = tmp_path / "r.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["id", "review"], *([n, f"review {n}"] for n in range(100_000))]
        )
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_csv(path).each) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
