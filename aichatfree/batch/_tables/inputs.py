"""What every source of a batch is read as: inputs one by one, and the columns that they have."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

MAX_COLUMNS: Final = 16_384  # as many as a spreadsheet has
_NAMED_COLUMNS: Final = 20  # at most, in an error

Input: TypeAlias = "tuple[str, Any]"
"""A description of where an input is, and the input itself, or the error in its place."""


@dataclass(frozen=True)
class Inputs:
    """The inputs of a source, which are read while ``each`` is iterated.

    Attributes:
        name: what an error calls the source.
        columns: of a source with a header, whose inputs are all dicts with these keys; or ``None``.
        each: the inputs, one after the other.
    """

    name: str
    columns: Sequence[str] | None
    each: Iterator[Input]


def check_columns(names: Sequence[str], source: str) -> Sequence[str]:
    """The names of the columns of a table.

    Raises:
        ValueError: there are too many, or one occurs twice.
    """
    if len(names) > MAX_COLUMNS:
        raise ValueError(
            f"{source} has {len(names):,} columns, and {MAX_COLUMNS:,} are the most that a batch "
            "reads: keep the ones that the prompts need"
        )
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{source} has the column {name!r} twice: rename one of them")
        seen.add(name)
    return names


def unknown_column(name: str, columns: Iterable[str], source: str) -> ValueError:
    """The error for a column that does not exist, with the name that may have been meant."""
    names = list(columns)
    known = ", ".join(repr(_shortened(each)) for each in names[:_NAMED_COLUMNS]) or "none"
    if len(names) > _NAMED_COLUMNS:
        known += f" and {len(names) - _NAMED_COLUMNS:,} more"
    alike = {each.strip().lower(): each for each in names}
    close = difflib.get_close_matches(name.strip().lower(), alike, 1)
    question = f". Did you mean {alike[close[0]]!r}?" if close else ""
    return ValueError(f"{source} does not have the column {name!r}, only {known}{question}")


def _shortened(name: str) -> str:
    """A name that may be text of the first row, because there is no header."""
    return name if len(name) <= 40 else f"{name[:37]}..."


def is_missing(value: object) -> bool:
    """Whether a cell has no value: None, NaN, NaT, or NA of pandas."""
    if value is None or hasattr(value, "__len__"):  # text, a list or an array
        return value is None
    try:
        return bool(value != value)  # only NaN and NaT differ from themselves
    except TypeError:  # NA is neither equal to itself nor different
        return True


def cells_of(value: object) -> Mapping[str, Any]:
    """An input as a row of a table."""
    if isinstance(value, Mapping):
        return {str(name): cell for name, cell in value.items()}
    if isinstance(value, str):
        return {"prompt": value}
    return {} if isinstance(value, Exception) else {"messages": value}


def columns_of(inputs: Inputs) -> Sequence[str]:
    """The columns of a table with these inputs, which are all read if there is no header.

    Raises:
        ValueError: there are too many.
    """
    if inputs.columns is not None:
        return inputs.columns
    names: dict[str, None] = {}
    for _, value in inputs.each:
        names |= dict.fromkeys(cells_of(value))
        if len(names) > MAX_COLUMNS:
            break
    return check_columns(list(names), inputs.name)


def cell_text(value: object) -> str:
    """A cell as text: lists, arrays and dicts as JSON, and nothing for a missing value."""
    if isinstance(value, str):
        return value
    if hasattr(value, "__len__") and hasattr(value, "tolist"):  # an array of numpy
        value = value.tolist()
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if is_missing(value) else str(value)
