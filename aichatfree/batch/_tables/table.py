"""A table to be written: its columns, and how to read its rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

Cells: TypeAlias = Mapping[str, Any]
"""The cells of a row by their columns; a missing one is empty."""


@dataclass(frozen=True)
class Table:
    """Rows with the same columns.

    Attributes:
        columns: their names.
        rows: reads the rows from the start.
        types: of the columns whose types are known: ``str``, ``int`` or ``float``.
        like: the file whose format is kept if the table is written in the same one, or ``None``.
    """

    columns: Sequence[str]
    rows: Callable[[], Iterable[Cells]]
    types: Mapping[str, type]
    like: Path | None = None

    def model(self, suffix: str) -> Path | None:
        """The file whose format is kept, if it has this suffix."""
        return self.like if self.like is not None and self.like.suffix.lower() == suffix else None


def check_replaceable(path: Path) -> None:
    """Raise OSError if the path is that of a directory or a device, or in no directory."""
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"the directory {str(path.parent)!r} does not exist: create it first"
        )
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a regular file, which a table must be: name another output")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The path of a new file, which replaces the old one if the block ends without an error.

    Raises:
        OSError: it cannot be replaced.
    """
    check_replaceable(path)
    path = Path(os.path.realpath(path))  # a link stays one
    new = path.with_name(f".{path.name}.tmp")
    try:
        yield new
        with new.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
