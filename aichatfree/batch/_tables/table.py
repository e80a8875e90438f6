"""A table to be written: its columns, and how to read its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
