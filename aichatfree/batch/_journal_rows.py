"""The rows of a journal, answers and failures, found by their ids or in the order of the input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Self

from ._journal import files_of, foreign_line, offset_in, read_positions


class JournalRows:
    """Reads a journal, also while a run writes to it. Only positions are kept in memory.

    Args:
        journal: the path of its answers; failures are beside it.

    Raises:
        ValueError: it is not a journal.
        OSError: it cannot be read.
    """

    def __init__(self, journal: Path) -> None:
        answers, failures, *_ = files_of(journal)
        with ExitStack() as on_error:
            self._answers = on_error.enter_context(answers.open("rb"))
            self._positions = read_positions(self._answers, answers)
            self._failures: BinaryIO | None = None
            self._failed: dict[str, int] = {}
            if failures.exists():
                self._failures = on_error.enter_context(failures.open("rb"))
                self._failed = {row["custom_id"]: at for at, row in rows_of(self._failures)}
            self._files = on_error.pop_all()

    def find(self, custom_id: str) -> dict[str, Any] | None:
        """The answer to a prompt, or else its failure, or ``None``."""
        position = self._positions.get(custom_id)
        if position is not None:
            return _read_row(self._answers, offset_in(position))
        if self._failures is not None and custom_id in self._failed:
            return _read_row(self._failures, self._failed[custom_id])
        return None

    def in_order(self) -> Iterator[dict[str, Any]]:
        """All rows in the order of the input."""
        places: list[tuple[int, BinaryIO, int]] = []
        for file in filter(None, (self._answers, self._failures)):
            places += [(int(row["index"]), file, at) for at, row in rows_of(file)]
        for _, file, at in sorted(places, key=lambda place: place[0]):
            yield _read_row(file, at)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()


def rows_of(file: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row, with its offset; an incomplete last line is left out.

    Raises:
        ValueError: a line is not that of a journal.
    """
    offset = file.seek(0)
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            return
        try:
            row = json.loads(line)
            row["custom_id"], row["index"]
        except (ValueError, TypeError, KeyError):
            raise foreign_line(Path(file.name), number) from None
        yield offset, row
        offset += len(line)


def _read_row(file: BinaryIO, offset: int) -> dict[str, Any]:
    file.seek(offset)
    row: dict[str, Any] = json.loads(file.readline())
    return row
