"""What a report shows, measured in one pass over the journal with bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .._journal import files_of
from .._journal_rows import rows_of
from .._results import seconds_of
from .._run_settings import stable_name
from .runs import Event, Runs, read_events

MAX_BINS: Final = 60
"""Intervals of time in a chart, at most."""

_FIRST_WIDTH: Final = 1 / 16  # seconds of a bin; it doubles when there are too many
_ROWS_IN_BIN: Final = 5  # on average, so that a chart is not all noise
_MAX_KINDS: Final = 30
_MAX_SITES: Final = 100
_MAX_EXAMPLES: Final = 3
_MAX_MESSAGE: Final = 400  # characters
OTHER: Final = "other"


class Histogram:
    """Durations in classes that are 5 % wide, so that quantiles need little memory."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, seconds: object) -> None:
        """Count a duration; anything that is not a number of seconds is ignored."""
        if isinstance(seconds, (int, float)) and 0 <= seconds < math.inf:
            self._counts[round(math.log(max(seconds, 0.001), 1.05))] += 1

    def update(self, other: Histogram) -> None:
        """Add all durations of another histogram."""
        self._counts.update(other._counts)

    def quantile(self, share: float) -> float | None:
        """The seconds below which this share is; ``None`` without durations."""
        left = share * self._counts.total()
        for number in sorted(self._counts):
            left -= self._counts[number]
            if left <= 0:
                return float(1.05**number)
        return None


@dataclass
class Group:
    """Results that belong together: those of an interval of time, of a site, or all.

    Attributes:
        answered: answers by the base URL of their site.
        failed: how many failed.
        rejected: requests that were rejected.
        elapsed: seconds of each answer.
        first_chunk: seconds to the first chunk of each answer.
    """

    answered: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    rejected: int = 0
    elapsed: Histogram = field(default_factory=Histogram)
    first_chunk: Histogram = field(default_factory=Histogram)

    def add(self, row: Mapping[str, Any], site: str) -> None:
        """Count a row of the journal."""
        if "error" in row:
            self.failed += 1
            return
        self.answered[site] += 1
        if row.get("attempts"):  # otherwise it was sent for an identical prompt
            self.elapsed.add(row.get("elapsed"))
            self.first_chunk.add(row.get("time_to_first_chunk"))

    def update(self, other: Group) -> None:
        """Add all results of another group."""
        self.answered.update(other.answered)
        self.failed += other.failed
        self.rejected += other.rejected
        self.elapsed.update(other.elapsed)
        self.first_chunk.update(other.first_chunk)


class Timeline:
    """Groups for short intervals of each run. Their number is bounded: they grow when needed."""

    def __init__(self, runs: Runs) -> None:
        self.width: float = _FIRST_WIDTH  # seconds
        self._runs = runs
        self._bins: dict[tuple[float, int], Group] = {}  # by the run's start and a number
        self._rows = 0

    def at(self, time: float) -> Group:
        """The group of this time."""
        run = self._runs.note(time)
        key = (run.start, int(max(time - run.start, 0.0) / self.width))
        if key not in self._bins and len(self._bins) >= 4 * MAX_BINS:
            self._double()
            return self.at(time)
        self._rows += 1
        return self._bins.setdefault(key, Group())

    def _double(self) -> None:
        self.width *= 2
        bins, self._bins = self._bins, {}
        for (start, number), group in bins.items():
            self._bins.setdefault((start, number // 2), Group()).update(group)

    def bins(self) -> list[tuple[float, float, Group]]:
        """Begin and end of each interval that has results, and these, in order of time."""
        duration = self._runs.lay_out()
        enough = self._rows / _ROWS_IN_BIN
        while duration > self.width and (
            duration / self.width > MAX_BINS or len(self._bins) > max(MAX_BINS / 4, enough)
        ):
            self._double()
        found: list[tuple[float, float, Group]] = []
        for (start, number), group in sorted(self._bins.items(), key=lambda each: each[0]):
            run = self._runs.at(start)
            begin = run.offset + number * self.width
            end = min(begin + self.width, run.offset + run.duration)
            if end - begin < self.width / 2:  # the end of a run: it has too few for a rate
                if number and found and found[-1][1] == begin:
                    begin, _, before = found.pop()
                    group.update(before)
                else:
                    end = begin + self.width / 2
            found.append((begin, end, group))
        return found


@dataclass(frozen=True)
class Example:
    """A failure.

    Attributes:
        custom_id: the prompt's id.
        index: its position in the input.
        message: the error's message, shortened.
    """

    custom_id: str
    index: object
    message: str


@dataclass
class Failures:
    """Failures of one kind, with some examples that differ."""

    count: int = 0
    examples: list[Example] = field(default_factory=list)

    def add(self, row: Mapping[str, Any], message: str) -> None:
        """Count a failed row."""
        self.count += 1
        message = message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}…"
        known = {example.message for example in self.examples}
        if len(self.examples) < _MAX_EXAMPLES and message not in known:
            custom_id = str(row.get("custom_id"))[:100]
            self.examples.append(Example(custom_id, row.get("index"), message))


class Measurements:
    """Everything that a report shows.

    Args:
        journal: the path of its answers.

    Raises:
        ValueError: it is not a journal.
        OSError: it cannot be read.
    """

    def __init__(self, journal: Path) -> None:
        files = files_of(journal)
        self.events: list[Event] = read_events(files.events)
        self.runs = Runs(self.events)
        self.timeline = Timeline(self.runs)
        self.total = Group()
        self.sites: dict[str, Group] = {}
        self.failures: dict[tuple[str, object], Failures] = {}  # by type and status code
        self.without_time: int = 0
        for path in (files.answers, files.failures):
            if path == files.answers or path.exists():
                with path.open("rb") as file:
                    for _, row in rows_of(file):
                        self._add(row)
        for event in self.events:
            if event.kind == "rejections":
                count = int(event.number("count") or 0)
                for group in (self.total, self._site(event.site), self.timeline.at(event.time)):
                    group.rejected += count

    def _site(self, url: str) -> Group:
        if url not in self.sites and len(self.sites) >= _MAX_SITES:
            url = OTHER
        return self.sites.setdefault(url, Group())

    def _add(self, row: Mapping[str, Any]) -> None:
        site = stable_name(str(row.get("site") or ""))
        self.total.add(row, site)
        self._site(site).add(row, site)
        time = seconds_of(row.get("time"))
        if time:
            self.timeline.at(time).add(row, site)
            self.runs.at(time).answered += "error" not in row
        else:
            self.without_time += 1
        if "error" in row:
            self._add_failure(row)

    def _add_failure(self, row: Mapping[str, Any]) -> None:
        error = row["error"] if isinstance(row["error"], Mapping) else {}
        kind: tuple[str, object] = (str(error.get("type"))[:100], error.get("status_code"))
        if kind not in self.failures and len(self.failures) >= _MAX_KINDS:
            kind = (OTHER, None)
        self.failures.setdefault(kind, Failures()).add(row, str(error.get("message")))
