"""The runs that a journal consists of, from its log of events."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .._results import seconds_of
from .._run_settings import stable_name

MAX_RUNS: Final = 50
"""Older runs are shown as one."""


@dataclass(frozen=True)
class Event:
    """A line of the log of events.

    Attributes:
        kind: what happened.
        time: when, in seconds since 1970.
        fields: the rest of the line.
    """

    kind: str
    time: float
    fields: Mapping[str, Any]

    @property
    def site(self) -> str:
        """The site's name; empty if it has none."""
        return stable_name(str(self.fields.get("site") or ""))

    def number(self, name: str) -> float | None:
        """A field, if it is a number."""
        value = self.fields.get(name)
        return float(value) if isinstance(value, (int, float)) else None


@dataclass
class Run:
    """One run.

    Attributes:
        start: when it began, in seconds since 1970.
        end: the last time at which something is known of it.
        answered: answers in the journal.
        counts: the fields of the event at its end; ``None`` if it has none.
        is_interrupted: whether Ctrl-C was pressed.
        offset: seconds that the runs before it took together.
    """

    start: float
    end: float
    answered: int = 0
    counts: Mapping[str, Any] | None = None
    is_interrupted: bool = False
    offset: float = 0.0

    @property
    def duration(self) -> float:
        """Seconds."""
        return max(self.end - self.start, 0.0)


class Runs:
    """The runs of a journal, and the time that passed during them.

    Args:
        events: the log, in order; empty if there is none.
    """

    def __init__(self, events: list[Event]) -> None:
        starts = sorted(event.time for event in events if event.kind == "start")[-MAX_RUNS:]
        self.all = [Run(start, start) for start in starts]
        self._starts = starts
        self._has_older = False  # whether there is a run that is not in the log
        for event in events:
            self.note(event.time)
            if event.kind == "interrupted":
                self.at(event.time).is_interrupted = True
            elif event.kind == "end":
                self.at(event.time).counts = event.fields

    def at(self, time: float) -> Run:
        """The run of this time; what is older than the log belongs to a run before all others."""
        place = bisect_right(self._starts, time) - 1
        if place < 0 and not self._has_older:
            self._has_older = True
            self.all.insert(0, Run(time, time))
            self._starts.insert(0, time)
        return self.all[max(place, 0)]

    def note(self, time: float) -> Run:
        """Something happened at this time; returns its run."""
        run = self.at(time)
        run.end = max(run.end, time)
        return run

    def lay_out(self) -> float:
        """Put the runs one after the other, without the breaks; returns how long they took."""
        offset = 0.0
        for run in self.all:
            run.offset = offset
            offset += run.duration
        return offset

    def position(self, time: float) -> float:
        """Seconds from the start of the first run, without the breaks between runs."""
        run = self.at(time)
        return run.offset + min(max(time - run.start, 0.0), run.duration)


def read_events(path: Path) -> list[Event]:
    """The events of a log; none if it does not exist. Incomplete lines are left out."""
    return list(_events_in(path)) if path.exists() else []


def _events_in(path: Path) -> Iterator[Event]:
    with path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
                kind, time = row["event"], seconds_of(row["time"])
            except (ValueError, TypeError, KeyError):
                continue
            if time:
                yield Event(str(kind), time, row)
