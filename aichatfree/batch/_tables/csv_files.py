"""CSV files: what they are separated and encoded with, their rows, and where one is broken."""

from __future__ import annotations

import codecs
import csv
import io
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from .inputs import Input, Inputs, cell_text, check_columns
from .table import Table

SEPARATORS: Final = ",;\t"
MAX_LINE: Final = 1 << 24  # characters; of a cell, too

# What stands for a byte that is not text in the file's encoding.
_NOT_TEXT: Final = re.compile("[\ud800-\udfff]")
_QUOTED: Final = re.compile('"[^"]*"')
_AS_UTF8: Final = 'save the table as "CSV UTF-8"'


@dataclass(frozen=True)
class CsvFormat:
    """How a CSV file is written.

    Attributes:
        separator: between two cells.
        encoding: ``utf-8-sig`` and ``utf-16`` begin with a byte order mark, by which Excel knows
            that a file is not in the encoding of the machine.
    """

    separator: str = ","
    encoding: str = "utf-8"


@dataclass(frozen=True)
class Header:
    """The beginning of a CSV file.

    Attributes:
        format: how the file is written.
        columns: their names; those without one are called as in pandas.
        lines: of the file that belong to it, blank lines before it included.
    """

    format: CsvFormat
    columns: Sequence[str]
    lines: int


def read_csv(path: Path) -> Inputs:
    """The rows of a file as dicts of strings.

    Raises:
        ValueError: it has no header that can be used. A row that is not valid is an error in its
            place; where the rest of the file cannot be read, the iteration raises a ValueError.
        OSError: it cannot be read.
    """
    # It is a limit of the whole process, and the documents in a table are longer than its default.
    csv.field_size_limit(max(MAX_LINE, csv.field_size_limit()))
    header = read_header(path)
    name = f"the header of {path} (line {header.lines})"
    return Inputs(name, check_columns(header.columns, name), _rows(path, header))


def read_header(path: Path) -> Header:
    """Read the names of the columns, and find the separator and the encoding by them.

    Raises:
        ValueError: there is no header, or it cannot be read.
        OSError: the file cannot be read.
    """
    encoding = _encoding_of(path)
    header: list[str] = []
    number = quotes = size = 0
    with _lines_of(path, encoding) as lines:
        for line in lines:
            number += 1
            if header or line.strip():
                header.append(line)
                quotes += line.count('"')
                size += len(line)
            # A name in quotes may have line breaks.
            if (header and quotes % 2 == 0) or size > MAX_LINE:
                break
    if not header:
        raise ValueError(f"{path}, line 1: the file is empty, and needs a header")
    text = "".join(header)
    separator = max(SEPARATORS, key=_QUOTED.sub("", text).count)
    try:
        source = io.StringIO(text, newline="")
        cells, *more = csv.reader(source, delimiter=separator, strict=True)
    except csv.Error as error:
        raise ValueError(f"{path}, line {number}: the header is not CSV ({error})") from error
    if more:
        raise ValueError(f"{path}, line {number}: the header is not CSV (its quotes do not match)")
    columns = [name or f"Unnamed: {position}" for position, name in enumerate(cells)]
    return Header(CsvFormat(separator, encoding), columns, number)


def _rows(path: Path, header: Header) -> Iterator[Input]:
    expected = len(header.columns)
    with _lines_of(path, header.format.encoding) as lines:
        for _ in range(header.lines):
            next(lines)
        reader = csv.reader(lines, delimiter=header.format.separator, strict=True)
        while True:
            place = f"{path}, line {header.lines + reader.line_num + 1}"
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise ValueError(
                    f"{place}: not CSV ({error}). If a cell in this row begins with a quote, it "
                    "has to end with one, and quotes within it have to be doubled"
                ) from error
            if cells is None:
                return
            if len(cells) == expected:
                yield place, dict(zip(header.columns, cells, strict=True))
            elif cells:  # not a blank line
                yield (
                    place,
                    ValueError(
                        f"the row has {len(cells)} cells, but the header has {expected}: a cell "
                        "with a separator or a line break has to be in quotes"
                    ),
                )


# --- lines ------------------------------------------------------------------------------------


def _encoding_of(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(3)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig" if start == codecs.BOM_UTF8 else "utf-8"


@contextmanager
def _lines_of(path: Path, encoding: str) -> Iterator[Iterator[str]]:
    # These handlers let through what is not text, so that its line can be named.
    errors = "surrogatepass" if encoding == "utf-16" else "surrogateescape"
    with path.open(encoding=encoding, errors=errors, newline="") as file:
        yield _checked_lines(file, path)


def _checked_lines(file: TextIO, path: Path) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        try:
            line = file.readline(MAX_LINE)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}, after line {number - 1}: not UTF-16 ({error})") from error
        if not line:
            return
        problem = _problem_of(line, path)
        if problem is not None:
            raise ValueError(f"{path}, line {number}: {problem}")
        yield line


def _problem_of(line: str, path: Path) -> str | None:
    if len(line) == MAX_LINE and not line.endswith("\n"):
        return f"longer than {MAX_LINE:,} characters, which is not a table"
    if "\0" in line:
        return f"a NUL character, which is not text: {_AS_UTF8}"
    if line.isascii():
        return None
    found = _NOT_TEXT.search(line)
    if found is None:
        return None
    if found[0] < "\udc80" or found[0] > "\udcff":
        return f"half of a character at column {found.start() + 1}: {_AS_UTF8}"
    return (
        f"the byte 0x{ord(found[0]) - 0xDC00:02X} at column {found.start() + 1} is not UTF-8. If "
        f"the file is Windows-1252, as Excel writes it, {_AS_UTF8} or convert it: iconv -f "
        f"WINDOWS-1252 -t UTF-8 {shlex.quote(str(path))} > utf8.csv. If only some lines are, "
        "correct this one"
    )


# --- writing ----------------------------------------------------------------------------------


def write_csv(path: Path, table: Table) -> None:
    """Write a table, with the separator and the byte order mark of the file that it is like.

    A missing value is an empty cell. Cells that begin with ``=`` are written as they are.

    Raises:
        OSError: it cannot be written.
    """
    model = table.model(".csv")
    style = CsvFormat() if model is None else read_header(model).format
    encoding = "utf-8" if style.encoding == "utf-8" else "utf-8-sig"
    with path.open("w", encoding=encoding, errors="replace", newline="") as file:
        writer = csv.writer(_Lines(file), delimiter=style.separator)
        writer.writerow(table.columns)
        for row in table.rows():
            writer.writerow([cell_text(row.get(name)) for name in table.columns])


class _Lines:
    r"""Writes lines that end with \n. The writer has to end them with \r\n, or it would write a
    carriage return in a cell without quotes."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: str) -> None:
        self._file.write(line.removesuffix("\r\n") + "\n")
