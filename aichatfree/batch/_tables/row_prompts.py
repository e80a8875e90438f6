"""How a batch makes prompts of rows: by which template or column, with which ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..._arguments import check_optional_str
from .inputs import Inputs, cell_text, unknown_column
from .template import Template

_PROMPT = "prompt"
_ID = "custom_id"


@dataclass(frozen=True)
class RowPrompts:
    """Makes the prompt of each row, and finds its id.

    Attributes:
        template: of the prompts; ``None`` if inputs are prompts already.
        id: the column with the ids, which no row may be without; ``None`` for ``custom_id``, if
            there is such a column.
        skip_empty: whether rows are left out that are empty in a column that their prompt needs.
    """

    template: Template | None = None
    id: str | None = None
    skip_empty: bool = False

    @classmethod
    def from_arguments(
        cls,
        template: str | None = None,
        column: str | None = None,
        id: str | None = None,
        skip_empty: bool = False,
    ) -> RowPrompts:
        """Check the arguments of a batch.

        Raises:
            TypeError, ValueError: they cannot be used.
        """
        for name, value in (("template", template), ("column", column), ("id", id)):
            check_optional_str(name, value)
        if template is not None and column is not None:
            raise ValueError("template= and column= exclude each other: leave one out")
        parsed = Template.parse(template) if template is not None else None
        return cls(parsed if column is None else Template.of_column(column), id, bool(skip_empty))

    def of(self, inputs: Inputs) -> RowPrompts:
        """The same for these inputs: their columns are checked if they are known.

        Raises:
            ValueError: a column does not exist.
        """
        columns = inputs.columns
        if columns is None:
            return self
        template = self.template
        if template is None:
            template = Template.of_column(_PROMPT)
            if _PROMPT not in columns:
                raise ValueError(
                    f"{unknown_column(_PROMPT, columns, inputs.name)}: name the column of the "
                    'prompts with column=, or give a template, such as "Classify: {review}", '
                    "with template="
                )
        for name in [*template.columns, *([self.id] if self.id is not None else [])]:
            if name not in columns:
                raise unknown_column(name, columns, inputs.name)
        return RowPrompts(template, self.id, self.skip_empty)

    def record(self, value: Any) -> Any:
        """An input as a prompt, or as a dict with its prompt and its id.

        Raises:
            EmptyCellError: a column that the prompt needs is empty in this row.
            TypeError, ValueError: the input is not a row, or has no such column or no id.
        """
        if (self.template is None and self.id is None) or isinstance(value, Exception):
            return value
        if not isinstance(value, Mapping):
            raise TypeError(
                "a template (template=), a column (column=) or an id (id=) needs rows with named "
                f"columns: dicts, lines of JSON, a table or a frame, not {type(value).__name__}"
            )
        custom_id = self._id_of(value)
        if self.template is None:
            return {**value, _ID: custom_id}
        return {_PROMPT: self.template.fill(value), _ID: custom_id}

    def _id_of(self, row: Mapping[Any, Any]) -> str | None:
        if self.id is None:
            return cell_text(row.get(_ID)) or None
        if self.id not in row:
            raise unknown_column(self.id, map(str, row), "the row")
        custom_id = cell_text(row[self.id])
        if not custom_id:
            raise ValueError(f"the column {self.id!r}, which has the ids, is empty")
        return custom_id
