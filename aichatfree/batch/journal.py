"""The journal of a batch: an append-only JSONL file that survives a kill at any moment."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from ..errors import AIChatFreeError
from .records import BatchResult, Item

# An id without an escape in it, at the start of a line.
_ID_FIRST: Final = re.compile(rb'^\{"custom_id":"([^"\\\n]*)"', re.MULTILINE)
_BLOCK: Final = 1 << 22  # bytes
_SYNC_EVERY: Final = 1.0  # seconds


class Journal:
    """Keeps each answer in ``output`` as soon as it is whole, and knows those of earlier runs.

    A line is one ``write``, so that a killed process leaves at most one torn line, at the end; it
    is cut off when the file is opened again. ``custom_id`` comes first in a line, so that the ids
    of a large file can be read without parsing it. Failures go to ``<output>.errors.jsonl``, and
    what the answers depend on to ``<output>.run.json``.

    Args:
        output: the path; its folder must exist.
        settings: what the answers depend on, by name; another run must have the same.
        resume: whether the file may have answers already.

    Raises:
        ValueError: it has answers of other settings, or answers at all and ``resume`` is false.
        AIChatFreeError: another run is using it.
        OSError: it cannot be written.
    """

    def __init__(
        self, output: str | os.PathLike[str], settings: Mapping[str, Any], *, resume: bool = True
    ) -> None:
        self.path = Path(output)
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"there is no folder {str(self.path.parent)!r} for the output: make it first"
            )
        self._lock = threading.Lock()
        self._synced = time.monotonic()
        self._dirty = False
        self._errors: BinaryIO | None = None
        self._file = self.path.open("a+b", buffering=0)
        self._reader = self.path.open("rb")
        try:
            _lock_file(self._file, self.path)
            self._end = _cut_torn_line(self._file)
            if self._end and not resume:
                raise ValueError(f"{self.path} has answers already: name another output")
            self._check_settings(dict(settings))
            self._offsets = _read_ids(self._reader, self.path)
            self._errors_path().unlink(missing_ok=True)
        except BaseException:
            self._file.close()
            self._reader.close()
            raise

    def __len__(self) -> int:
        """How many answers of earlier runs there are."""
        return len(self._offsets)

    def __contains__(self, custom_id: str) -> bool:
        return custom_id in self._offsets

    def earlier(self, item: Item) -> BatchResult | None:
        """The answer to this item from an earlier run, if there is one.

        Raises:
            ValueError: the one under its id answers another prompt.
        """
        offset = self._offsets.get(item.custom_id)
        if offset is None:
            return None
        self._reader.seek(offset)
        row = json.loads(self._reader.readline())
        if row.get("prompt") != item.digest():
            raise ValueError(
                f"{self.path} answers another prompt under the custom_id {item.custom_id!r}: the "
                "input has changed since. Name another output, or restore the input"
            )
        text = row.get("text")
        return BatchResult(item.custom_id, item.index, str(text), reused=True)

    def append(self, item: Item, result: BatchResult) -> None:
        """Write one result; answers and failures each to their file.

        Raises:
            OSError: the disk is full, or the file cannot be written; nothing half is left.
        """
        row = row_of(result)
        with self._lock:
            if result.error is None:
                row["prompt"] = item.digest()
                self._end = _write_line(self._file, row, self._end)
                self._dirty = True
            else:
                if self._errors is None:
                    self._errors = self._errors_path().open("ab", buffering=0)
                _write_line(self._errors, row, os.fstat(self._errors.fileno()).st_size)
        self.sync(every=_SYNC_EVERY)

    def sync(self, every: float = 0.0) -> None:
        """Make sure that what was written survives a power cut, if that was not done lately."""
        with self._lock:
            now = time.monotonic()
            if self._dirty and now - self._synced >= every:
                os.fsync(self._file.fileno())
                self._dirty = False
                self._synced = now

    def close(self) -> None:
        """Write everything to the disk and let another run have the file; idempotent."""
        if self._file.closed:
            return
        try:
            self.sync()
        finally:
            self._file.close()
            self._reader.close()
            if self._errors is not None:
                self._errors.close()

    def _errors_path(self) -> Path:
        return self.path.with_name(f"{self.path.stem}.errors.jsonl")

    def _check_settings(self, settings: dict[str, Any]) -> None:
        path = self.path.with_name(f"{self.path.stem}.run.json")
        before = _read_settings(path) if self._end else None
        if before is None:
            text = json.dumps(settings, indent=1, ensure_ascii=False)
            temporary = path.with_suffix(".tmp")
            temporary.write_text(text + "\n", encoding="utf-8")
            os.replace(temporary, path)
            return
        differing = [
            f"{name} was {before.get(name)!r} and is {settings.get(name)!r} now"
            for name in sorted({*before, *settings})
            if before.get(name) != settings.get(name)
        ]
        if differing:
            raise ValueError(
                f"{self.path} has answers made with other settings: {'; '.join(differing)}. Name "
                "another output, or use the same settings"
            )


def row_of(result: BatchResult) -> dict[str, Any]:
    """A result as it is written: with ``text`` if it is whole, else with ``error``."""
    row: dict[str, Any] = {"custom_id": result.custom_id, "index": result.index}
    if result.error is None:
        row["text"] = result.text
    else:
        row["error"] = {
            "type": type(result.error).__name__,
            "message": str(result.error),
            "status_code": getattr(result.error, "status_code", None),
        }
        row["partial_text"] = result.text
    return {**row, "attempts": result.attempts, "latency": round(result.latency, 3)}


def _read_settings(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _lock_file(file: BinaryIO, path: Path) -> None:
    """Keep other runs away; the system lets go of the lock when the process ends, however."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise AIChatFreeError(
            f"another run is writing to {path}: wait for its end, or name another output"
        ) from error


def _cut_torn_line(file: BinaryIO) -> int:
    """Cut off what a killed writer left of its last line; the length that remains."""
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


def _read_ids(file: BinaryIO, path: Path) -> dict[str, int]:
    """Where in the file the answer to each id begins."""
    offsets: dict[str, int] = {}
    base = 0
    file.seek(0)
    while block := file.read(_BLOCK):
        block += file.readline()
        found = {match[1].decode(): base + match.start() for match in _ID_FIRST.finditer(block)}
        if len(found) != block.count(b"\n"):  # an id has an escape in it, or a line is not ours
            found = _parse_ids(block, base, len(offsets), path)
        offsets.update(found)
        base += len(block)
    return offsets


def _parse_ids(block: bytes, base: int, lines_before: int, path: Path) -> dict[str, int]:
    offsets: dict[str, int] = {}
    for number, line in enumerate(block.splitlines(keepends=True), lines_before + 1):
        offsets[_parse_id(line, number, path)] = base
        base += len(line)
    return offsets


def _parse_id(line: bytes, number: int, path: Path) -> str:
    try:
        custom_id = json.loads(line)["custom_id"]
    except (ValueError, TypeError, KeyError):
        custom_id = None
    if not isinstance(custom_id, str):
        raise ValueError(f"{path}, line {number}: not a line of a batch's output; name another one")
    return custom_id


def _write_line(file: BinaryIO, row: Mapping[str, Any], end: int) -> int:
    """Append one row with one write; the file's new length. A failure leaves no half line."""
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
