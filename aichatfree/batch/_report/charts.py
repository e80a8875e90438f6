"""Charts as SVG, without a library: one time axis for all, and one unit each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

from ..._output.terminal import strip_control_characters

WIDTH: Final = 360
HEIGHT: Final = 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 352, 10, 148

Point = tuple[float, float]
"""Seconds since the start, and a value."""

_UNITS: Final = (
    ("s", 1.0, (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30)),
    ("min", 60.0, (1, 2, 5, 10, 15, 30)),
    ("h", 3600.0, (1, 2, 3, 6, 12)),
    ("d", 86400.0, (1, 2, 5, 10, 20, 50, 100)),
)
_STEPS: Final = [(n, unit, seconds) for unit, seconds, steps in _UNITS for n in steps]
"""Distances of the times that are labelled: a number, its unit, and the seconds of that."""


def safe_text(text: str) -> str:
    """Text from a site or a file as HTML that shows it."""
    return escape(strip_control_characters(text))


@dataclass(frozen=True)
class TimeAxis:
    """The time from left to right.

    Attributes:
        duration: seconds.
        breaks: where runs begin, except for the first.
    """

    duration: float
    breaks: Sequence[float] = ()

    def x(self, seconds: float) -> float:
        """The horizontal position of a time."""
        share = min(max(seconds / self.duration, 0.0), 1.0) if self.duration else 0.0
        return _LEFT + share * (_RIGHT - _LEFT)

    def ticks(self) -> list[tuple[float, str]]:
        """About five times with their labels."""
        fitting = (step for step in _STEPS if self.duration / (step[0] * step[2]) <= 5)
        step, unit, seconds = next(fitting, _STEPS[-1])
        count = int(self.duration / (step * seconds))
        return [
            (number * step * seconds, f"{number * step:g} {unit}" if number else "0")
            for number in range(count + 1)
        ]


@dataclass
class Chart:
    """A chart that is drawn mark by mark.

    Attributes:
        title: what it shows, with the unit.
        axis: its time axis.
        top: the largest value.
    """

    title: str
    axis: TimeAxis
    top: float
    _marks: list[str] = field(default_factory=list)
    _legend: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._step = _nice_step(self.top or 1.0)
        self._top = self._step * -(-(self.top or 1.0) // self._step)  # rounded up

    def _y(self, value: float) -> float:
        return _BOTTOM - min(value / self._top, 1.0) * (_BOTTOM - _TOP)

    def legend(self, colour: str, text: str) -> None:
        """Explain a colour."""
        self._legend.append((colour, text))

    def bar(self, begin: float, end: float, low: float, high: float, colour: str) -> None:
        """A bar from one value to another, in an interval of time."""
        if high > low:
            x, y = self.axis.x(begin), self._y(high)
            width = max(self.axis.x(end) - x - 0.4, 0.5)
            self._marks.append(
                f'<rect class="{colour}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                f'height="{self._y(low) - y:.1f}"/>'
            )

    def line(self, points: Iterable[Point], colour: str) -> None:
        """A line through these points."""
        path = [f"{self.axis.x(time):.1f},{self._y(value):.1f}" for time, value in points]
        if len(path) == 1:
            x, y = path[0].split(",")
            self._marks.append(f'<circle class="{colour}" cx="{x}" cy="{y}" r="2"/>')
        elif path:
            self._marks.append(f'<polyline class="{colour}" points="{" ".join(path)}"/>')

    def shade(self, begin: float, end: float) -> None:
        """An interval of time in grey, behind everything else."""
        x = self.axis.x(begin)
        width = max(self.axis.x(end) - x, 1.0)
        self._marks.insert(
            0,
            f'<rect class="shade" x="{x:.1f}" y="{_TOP}" width="{width:.1f}" '
            f'height="{_BOTTOM - _TOP}"/>',
        )

    def to_html(self) -> str:
        """The chart as a figure."""
        keys = "".join(
            f'<span><i class="{colour}"></i>{safe_text(text)}</span>'
            for colour, text in self._legend
        )
        title = safe_text(self.title)
        return (
            f"<figure><figcaption><b>{title}</b>{keys}</figcaption>"
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">'
            f"{self._grid()}{''.join(self._marks)}{self._time_ticks()}</svg></figure>"
        )

    def _grid(self) -> str:
        lines = []
        for number in range(round(self._top / self._step) + 1):
            value = number * self._step
            y = self._y(value)
            lines.append(
                f'<path class="grid" d="M{_LEFT} {y:.1f}H{_RIGHT}"/>'
                f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{value:,.10g}</text>'
            )
        return "".join(lines)

    def _time_ticks(self) -> str:
        marks = [
            f'<path class="break" d="M{self.axis.x(time):.1f} {_TOP}V{_BOTTOM}"/>'
            for time in self.axis.breaks
        ]
        for time, label in self.axis.ticks():
            x = self.axis.x(time)
            anchor = "end" if x > _RIGHT - 12 else "middle"
            marks.append(
                f'<path class="tick" d="M{x:.1f} {_BOTTOM}v4"/>'
                f'<text x="{x:.1f}" y="{_BOTTOM + 17}" text-anchor="{anchor}">{label}</text>'
            )
        return "".join(marks)


def _nice_step(top: float) -> float:
    """A distance of grid lines, of which two to five fit below the top."""
    step = 10.0**-6
    while True:
        for factor in (1, 2, 5):
            if top / (step * factor) <= 5:
                return step * factor
        step *= 10
