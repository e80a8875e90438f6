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

A site is named in ``site`` if there are several. Prompts, answers and messages are never logged.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, Self

from .._rate_limiter import RateStatus
from ._appending import remove_incomplete_line, write_line
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
        if path.exists():
            with path.open("rb") as file:
                start = file.read(len(_START))
            if not _START.startswith(start):
                raise ValueError(
                    f"{path} is not from a batch: name another output, or move it away"
                )

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


class Limited(Protocol):
    """A rate limiter, as far as it is watched."""

    def statuses(self) -> Mapping[str, RateStatus]:
        """The present rate limit of each site; one without a name if there is only one."""
        ...


class LimitWatcher:
    """Logs how the rate limits change during a run.

    Args:
        log: where changes are written.
        rate_limiter: looked at when :meth:`look` is called, but not more often than every
            ``SAMPLE_INTERVAL`` seconds.
    """

    def __init__(self, log: EventLog, rate_limiter: Limited) -> None:
        self._log = log
        self._rate_limiter = rate_limiter
        self._looked_at = time.monotonic()
        # Rejections before this run are not its own; its limit may have been learned before.
        self._before = {
            site: RateStatus(None, "", status.rejections, False, False)
            for site, status in rate_limiter.statuses().items()
        }

    def look(self, *, now: bool = False) -> None:
        """Log what has changed, if the last look is long enough ago or ``now`` is set."""
        if not now and time.monotonic() - self._looked_at < SAMPLE_INTERVAL:
            return
        self._looked_at = time.monotonic()
        for site, status in self._rate_limiter.statuses().items():
            before = self._before.get(site, RateStatus(None, "", 0, False, False))
            self._before[site] = self._compare({"site": site} if site else {}, before, status)

    def _compare(self, of: dict[str, str], before: RateStatus, status: RateStatus) -> RateStatus:
        """Log the changes; returns what was logged last."""
        if status.rejections > before.rejections:
            self._log.add("rejections", **of, count=status.rejections - before.rejections)
        if status.is_outage != before.is_outage:
            self._log.add("outage" if status.is_outage else "outage_end", **of)
        if status.is_exhausted and not before.is_exhausted:
            self._log.add("exhausted", **of)
        old, new = before.requests_per_minute, status.requests_per_minute
        if old == new or (old and new and abs(new - old) < _MIN_CHANGE * old):
            return status._replace(requests_per_minute=old)
        rounded = None if new is None else round(new, 3)
        self._log.add("limit", **of, requests_per_minute=rounded, source=status.source)
        return status
