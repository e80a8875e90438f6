"""The journal of a batch: an append-only JSONL file that survives a kill at any moment."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

from .._forks import renew_after_fork
from ..errors import AIChatFreeError
from ._events import EventLog
from ._output_files import check_replaceable, check_start, remove_incomplete_line, write_line
from ._prompts import Item
from ._results import BatchResult, seconds_of
from ._run_settings import check_settings

if TYPE_CHECKING:
    from filelock import FileLock

# The beginning of a line whose id has no escape sequence.
_LINE_START: Final = re.compile(
    rb'^\{"custom_id":"([^"\\\n]*)","prompt_digest":"([0-9a-f]{16})","index":', re.MULTILINE
)
_FAILURE_START: Final = b'{"custom_id":'
_OFFSET_BITS: Final = 48
_BLOCK_SIZE: Final = 1 << 22  # bytes
SYNC_INTERVAL: Final = 1.0
"""Seconds after which results that were written are forced to the disk."""


class JournalFiles(NamedTuple):
    """The files of a journal."""

    answers: Path
    failures: Path
    settings: Path
    events: Path


def files_of(output: Path) -> JournalFiles:
    """The files of the journal whose answers are in ``output``."""
    suffixes = ("errors.jsonl", "run.json", "events.jsonl")
    return JournalFiles(output, *(output.with_name(f"{output.stem}.{each}") for each in suffixes))


class Journal:
    """Writes each answer to ``output`` as soon as it is complete, and finds those of earlier runs.

    Each line is one ``write``, so a killed process leaves one incomplete line at most, at the end;
    it is removed when the file is opened again. ``custom_id`` and the prompt's digest come first in
    a line, so that they can be read from a large file without parsing it.

    Failures go to ``<output>.errors.jsonl``, the settings that the answers depend on to
    ``<output>.run.json``, and what happens during a run to ``<output>.events.jsonl``. A lock, the
    hidden file ``.<output>.lock``, keeps other runs away; it is removed at the end of the run. If
    the process is killed the file stays but is no longer locked.

    Args:
        output: the path; its directory must exist.
        settings: what the answers depend on, by name; another run must have the same.
        resume: whether the file may have answers already.

    Raises:
        ValueError: it has answers made with other settings, or any answers if ``resume`` is false.
        AIChatFreeError: another run is using it.
        OSError: it cannot be written.
    """

    def __init__(
        self, output: str | os.PathLike[str], settings: Mapping[str, Any], *, resume: bool = True
    ) -> None:
        self.path: Path = Path(output)
        check_replaceable(self.path)
        # Guards the files and _end, so that lines are written one after the other. It is held while
        # a line is written or forced to the disk; nothing else may be done while holding it.
        self._lock = threading.Lock()
        self._synced = time.monotonic()
        self._dirty = False
        self._errors: BinaryIO | None = None
        # Absolute, because it is opened at the first failure: the current directory may change.
        self._failures = files_of(self.path).failures.absolute()
        with ExitStack() as on_error:
            on_error.callback(_unlock_output, _lock_output(self.path))
            self._file = on_error.enter_context(self.path.open("a+b", buffering=0))
            self._reader = on_error.enter_context(self.path.open("rb"))
            self._end = remove_incomplete_line(self._file)
            if self._end and not resume:
                raise ValueError(f"{self.path} has answers already: name another output")
            answers = self.path if self._end else None
            check_settings(files_of(self.path).settings, settings, answers)
            self._positions = read_positions(self._reader, self.path)
            self._remove_failures()
            log = EventLog(files_of(self.path).events)
            self.events: EventLog = on_error.enter_context(log)
            renew_after_fork(self)
            self._resources = on_error.pop_all()
        # Called when the journal is closed, before its lock is released.
        self.at_end: Callable[[], None] | None = None

    @property
    def has_answers(self) -> bool:
        """Whether there is an answer in it, of this run or of an earlier one."""
        return self._end > 0

    def check_prompts(self, items: Iterable[Item]) -> None:
        """Compare the answers of earlier runs with all the prompts of this one.

        Raises:
            ValueError: there are answers to other prompts.
        """
        known = sum(self._position(item) is not None for item in items)
        if known < len(self._positions):
            raise ValueError(
                f"{self.path} has {len(self._positions) - known} answers to prompts that are not "
                "in the input. Name another output, or restore the input"
            )

    def earlier(self, item: Item) -> BatchResult | None:
        """The answer to this item from an earlier run, if there is one.

        Raises:
            ValueError: the answer with this id belongs to another prompt.
        """
        offset = self._position(item)
        if offset is None:
            return None
        self._reader.seek(offset)
        row = json.loads(self._reader.readline())
        text = row.get("text")
        if not isinstance(text, str):
            raise ValueError(f"{self.path} has no text for the custom_id {item.custom_id!r}")
        return BatchResult(
            item.custom_id,
            item.index,
            text,
            reused=True,
            time=seconds_of(row.get("time")),
            site=str(row.get("site", "")),
        )

    def _position(self, item: Item) -> int | None:
        position = self._positions.get(item.custom_id)
        if position is None:
            return None
        if position >> _OFFSET_BITS != int(item.digest(), 16):
            raise ValueError(
                f"the prompt with the custom_id {item.custom_id!r} (position {item.index}) has "
                f"changed since {self.path} got its answer: name another output, or restore the "
                "prompt"
            )
        return offset_in(position)

    def append(self, item: Item, result: BatchResult) -> None:
        """Write one result: an answer to the output, a failure to the file of failures.

        Raises:
            OSError: the disk is full or the file cannot be written; no incomplete line is left.
        """
        row = result.to_row()
        with self._lock:
            if result.error is None:
                custom_id = row.pop("custom_id")
                row = {"custom_id": custom_id, "prompt_digest": item.digest(), **row}
                self._end = write_line(self._file, row, self._end)
            else:
                if self._errors is None:
                    failures = self._failures.open("ab", buffering=0)
                    self._errors = self._resources.enter_context(failures)
                write_line(self._errors, row, os.fstat(self._errors.fileno()).st_size)
            self._dirty = True
        self.sync(every=SYNC_INTERVAL)

    def sync(self, every: float = 0.0) -> None:
        """Force what was written to the disk, at most once in ``every`` seconds."""
        with self._lock:
            now = time.monotonic()
            if self._dirty and now - self._synced >= every:
                for file in filter(None, (self._file, self._errors)):
                    os.fsync(file.fileno())
                self._dirty = False
                self._synced = now

    def close(self) -> None:
        """Force everything to the disk and release the lock; may be called again."""
        if self._file.closed:
            return
        try:
            self.sync()
            self._positions.clear()  # to have room for at_end
            if self.at_end is not None:
                self.at_end()
        finally:
            self._resources.close()

    def after_fork(self) -> None:
        # filelock itself closes the child's copy of the lock.
        self._file.close()
        self._reader.close()
        self.events.close()

    def _remove_failures(self) -> None:
        """Remove the failures of the last run, which are all retried; but not a foreign file."""
        check_start(self._failures, _FAILURE_START)
        self._failures.unlink(missing_ok=True)


# --- the lock ---------------------------------------------------------------------------------


def _lock_output(output: Path) -> FileLock:
    """Lock the output of a run; the system releases the lock if the process is killed.

    Raises:
        AIChatFreeError: another run has locked it.
    """
    from filelock import FileLock, Timeout  # here, because it takes 30 ms

    path = Path(os.path.realpath(output))  # the same lock file for every link to the output
    # Not bound to this thread: any thread may close the batch.
    lock = FileLock(path.with_name(f".{path.name}.lock"), thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise AIChatFreeError(
            f"Another run is writing to {output}: wait until it ends, or name another output."
        ) from error
    return lock


def _unlock_output(lock: FileLock) -> None:
    """Release a lock and remove its file.

    It is removed first, while it is still locked. Another run that has opened it by then does not
    get the lock, because filelock does not accept a file that was removed; and a run that begins
    later makes a new file. So two runs never hold different files.
    """
    with suppress(OSError):  # Windows: filelock removes it there
        os.unlink(lock.lock_file)
    lock.release()


# --- lines ------------------------------------------------------------------------------------


def read_positions(file: BinaryIO, path: Path) -> dict[str, int]:
    """For each id, the digest of its prompt (the upper bits) and the offset of its line."""
    positions: dict[str, int] = {}
    offset = 0
    file.seek(0)
    while block := file.read(_BLOCK_SIZE):
        block += file.readline()
        found = {
            match[1].decode(): int(match[2], 16) << _OFFSET_BITS | offset + match.start()
            for match in _LINE_START.finditer(block)
        }
        if len(found) != block.count(b"\n"):  # an id has an escape sequence, or a line is foreign
            found = _parse_positions(block, offset, len(positions), path)
        positions.update(found)
        offset += len(block)
    return positions


def offset_in(position: int) -> int:
    """The offset of a line in a value of :func:`read_positions`."""
    return position & ((1 << _OFFSET_BITS) - 1)


def _parse_positions(block: bytes, offset: int, lines_before: int, path: Path) -> dict[str, int]:
    positions: dict[str, int] = {}
    for number, line in enumerate(block.split(b"\n")[:-1], lines_before + 1):
        try:
            row = json.loads(line)
            digest = int(row["prompt_digest"], 16)
            positions[str(row["custom_id"])] = digest << _OFFSET_BITS | offset
            if not isinstance(row["custom_id"], str) or not isinstance(row["text"], str):
                raise TypeError
        except (ValueError, TypeError, KeyError):
            raise foreign_line(path, number) from None
        offset += len(line) + 1
    return positions


def foreign_line(path: Path, number: int) -> ValueError:
    """The error for a line of a file that is read as an output, but that no batch has written."""
    return ValueError(f"{path}, line {number}: not a line of a batch's output; name another file")
