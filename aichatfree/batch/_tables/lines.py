"""Inputs that are lines: JSON lines, or plain text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from .inputs import Input, Inputs, is_missing
from .table import Table


def read_json_lines(path: Path) -> Inputs:
    """The value of each line that is not blank."""
    return Inputs(str(path), None, _read_lines(path, _parse_json))


def read_text_lines(path: Path) -> Inputs:
    """Each line that is not blank."""
    return Inputs(str(path), None, _read_lines(path, str))


def _read_lines(path: Path, parse: Callable[[str], Any]) -> Iterator[Input]:
    with path.open("rb") as lines:
        for number, value in _parse_lines(lines, parse):
            yield f"{path}, line {number}", value


class PromptLines:
    """The prompts of a stream: JSON lines if the first one begins with ``{``, else plain text."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = lines

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self.numbered())

    def numbered(self) -> Iterator[tuple[str, Any]]:
        """Each prompt, or the error in its place, with a description of its line."""
        blank, lines = 0, iter(self._lines)
        for first in lines:
            if not first.strip():
                blank += 1
                continue
            json_lines = first.lstrip(b"\xef\xbb\xbf \t").startswith(b"{")
            parse = _parse_json if json_lines else str
            for number, value in _parse_lines(chain([first], lines), parse):
                yield f"line {number + blank}", value


def _parse_lines(lines: Iterable[bytes], parse: Callable[[str], Any]) -> Iterator[tuple[int, Any]]:
    """Each line that is not blank with its number; an error in place of one that is invalid."""
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            value = parse(text) if text.strip() else None
        except UnicodeDecodeError as error:
            value = ValueError(f"not UTF-8 text (byte {error.start} of the line)")
        except (ValueError, RecursionError) as error:
            value = ValueError(f"not JSON ({error})")
        if value is not None:
            yield number, value


def _parse_json(text: str) -> Any:
    """The value of one line; ``null`` is an error in place of a prompt."""
    value = json.loads(text)
    return ValueError("null is not a prompt") if value is None else value


def write_json_lines(path: Path, table: Table) -> None:
    """Write each row as a line; ``null`` is a missing value.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("w", encoding="utf-8", errors="replace") as file:
        for row in table.rows():
            cells = {name: row.get(name) for name in table.columns}
            cells = {name: None if is_missing(cell) else cell for name, cell in cells.items()}
            file.write(json.dumps(cells, ensure_ascii=False, default=str) + "\n")
