"""The report as an HTML page, and as the display of a notebook.

Messages and ids come from a site or from a file: they are always escaped, and in ``<code>``, where
notebooks look for no formulas. The page has no script, and its policy allows none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ..._protocol.durations import format_duration
from .._output_files import replacing
from .._table import journal_of
from .charts import Chart, safe_text
from .figures import draw_charts
from .measurements import Failures, Group, Measurements
from .runs import Run

_STYLE: Final = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")


class Report:
    """What happened in the runs of a batch: throughput, times, rate limits and failures.

    >>> from aichatfree.batch import Report
    >>> client.batch(["Name a river."], output="rivers.jsonl").run().complete
    True
    >>> print(Report("rivers.jsonl").write())
    rivers.report.html

    In a notebook it is shown as the value of a cell. It is made from the output and the files
    beside it, even while a run writes to them, and contains neither prompts nor answers.

    Args:
        output: the output of a batch.

    Raises:
        ValueError: the file is not the output of a batch.
        OSError: it cannot be read.
    """

    def __init__(self, output: str | os.PathLike[str]) -> None:
        self._output = Path(output)
        self._measurements = Measurements(journal_of(self._output))

    def write(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the report as one HTML file, which needs no other files.

        Args:
            path: of the HTML file; an existing file is replaced. By default it is beside the
                output, with the suffix ``.report.html``.

        Raises:
            ValueError: the path does not end with .html.
            OSError: the file cannot be written.
        """
        target = self._output.with_suffix(".report.html") if path is None else Path(path)
        if target.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"{target} must end with .html, the format of a report")
        with replacing(target) as new:
            new.write_text(self._page(), encoding="utf-8")
        return target

    def _page(self) -> str:
        title = safe_text(f"Report of {self._output.name}")
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{title}</title>"
            "<style>:root{color-scheme:light dark}body{margin:0}</style></head>"
            f"<body>{self._repr_html_()}</body></html>\n"
        )

    def _repr_html_(self) -> str:
        found = self._measurements
        charts = draw_charts(found)  # first, because it puts the runs one after the other
        return (
            f'<div class="aichatfree-report"><style>{_STYLE}</style>'
            f"<h1>Report of {_code(self._output.name)}</h1>"
            f"{_numbers(found)}{''.join(_notes(found))}"
            f'<div class="charts">{"".join(map(Chart.to_html, charts))}</div>'
            f"{_runs(found.runs.all)}{_sites(found.sites)}{_failures(found)}</div>"
        )

    def __repr__(self) -> str:
        total = self._measurements.total
        counts = f"{total.answered.total()} answered, {total.failed} failed"
        return f"<Report of {self._output.name!r}: {counts}>"


def _code(text: str) -> str:
    return f"<code>{safe_text(text)}</code>"


def _numbers(found: Measurements) -> str:
    """The most important numbers."""
    total = found.total
    answered = total.answered.total()
    lasted = sum(run.duration for run in found.runs.all)
    numbers = [("answered", f"{answered:,}"), ("failed", f"{total.failed:,}")]
    if lasted:
        timed = sum(run.answered for run in found.runs.all)
        numbers += [("duration", format_duration(lasted)), ("throughput", _rate(timed, lasted))]
    numbers += [("median time", _seconds(total.elapsed.quantile(0.5)))]
    numbers += [("median time to first chunk", _seconds(total.first_chunk.quantile(0.5)))]
    numbers += [("requests rejected", f"{total.rejected:,}")] if found.events else []
    return f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{n}</dd></div>' for name, n in numbers)}</dl>"


def _rate(count: float, seconds: float) -> str:
    """How many in a second, a minute or an hour."""
    for unit, length in (("second", 1), ("minute", 60), ("hour", 3600)):
        if count / seconds * length >= 1 or unit == "hour":
            return f"{count / seconds * length:,.3g} a {unit}"
    raise AssertionError


def _notes(found: Measurements) -> Iterator[str]:
    """What cannot be shown, and why."""
    rows = found.total.answered.total() + found.total.failed
    if found.without_time:
        share = "All" if found.without_time == rows else f"{found.without_time:,} of {rows:,}"
        yield (
            f"<p>{share} results are without a time, because an older version wrote them: they are "
            "not in the charts.</p>"
        )
    if not found.events:
        yield (
            "<p>There is no log of events beside the output: neither the runs nor the rate limits "
            "can be shown.</p>"
        )
    if len(found.runs.all) > 1:
        yield (
            "<p>In the charts, the runs follow each other without the breaks between them; a dashed"
            " line shows where a run begins.</p>"
        )


def _runs(runs: list[Run]) -> str:
    if not runs:
        return ""
    rows = [
        [
            f"{datetime.fromtimestamp(run.start, UTC):%Y-%m-%d %H:%M}",
            format_duration(run.duration),
            f"{run.answered:,}",
            _count(run, "reused"),
            _count(run, "failed"),
            _end_of(run, is_last=run is runs[-1]),
        ]
        for run in runs
    ]
    header = ("Began (UTC)", "Lasted", "Answered", "Reused", "Failed", "Ended")
    return f"<h2>Runs</h2>{_table(header, rows)}"


def _count(run: Run, name: str) -> str:
    value = None if run.counts is None else run.counts.get(name)
    return f"{value:,}" if isinstance(value, int) else "–"


def _end_of(run: Run, *, is_last: bool) -> str:
    if run.is_interrupted:
        return "interrupted"
    if run.counts is None:
        return "unknown: it may be running" if is_last else "unknown: killed, perhaps"
    return "complete" if run.counts.get("complete") else "stopped early"


def _sites(sites: dict[str, Group]) -> str:
    if len(sites) < 2:
        return ""
    rows = [
        [
            _code(url or "(not named)"),
            f"{group.answered.total():,}",
            f"{group.failed:,}",
            f"{group.rejected:,}",
            _seconds(group.first_chunk.quantile(0.5)),
            _seconds(group.elapsed.quantile(0.5)),
            _seconds(group.elapsed.quantile(0.95)),
        ]
        for url, group in sorted(sites.items(), key=lambda each: -each[1].answered.total())
    ]
    header = ("Site", "Answered", "Failed", "Rejections")
    times = ("First chunk, median", "Time, median", "Time, 95 %")
    return f"<h2>Sites</h2>{_table((*header, *times), rows)}"


def _failures(found: Measurements) -> str:
    if not found.failures:
        return ""
    kinds = sorted(found.failures.items(), key=lambda each: -each[1].count)
    items = "".join(
        f"<h3>{safe_text(kind)}{'' if status is None else safe_text(f', status {status}')}: "
        f"{failures.count:,}</h3>{_examples(failures)}"
        for (kind, status), failures in kinds
    )
    return f"<h2>Failures of the last run</h2>{items}"


def _examples(failures: Failures) -> str:
    return "".join(
        f"<p>Position {safe_text(str(each.index))}, id {_code(each.custom_id)}:</p>"
        f"<pre><code>{safe_text(each.message)}</code></pre>"
        for each in failures.examples
    )


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _seconds(seconds: float | None) -> str:
    return "–" if seconds is None else format_duration(seconds)
