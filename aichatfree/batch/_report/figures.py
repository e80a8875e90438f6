"""The charts of a report."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final

from ..._protocol.durations import format_duration
from .charts import Chart, Point, TimeAxis
from .measurements import OTHER, Group, Measurements

_COLOURS: Final = ("c0", "c1", "c2", "c3", "c4", "c5")
_FAILED: Final = "failed"

Bins = list[tuple[float, float, Group]]


def draw_charts(found: Measurements) -> list[Chart]:
    """The charts for which there is something to show."""
    bins = found.timeline.bins()
    if not bins:
        return []
    runs = found.runs.all
    axis = TimeAxis(max(end for _, end, _ in bins), [run.offset for run in runs[1:]])
    colours = _colours(found)
    charts = [_throughput(bins, axis, colours), _times(bins, axis)]
    if found.events:
        charts += [_limits(found, axis, colours), _rejections(bins, axis, found.timeline.width)]
    return charts


def _colours(found: Measurements) -> dict[str, str]:
    """A colour for each site; those that answered least share the last one."""
    answered: Counter[str] = Counter()
    answered.update({site: group.answered.total() for site, group in found.sites.items()})
    sites = [site for site, _ in answered.most_common()]
    return {site: _COLOURS[min(n, len(_COLOURS) - 1)] for n, site in enumerate(sites)}


def _legend(chart: Chart, colours: dict[str, str]) -> None:
    for colour in dict.fromkeys(colours.values()):
        sites = [site for site, own in colours.items() if own == colour]
        name = sites[0].partition("://")[2] or sites[0] or OTHER
        chart.legend(colour, name if len(sites) == 1 else f"{len(sites)} other sites")


def _throughput(bins: Bins, axis: TimeAxis, colours: dict[str, str]) -> Chart:
    most = max(
        (group.answered.total() + group.failed) / (end - begin) for begin, end, group in bins
    )
    unit, length = next(
        (unit, length)
        for unit, length in (("second", 1), ("minute", 60), ("hour", 3600))
        if most * length >= 2 or unit == "hour"
    )
    chart = Chart(f"Prompts a {unit}", axis, most * length)
    for begin, end, group in bins:
        scale = length / (end - begin)
        parts = [(group.failed, _FAILED), *((n, colours[s]) for s, n in _by_site(group, colours))]
        tops = accumulate((count * scale for count, _ in parts), initial=0.0)
        for (low, high), (_, colour) in zip(pairwise(tops), parts, strict=True):
            chart.bar(begin, end, low, high, colour)
    if len(colours) > 1:
        _legend(chart, colours)
    else:
        chart.legend(_COLOURS[0], "answered")
    if any(group.failed for _, _, group in bins):
        chart.legend(_FAILED, "failed")
    return chart


def _by_site(group: Group, colours: dict[str, str]) -> list[tuple[str, int]]:
    """The answers by site, in the same order in each bar."""
    known: Counter[str] = Counter()
    for site, count in group.answered.items():
        known[site if site in colours else OTHER] += count
    return [(site, known[site]) for site in colours if known[site]]


def _times(bins: Bins, axis: TimeAxis) -> Chart:
    lines = [
        ("c1", "95 % need less", [(b, e, group.elapsed.quantile(0.95)) for b, e, group in bins]),
        ("c0", "median", [(b, e, group.elapsed.quantile(0.5)) for b, e, group in bins]),
        ("c2", "first chunk", [(b, e, group.first_chunk.quantile(0.5)) for b, e, group in bins]),
    ]
    values = [value for _, _, points in lines for *_, value in points if value is not None]
    chart = Chart("Time of a prompt, seconds", axis, max(values, default=1.0))
    for colour, name, points in lines:
        chart.legend(colour, name)
        line = [((begin + end) / 2, value) for begin, end, value in points if value is not None]
        for part in _split(line, axis.breaks):
            chart.line(part, colour)
    return chart


def _split(points: list[Point], breaks: Sequence[float]) -> Iterator[list[Point]]:
    """A line in parts, one for each run."""
    for begin, end in pairwise([0.0, *breaks, float("inf")]):
        part = [point for point in points if begin <= point[0] < end]
        if part:
            yield part


def _limits(found: Measurements, axis: TimeAxis, colours: dict[str, str]) -> Chart:
    events = [event for event in found.events if event.kind == "limit"]
    limits = [event.number("requests_per_minute") or 0.0 for event in events]
    sources = sorted({str(event.fields.get("source")) for event in events if limits})
    title = f"Rate limit ({', '.join(sources)}), requests a minute"
    chart = Chart(
        title if any(limits) else "Rate limit: none was met", axis, max(limits, default=1)
    )
    lines: dict[str, list[list[Point]]] = defaultdict(list)
    for event, limit in zip(events, limits, strict=True):
        _continue(lines[event.site], found.runs.position(event.time), limit)
    for site, parts in lines.items():
        _continue(parts, axis.duration, 0.0)
        for part in parts:
            chart.line(part, colours.get(site, _COLOURS[0]))
    _shade_outages(chart, found, axis)
    if len(lines) > 1:
        _legend(chart, {site: colour for site, colour in colours.items() if site in lines})
    return chart


def _continue(parts: list[list[Point]], time: float, limit: float) -> None:
    """Continue a stepped line up to a time at which the limit changes; 0 for no limit."""
    if parts and parts[-1]:
        parts[-1].append((time, parts[-1][-1][1]))
    if limit and parts and parts[-1]:
        parts[-1].append((time, limit))
    else:
        parts.append([(time, limit)] if limit else [])


def _shade_outages(chart: Chart, found: Measurements, axis: TimeAxis) -> None:
    begun: dict[str, float] = {}
    for event in found.events:
        if event.kind == "outage":
            begun.setdefault(event.site, found.runs.position(event.time))
        elif event.kind in ("outage_end", "end", "start"):
            ended = [event.site] if event.kind == "outage_end" else list(begun)
            for site in ended:
                if site in begun:
                    chart.shade(begun.pop(site), found.runs.position(event.time))
    for time in begun.values():
        chart.shade(time, axis.duration)
    if any(event.kind == "outage" for event in found.events):
        chart.legend("shade", "nothing accepted")


def _rejections(bins: Bins, axis: TimeAxis, width: float) -> Chart:
    rates = [(begin, end, group.rejected) for begin, end, group in bins]
    most = max(count for *_, count in rates)
    title = f"Rejected requests in {format_duration(width)}" if most else "Rejected requests: none"
    chart = Chart(title, axis, most)
    for begin, end, count in rates:
        chart.bar(begin, end, 0.0, count, _FAILED)
    return chart
