"""Parquet files, with pyarrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from ..._extras import install_command
from ..._protocol.messages import replace_surrogates
from .inputs import Input, Inputs, cell_text, check_columns, is_missing
from .table import Cells, Table

READ_ROWS: Final = 1000
"""Rows in memory at a time."""
GROUP_ROWS: Final = 10_000
"""Rows of a group of the file that is written, which are in memory together."""


def read_parquet(path: Path) -> Inputs:
    """The rows of a file as dicts.

    Raises:
        ImportError: the extra ``parquet`` is not installed.
        ValueError: it is not a Parquet file.
        OSError: it cannot be read.
    """
    with _open(path) as file:
        columns = check_columns(file.schema_arrow.names, str(path))
    return Inputs(str(path), columns, _rows(path))


def _rows(path: Path) -> Iterator[Input]:
    number = 0
    with _open(path) as file:
        for batch in file.iter_batches(batch_size=READ_ROWS):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row


def _open(path: Path) -> Any:
    parquet = import_pyarrow("pyarrow.parquet")
    try:
        return parquet.ParquetFile(path)
    except ValueError as error:
        raise ValueError(f"{path}: not a Parquet file ({error})") from error


def import_pyarrow(module: str) -> Any:
    """A module of pyarrow, which takes a while to import.

    Raises:
        ImportError: it is not installed.
    """
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError:
        command = install_command("parquet")
        raise ImportError(
            f"Parquet files need pyarrow, which is not installed: {command}"
        ) from None


# --- writing ----------------------------------------------------------------------------------


def write_parquet(path: Path, table: Table) -> None:
    """Write a table.

    The types are those of the file that the table is like, or else found by reading all rows.

    Raises:
        ImportError: the extra ``parquet`` is not installed.
        OSError: it cannot be written.
    """
    pyarrow = import_pyarrow("pyarrow")
    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    known = {name: types[kind] for name, kind in table.types.items()}
    model = table.model(".parquet")
    if model is not None:
        with _open(model) as file:
            known |= {each.name: each.type for each in file.schema_arrow}
    unknown = [name for name in table.columns if name not in known]
    found = _types_of(table.rows(), unknown) | known
    schema = pyarrow.schema([(name, found[name]) for name in table.columns])
    with import_pyarrow("pyarrow.parquet").ParquetWriter(path, schema) as writer:
        for chunk in _chunks(table.rows()):
            columns = [[row.get(name) for row in chunk] for name in table.columns]
            arrays = [
                # NaN is a missing value in pandas, but a number in Parquet.
                _array(cells, field.type, nan_is_missing=field.name in unknown)
                for cells, field in zip(columns, schema, strict=True)
            ]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


def _chunks(rows: Iterable[Cells]) -> Iterator[list[Cells]]:
    unread = iter(rows)
    while chunk := list(islice(unread, GROUP_ROWS)):
        yield chunk


def _types_of(rows: Iterable[Cells], columns: Sequence[str]) -> dict[str, Any]:
    """The type that can hold all cells of a column: text, if they have no other in common."""
    pyarrow = import_pyarrow("pyarrow")
    types = dict.fromkeys(columns, pyarrow.null())
    for chunk in _chunks(rows):
        for name in columns:
            if types[name] != pyarrow.string():
                types[name] = _common_type(types[name], [row.get(name) for row in chunk])
    empty = pyarrow.null()
    return {name: pyarrow.string() if kind == empty else kind for name, kind in types.items()}


def _common_type(kind: Any, cells: list[Any]) -> Any:
    pyarrow = import_pyarrow("pyarrow")
    try:
        found = pyarrow.array(cells, from_pandas=True).type
        schemas = [pyarrow.schema([("", each)]) for each in (kind, found)]
        common = pyarrow.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pyarrow.ArrowException, UnicodeEncodeError, OverflowError):
        return pyarrow.string()
    return pyarrow.string() if pyarrow.types.is_nested(common) else common


def _array(cells: list[Any], kind: Any, *, nan_is_missing: bool) -> Any:
    pyarrow = import_pyarrow("pyarrow")
    if kind == pyarrow.string():
        texts = [None if is_missing(cell) else cell_text(cell) for cell in cells]
        cells = [None if text is None else replace_surrogates(text) for text in texts]
    return pyarrow.array(cells, kind, from_pandas=nan_is_missing)
