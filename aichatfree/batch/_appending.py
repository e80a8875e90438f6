"""Files of JSON lines that survive a kill at any moment, because each line is one write."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
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
