"""Frames of pandas and Polars, which are recognised by their methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from .inputs import Input, Inputs, check_columns


class Frame(Protocol):
    """A frame of pandas or Polars."""

    @property
    def columns(self) -> Any:
        """The names of its columns."""
        ...


def is_frame(value: object) -> bool:
    """Whether this is a frame with rows in memory."""
    return hasattr(type(value), "itertuples") or hasattr(type(value), "iter_rows")


def read_frame(frame: Any) -> Inputs:
    """The rows of a frame as dicts; the index of pandas is not part of them.

    Raises:
        ValueError: a column occurs twice.
    """
    name = f"the {type(frame).__name__}"
    columns = check_columns([str(each) for each in frame.columns], name)
    return Inputs(name, columns, _rows(frame, columns))


def _rows(frame: Any, columns: Any) -> Iterator[Input]:
    is_pandas = hasattr(frame, "itertuples")
    rows = frame.itertuples(index=False, name=None) if is_pandas else frame.iter_rows()
    for number, cells in enumerate(rows, 1):
        yield f"row {number}", dict(zip(columns, cells, strict=True))
