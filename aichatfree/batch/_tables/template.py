"""Templates of prompts: text with the names of columns in braces."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .inputs import cell_text, unknown_column

_PART: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[^{}]+|[{}]")


class EmptyCellError(ValueError):
    """A prompt cannot be made, because a column that it needs is empty in this row."""


@dataclass(frozen=True)
class Template:
    """Makes a prompt of each row.

    Attributes:
        parts: texts, and for each whether it is the name of a column.
    """

    parts: Sequence[tuple[str, bool]]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Read ``{name}`` as the name of a column, and ``{{`` and ``}}`` as braces.

        Raises:
            ValueError: a brace is alone, or no column is named.
        """
        parts: list[tuple[str, bool]] = []
        for part in _PART.finditer(text):
            if part[0] in ("{", "}"):
                raise ValueError(
                    f"the brace at character {part.start() + 1} of template= does not belong to a "
                    f"column: write {2 * part[0]} for a brace"
                )
            if part[1] is not None:
                parts.append((part[1], True))
            else:
                parts.append((part[0][0] if part[0] in ("{{", "}}") else part[0], False))
        template = cls(parts)
        if not template.columns:
            raise ValueError(
                "template= names no column, so all prompts would be the same: name one in braces, "
                "such as {review}"
            )
        return template

    @classmethod
    def of_column(cls, name: str) -> Template:
        """The template whose prompts are the cells of one column."""
        return cls([(name, True)])

    @property
    def columns(self) -> list[str]:
        """The columns that it names."""
        return list(dict.fromkeys(text for text, is_column in self.parts if is_column))

    def fill(self, row: Mapping[Any, Any]) -> str:
        """The prompt of a row.

        Raises:
            EmptyCellError: a column that is named has only white space in this row, or nothing.
            ValueError: the row does not have such a column.
        """
        texts = [self._cell(row, text) if is_column else text for text, is_column in self.parts]
        return "".join(texts)

    @staticmethod
    def _cell(row: Mapping[Any, Any], column: str) -> str:
        if column not in row:
            raise unknown_column(column, map(str, row), "the row")
        text = cell_text(row[column])
        if not text.strip():
            raise EmptyCellError(
                f"the column {column!r} is empty: fill it in, or skip such rows with "
                "skip_empty=True"
            )
        return text
