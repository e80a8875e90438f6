"""The table of a batch: the columns of its input, and beside them what its journal has."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ._journal import files_of
from ._journal_rows import JournalRows
from ._output_files import check_replaceable, replacing
from ._prompts import Items
from ._results import BatchResult
from ._tables.csv_files import write_csv
from ._tables.inputs import cells_of
from ._tables.lines import write_json_lines
from ._tables.parquet_files import import_pyarrow, write_parquet
from ._tables.row_prompts import RowPrompts
from ._tables.table import Cells, Table
from ._tables.template import Template

if TYPE_CHECKING:
    import pandas

RESULT_COLUMNS: Final[Mapping[str, type]] = {
    "answer": str,
    "error": str,
    "attempts": int,
    "elapsed": float,
    "time_to_first_chunk": float,
    "site": str,
}

WRITERS: Final[Mapping[str, Callable[[Path, Table], None]]] = {
    ".jsonl": write_json_lines,
    ".csv": write_csv,
    ".parquet": write_parquet,
}
_SKIPPED: Final = {"error": "skipped, because a cell that the prompt needs is empty"}


def is_table(output: Path) -> bool:
    """Whether the output of a batch is a table, which is written at the end of a run."""
    return output.suffix.lower() in (".csv", ".parquet")


def journal_of(output: Path) -> Path:
    """The journal of an output: that of a table is beside it."""
    return output.with_name(f"{output.name}.jsonl") if is_table(output) else output


def check_table(output: Path, items: Items | None) -> None:
    """Check, before anything is sent, that a table can be written.

    Raises:
        ValueError: the input has a column that the table adds, or the file is not from a batch.
        ImportError: the extra ``parquet`` is not installed.
        OSError: the path is that of a directory or a device.
    """
    if output.suffix.lower() == ".parquet":
        import_pyarrow("pyarrow.parquet")
    check_replaceable(output)
    if output.exists() and not journal_of(output).exists():
        raise ValueError(
            f"{output} exists already and is not from a batch, which would have left "
            f"{journal_of(output).name} beside it: name another output, or move it away"
        )
    _columns(items)


def write_table(output: Path, journal: Path, items: Items | None) -> None:
    """Write what a journal has as a table, whose format follows from the suffix.

    Args:
        output: the path of the table, which is replaced once the new one is complete.
        journal: the path of the journal.
        items: the input, whose columns and order the table has; ``None`` for the journal's own.

    Raises:
        ValueError, OSError: it cannot be written.
    """
    with JournalRows(journal) as results:
        like = items.file if items is not None else None
        types = RESULT_COLUMNS if items is not None else {"custom_id": str, **RESULT_COLUMNS}
        table = Table(_columns(items), partial(_rows, results, items), types, like)
        with replacing(output) as new:
            WRITERS[output.suffix.lower()](new, table)


def write_table_of_run(output: Path, items: Items | None) -> None:
    """Write the table at the end of a run.

    Raises:
        OSError: it cannot be written; what to do is in the message.
    """
    journal = journal_of(output)
    try:
        write_table(output, journal, items)
    except (ValueError, OSError) as error:
        raise OSError(
            f"{output} could not be written ({error}). The answers are in {journal}: run the same "
            "again once the cause is removed, and only what is missing is sent"
        ) from error


def export_journal(
    journal: Path,
    output: Path,
    source: str | None = None,
    *,
    id: str | None = None,
    template: str | None = None,
    column: str | None = None,
) -> None:
    """Write the results of a batch, whose run may go on, as a table or as JSON lines.

    Args:
        journal: the path of the journal, or of the table that is made from it.
        output: the path of the new table.
        source: the input of the batch, for its columns and its order.
        id: the column of the input that identifies rows.
        template: the prompt of each row, to tell which rows were skipped; otherwise rows that were
            skipped are like those without an answer so far.
        column: instead of a template, the column that has the prompts.

    Raises:
        ValueError: a file is not what it should be, or the input is that of another batch.
        ImportError: an extra is not installed.
        OSError: a file cannot be read or written.
    """
    journal = journal_of(journal)
    if output.suffix.lower() not in WRITERS:
        raise ValueError(f"{output} must end with .csv, .parquet or .jsonl, the formats of a table")
    read = [*files_of(journal), *([Path(source)] if source else [])]
    used = {os.path.realpath(each) for each in read}
    if os.path.realpath(output) in used:
        raise ValueError(f"{output} is read for the table: name another output")
    items = None
    if source is not None:
        rows = RowPrompts.from_arguments(template, column, id, skip_empty=True)
        if rows.template is None:  # then only the ids are needed
            rows = replace(rows, template=Template(()))
        items = Items(source, lambda *_: None, rows)
        with JournalRows(journal) as results:
            has_ids = any(results.find(item.custom_id) for item in items)
            if not has_ids and any(results.in_order()):
                raise ValueError(
                    f"{journal} has no results for the rows of {source}: name the column that "
                    "identifies them with --id, as in the batch"
                )
    elif (id, template, column) != (None, None, None):
        raise ValueError("--id, --prompt and --column need --input, the file with the columns")
    write_table(output, journal, items)


def to_frame(results: Iterable[BatchResult], items: Items | None) -> pandas.DataFrame:
    """The results of a whole batch as a frame of pandas, beside the columns of the input.

    Raises:
        ImportError: pandas is not installed.
        ValueError: the input has a column that the table adds.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "pandas is not installed, which to_pandas() needs: pip install pandas"
        ) from error
    columns = _columns(items)  # before anything is sent
    rows = {result.custom_id: result.to_row() for result in results}
    if items is None:
        ordered = sorted(rows.values(), key=lambda row: int(row["index"]))
        return pandas.DataFrame(map(_with_id, ordered), columns=columns)
    pairs = list(_beside_input(rows.get, items))
    given = items.source
    if not isinstance(given, pandas.DataFrame):
        given = pandas.DataFrame([cells for cells, _ in pairs], columns=items.columns())
    added = pandas.DataFrame([cells for _, cells in pairs], given.index, list(RESULT_COLUMNS))
    return pandas.concat([given, added], axis="columns")


# --- columns and rows -------------------------------------------------------------------------


def _columns(items: Items | None) -> Sequence[str]:
    """The columns of a table with these inputs.

    Raises:
        ValueError: the input has one that the table adds.
    """
    if items is None:
        return ["custom_id", *RESULT_COLUMNS]
    columns = items.columns()
    for name in RESULT_COLUMNS:
        if name in columns:
            raise ValueError(
                f"the input has a column {name!r}, which the table adds: rename it in the input, "
                "or name a .jsonl output"
            )
    return [*columns, *RESULT_COLUMNS]


def _rows(results: JournalRows, items: Items | None) -> Iterator[Cells]:
    if items is None:
        yield from map(_with_id, results.in_order())
    else:
        for given, added in _beside_input(results.find, items):
            yield {**given, **added}


def _beside_input(
    find: Callable[[str], Mapping[str, Any] | None], items: Items
) -> Iterator[tuple[Cells, Cells]]:
    """The cells of each input, and those that are added to it."""
    for value, item in items.with_inputs():
        yield cells_of(value), _SKIPPED if item is None else _result_cells(find(item.custom_id))


def _with_id(row: Mapping[str, Any]) -> Cells:
    return {"custom_id": row["custom_id"], **_result_cells(row)}


def _result_cells(row: Mapping[str, Any] | None) -> Cells:
    """The cells of a row of the journal; none for a prompt without a result."""
    if row is None:
        return {}
    error = row.get("error")
    return {
        **{name: row.get(name) for name in RESULT_COLUMNS},
        "answer": row.get("text"),
        "error": None if error is None else f"{error['type']}: {error['message']}",
    }
