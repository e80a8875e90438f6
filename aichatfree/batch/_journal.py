"""The journal of a batch: an append-only JSONL file that survives a kill at any moment."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from .._forks import renew_after_fork
from ..errors import AIChatFreeError
from ._records import BatchResult, Item

# The start of a line whose id has no escape in it.
_START: Final = re.compile(
    rb'^\{"custom_id":"([^"\\\n]*)","prompt":"([0-9a-f]{16})","index":', re.MULTILINE
)
_FAILURE: Final = b'{"custom_id":'
_OFFSET_BITS: Final = 48
_BLOCK: Final = 1 << 22  # bytes
_SYNC_EVERY: Final = 1.0  # seconds


def files_of(output: Path) -> tuple[Path, Path, Path]:
    """The files of a journal: the answers, the failures, and what the answers depend on."""
    stem = output.stem
    return output, output.with_name(f"{stem}.errors.jsonl"), output.with_name(f"{stem}.run.json")


class Journal:
    """Keeps each answer in ``output`` as soon as it is whole, and knows those of earlier runs.

    A line is one ``write``, so that a killed process leaves at most one torn line, at the end; it
    is cut off when the file is opened again. ``custom_id`` and the prompt's digest come first in a
    line, so that those of a large file can be read without parsing it. Failures go to
    ``<output>.errors.jsonl``, and what the answers depend on to ``<output>.run.json``.

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
        self.path: Path = Path(output)
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"there is no folder {str(self.path.parent)!r} for the output: make it first"
            )
        if self.path.exists() and not self.path.is_file():
            raise OSError(f"{self.path} is no ordinary file, which the output must be")
        self._lock = threading.Lock()
        self._synced = time.monotonic()
        self._dirty = False
        self._errors: BinaryIO | None = None
        # Found out now: it is opened at the first failure, in whatever folder the user is then.
        self._failures = files_of(self.path)[1].absolute()
        self._file = self.path.open("a+b", buffering=0)
        self._reader = self.path.open("rb")
        try:
            _lock_file(self._file, self.path)
            self._end = _cut_torn_line(self._file)
            if self._end and not resume:
                raise ValueError(f"{self.path} has answers already: name another output")
            self._check_settings(dict(settings))
            self._places = _read_places(self._reader, self.path)
            self._forget_failures()
            renew_after_fork(self)
        except BaseException:
            self._file.close()
            self._reader.close()
            raise

    def __len__(self) -> int:
        """How many answers of earlier runs there are."""
        return len(self._places)

    def check_prompts(self, items: Iterable[Item]) -> None:
        """Compare the answers of earlier runs with all the prompts of this one.

        Raises:
            ValueError: there are answers to other prompts.
        """
        known = sum(self._place(item) is not None for item in items)
        if known < len(self._places):
            raise ValueError(
                f"{self.path} has {len(self._places) - known} answers to prompts that are not in "
                "the input. Name another output, or restore the input"
            )

    def earlier(self, item: Item) -> BatchResult | None:
        """The answer to this item from an earlier run, if there is one.

        Raises:
            ValueError: the one under its id answers another prompt.
        """
        offset = self._place(item)
        if offset is None:
            return None
        self._reader.seek(offset)
        text = json.loads(self._reader.readline()).get("text")
        if not isinstance(text, str):
            raise ValueError(f"{self.path} has no text for the custom_id {item.custom_id!r}")
        return BatchResult(item.custom_id, item.index, text, reused=True)

    def _place(self, item: Item) -> int | None:
        place = self._places.get(item.custom_id)
        if place is None:
            return None
        if place >> _OFFSET_BITS != int(item.digest(), 16):
            raise ValueError(
                f"{self.path} answers another prompt under the custom_id {item.custom_id!r}: the "
                "input has changed since. Name another output, or restore the input"
            )
        return place & ((1 << _OFFSET_BITS) - 1)

    def append(self, item: Item, result: BatchResult) -> None:
        """Write one result; answers and failures each to their file.

        Raises:
            OSError: the disk is full, or the file cannot be written; nothing half is left.
        """
        row = row_of(result)
        with self._lock:
            if result.error is None:
                row = {"custom_id": row.pop("custom_id"), "prompt": item.digest(), **row}
                self._end = _write_line(self._file, row, self._end)
            else:
                if self._errors is None:
                    self._errors = self._failures.open("ab", buffering=0)
                _write_line(self._errors, row, os.fstat(self._errors.fileno()).st_size)
            self._dirty = True
        self.sync(every=_SYNC_EVERY)

    def sync(self, every: float = 0.0) -> None:
        """Make sure that what was written survives a power cut, if that was not done lately."""
        with self._lock:
            now = time.monotonic()
            if self._dirty and now - self._synced >= every:
                for file in filter(None, (self._file, self._errors)):
                    os.fsync(file.fileno())
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

    def _forget_failures(self) -> None:
        """They are all tried again; but a file that is not ours stays."""
        path = self._failures
        if not path.exists():
            return
        with path.open("rb") as file:
            start = file.read(len(_FAILURE))
        if start and start != _FAILURE:
            raise ValueError(f"{path} is not from a batch: name another output, or move it away")
        path.unlink()

    def after_fork(self) -> None:
        """A child lets go of the files, or it would keep them locked when we are gone."""
        self._file.close()
        self._reader.close()

    def _check_settings(self, settings: dict[str, Any]) -> None:
        path = files_of(self.path)[2]
        before = _read_settings(path)
        if path.exists() and (before is None or before.keys() != settings.keys()):
            raise ValueError(f"{path} is not from a batch: name another output, or move it away")
        if not self._end:
            before = None
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


def _read_places(file: BinaryIO, path: Path) -> dict[str, int]:
    """For each id, which prompt was answered (the upper bits) and where in the file."""
    places: dict[str, int] = {}
    base = 0
    file.seek(0)
    while block := file.read(_BLOCK):
        block += file.readline()
        found = {
            match[1].decode(): int(match[2], 16) << _OFFSET_BITS | base + match.start()
            for match in _START.finditer(block)
        }
        if len(found) != block.count(b"\n"):  # an id has an escape in it, or a line is not ours
            found = _parse_places(block, base, len(places), path)
        places.update(found)
        base += len(block)
    return places


def _parse_places(block: bytes, base: int, lines_before: int, path: Path) -> dict[str, int]:
    places: dict[str, int] = {}
    for number, line in enumerate(block.split(b"\n")[:-1], lines_before + 1):
        try:
            row = json.loads(line)
            places[str(row["custom_id"])] = int(row["prompt"], 16) << _OFFSET_BITS | base
            if not isinstance(row["custom_id"], str) or not isinstance(row["text"], str):
                raise TypeError
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f"{path}, line {number}: not a line of a batch's output; name another file"
            ) from None
        base += len(line) + 1
    return places


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
