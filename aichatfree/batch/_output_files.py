"""The files that a batch writes: one write for each line, or replaced once they are complete."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


def write_line(file: BinaryIO, row: Mapping[str, Any], end: int) -> int:
    """Append a row with one write; returns the file's new length. No incomplete line is left."""
    line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    try:
        written = file.write(line)
        if written != len(line):
            raise OSError(
                f"only {written} of {len(line)} bytes could be written: is the disk full?"
            )
    except OSError:
        file.truncate(end)
        raise
    return end + len(line)


def remove_incomplete_line(file: BinaryIO) -> int:
    """Remove what a killed run left of its last line; returns the length that remains."""
    end = file.seek(0, os.SEEK_END)
    position = end
    while position > 0:
        start = max(0, position - 65536)
        file.seek(start)
        newline = file.read(position - start).rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    if position < end:
        file.truncate(position)
    return position


def check_replaceable(path: Path) -> None:
    """Raise OSError if the path is that of a directory or a device, or in no directory."""
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"the output directory {str(path.parent)!r} does not exist: create it first"
        )
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a regular file, which the output must be")


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


def check_start(path: Path, start: bytes) -> None:
    """Raise ValueError if there is such a file and it does not begin so; it may be incomplete."""
    if path.exists():
        with path.open("rb") as file:
            if not start.startswith(file.read(len(start))):
                raise foreign_file(path)


def foreign_file(path: Path) -> ValueError:
    """The error for a file that a batch would change, but that it has not written."""
    return ValueError(f"{path} is not from a batch: name another output, or move it away")
