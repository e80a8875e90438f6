"""What several tests of batches need to read output files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a JSONL file; none if it does not exist."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def ids_in(path: Path) -> list[str]:
    """The custom_id of each line of an output."""
    return [row["custom_id"] for row in rows_of(path)]


def table_of(path: Path) -> list[list[str]]:
    """The header and the rows of a CSV file, which may begin with a byte order mark."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file, strict=True))
