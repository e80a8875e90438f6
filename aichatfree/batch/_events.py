"""What happened during the runs of a batch: a compact log beside the journal, for reports.

Each line of ``<output>.events.jsonl`` has ``event`` and ``time`` (ISO 8601, UTC). The events are:

``start``
    A run begins; with the number of ``prompts``, if it is known.
``limit``
    The rate limit of a site has changed: ``requests_per_minute`` (``null`` for none) and its
    ``source``, ``configured``, ``stated`` or ``learned``.
``rejections``
    A site has rejected ``count`` requests since the last such line.
``outage``, ``outage_end``
    A site accepts nothing, and accepts requests again.
``exhausted``
    The quota of a site is used up.
``interrupted``
    Ctrl-C was pressed.
``end``
    A run ends; with its counts, and whether it was ``complete``.

``site`` is the base URL of the site. Prompts, answers and messages are never logged.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from .._rate_limiter import RateLimiter, RateStatus
from ._output_files import check_start, remove_incomplete_line, write_line
from ._results import utc

SAMPLE_INTERVAL: Final = 5.0
"""Seconds between two looks at the rate limits; rejections in between are counted in one line."""

MAX_SIZE: Final = 1 << 22
"""Bytes; at this size, the older half of the log is removed."""

_MIN_CHANGE: Final = 0.05
"""The part by which a rate limit must change to be logged again."""

_START: Final = b'{"event":'


class EventLog:
    """Appends events to a file, which is opened at the first one.

    A log that cannot be written must not stop a run, so such errors are ignored.

    Args:
        path: the file.

    Raises:
        ValueError: there is such a file, and it is not the log of a batch.
    """

    def __init__(self, path: Path) -> None:
        # Absolute, because it is opened later: the current directory may change.
        self._path = path.absolute()
        self._file: BinaryIO | None = None
        self._end = 0
        # Guards the file, because Ctrl-C and close() may come from different threads. It is held
        # while a line is written; nothing else may be done while holding it.
        self._lock = threading.Lock()
        check_start(path, _START)

    def add(self, event: str, **fields: Any) -> None:
        """Write an event, which happens now."""
        row = {"event": event, "time": utc(time.time()), **fields}
        try:
            with self._lock:
                if self._file is None:
                    self._file = self._path.open("a+b", buffering=0)
                    self._end = remove_incomplete_line(self._file)
                if self._end > MAX_SIZE:
                    self._remove_older_half(self._file)
                self._end = write_line(self._file, row, self._end)
        except OSError:
            pass

    def _remove_older_half(self, file: BinaryIO) -> None:
        file.seek(self._end // 2)
        file.readline()
        kept = file.read()
        new = self._path.with_suffix(".tmp")
        new.write_bytes(kept)
        os.replace(new, self._path)
        file.close()
        self._file = self._path.open("a+b", buffering=0)
        self._end = len(kept)

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RunEvents:
    """Logs the events of one run.

    Args:
        log: where they are written; ``None`` for a run without an output.
        rate_limiters: of each site, by its base URL.
    """

    def __init__(self, log: EventLog | None, rate_limiters: Mapping[str, RateLimiter]) -> None:
        self._log = log
        self._rate_limiters = {} if log is None else rate_limiters
        self._logged: dict[str, RateStatus] = {}
        self._looked_at: float | None = None  # from the start on

    def start(self, prompts: int | None) -> None:
        """The run begins, with so many prompts if that is known."""
        self._add("start", prompts=prompts)
        self._looked_at = time.monotonic()
        for site, rate_limiter in self._rate_limiters.items():
            # Earlier rejections are not of this run, but a limit that was learned before applies.
            rejections = rate_limiter.status.rejections
            self._logged[site] = RateStatus(None, "", rejections, False, False)

    def look(self, *, now: bool = False) -> None:
        """Log how the rate limits have changed, every ``SAMPLE_INTERVAL`` seconds or ``now``."""
        if self._looked_at is None:
            return
        if now or time.monotonic() - self._looked_at >= SAMPLE_INTERVAL:
            self._looked_at = time.monotonic()
            for site, rate_limiter in self._rate_limiters.items():
                self._logged[site] = self._compare(site, self._logged[site], rate_limiter.status)

    def interrupt(self) -> None:
        """Ctrl-C was pressed."""
        self._add("interrupted")

    def end(self, counts: Mapping[str, Any]) -> None:
        """The run, if it began, ends with these counts."""
        if self._looked_at is not None:
            self.look(now=True)
            self._add("end", **counts)

    def _add(self, event: str, **fields: Any) -> None:
        if self._log is not None:
            self._log.add(event, **fields)

    def _compare(self, site: str, before: RateStatus, status: RateStatus) -> RateStatus:
        """Log the changes; returns what is known from the log now."""
        if status.rejections > before.rejections:
            self._add("rejections", site=site, count=status.rejections - before.rejections)
        if status.is_outage != before.is_outage:
            self._add("outage" if status.is_outage else "outage_end", site=site)
        if status.is_exhausted and not before.is_exhausted:
            self._add("exhausted", site=site)
        old, new = before.requests_per_minute, status.requests_per_minute
        if old == new or (old and new and abs(new - old) < _MIN_CHANGE * old):
            return dataclasses.replace(status, requests_per_minute=old)
        rounded = None if new is None else round(new, 3)
        self._add("limit", site=site, requests_per_minute=rounded, source=status.source)
        return status
