"""Parquet files, with pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from .inputs import Input, Inputs, check_columns

BATCH_ROWS: Final = 1000
"""Rows that are in memory at a time."""


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
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
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
        raise ImportError(
            'pyarrow, which Parquet files need, is not installed: pip install "aichatfree[parquet]"'
        ) from None
