"""The log of events of a batch, and the report that is made from it and from the journal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from aichatfree.batch import Report
from aichatfree.batch import _events as events_module
from aichatfree.batch._events import EventLog
from aichatfree.testing import Answer, FakeSite, Request
from helpers import ClientFor, echo

from .journals import rows_of

START = 1_795_000_000  # seconds since 1970: 2026-11-18 11:06:40 UTC
Script = Answer | Callable[[Request], str]

HOSTILE = "<script>alert(1)</script> \" ' & $x$ \x1b[31m \u202e"


def time(seconds: float) -> str:
    """A time within the hour that begins at START."""
    return f"2026-11-18T11:{6 + int(seconds + 40) // 60:02}:{(seconds + 40) % 60:06.3f}Z"


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def answer(index: int, **fields: Any) -> dict[str, Any]:
    row = {"custom_id": str(index), "prompt_digest": f"{index:016x}", "index": index, "text": "yes"}
    return {**row, "attempts": 1, "elapsed": 0.5, **fields}


def failure(index: int, message: str, kind: str = "ServerError") -> dict[str, Any]:
    error = {"type": kind, "message": message, "status_code": 502}
    row = {"custom_id": message, "index": index, "error": error, "partial_text": ""}
    return {**row, "attempts": 1, "elapsed": 0.5, "time": time(2)}


def html_of(path: Path) -> str:
    return Report(path).write().read_text(encoding="utf-8")


class Tags(HTMLParser):
    """The names of all elements and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names |= {tag, *(name for name, _ in attrs)}


# --- the log of events ------------------------------------------------------------------------


def test_a_run_logs_its_start_its_limits_and_its_end(client_for: ClientFor, tmp_path: Path) -> None:
    """Rejections are counted, and a limit that the site states is logged with its source."""
    states = {"Retry-After": "0", "X-RateLimit-Limit": "6000;w=60"}
    script: list[Script] = [
        echo,
        Answer(status=429, body="Too many requests", headers=states),
        echo,
    ]
    with FakeSite(script) as site:
        client_for(site.url).batch(
            ["a", "b", "c"], output=tmp_path / "a.jsonl", max_workers=1
        ).run()
        events = rows_of(tmp_path / "a.events.jsonl")
        assert [event["event"] for event in events][:: len(events) - 1] == ["start", "end"]
        assert events[0]["prompts"] == 3
        assert events[-1]["answered"] == 3
        assert events[-1]["complete"] is True
        (rejections,) = [event for event in events if event["event"] == "rejections"]
        assert rejections["count"] == 1
        assert [event["source"] for event in events if event["event"] == "limit"]


def test_a_log_has_no_prompts_answers_or_messages(client_for: ClientFor, tmp_path: Path) -> None:
    """Neither a prompt nor what the site says about it is written to the log."""

    def refuse(request: Request) -> Answer:
        return Answer(status=400, body=f"I do not like {request.text}")

    with FakeSite([echo, refuse]) as site:
        client_for(site.url).batch(["secret", "secret"], output=tmp_path / "a.jsonl").run()
    assert "secret" not in (tmp_path / "a.events.jsonl").read_text()


def test_a_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the log is full, its older half is removed, and the rest are complete lines."""
    monkeypatch.setattr(events_module, "MAX_SIZE", 1000)
    path = tmp_path / "a.events.jsonl"
    with EventLog(path) as log:
        for number in range(100):
            log.add("limit", requests_per_minute=number)
    assert path.stat().st_size < 1200
    assert rows_of(path)[-1]["requests_per_minute"] == 99


def test_an_incomplete_line_of_a_log_is_removed(tmp_path: Path) -> None:
    """What a killed run left of its last line does not spoil the next line."""
    path = tmp_path / "a.events.jsonl"
    path.write_text('{"event":"start","time":"x"}\n{"event":"en')
    with EventLog(path) as log:
        log.add("start")
    assert [row["event"] for row in rows_of(path)] == ["start", "start"]


def test_a_log_that_cannot_be_written_stops_no_run(tmp_path: Path) -> None:
    """Events are lost if their file cannot be opened, but there is no error."""
    path = tmp_path / "a.events.jsonl"
    with EventLog(path) as log:
        path.mkdir()
        log.add("start")


def test_a_foreign_log_is_refused(client_for: ClientFor, tmp_path: Path) -> None:
    """A file with the name of the log that is something else is not touched."""
    path = tmp_path / "a.events.jsonl"
    path.write_text("mine\n")
    with pytest.raises(ValueError, match="not from a batch"):
        client_for("http://127.0.0.1:1").batch(["a"], output=tmp_path / "a.jsonl")
    assert path.read_text() == "mine\n"


# --- the report -------------------------------------------------------------------------------


def test_a_report_shows_runs_without_the_break_between_them(tmp_path: Path) -> None:
    """Two runs of two seconds with a pause of 100 s between them make charts of 4 s."""
    path = tmp_path / "a.jsonl"
    write(path, [answer(n, time=time(n if n < 2 else 100 + n)) for n in range(4)])
    write(
        tmp_path / "a.events.jsonl",
        [
            {"event": "start", "time": time(0)},
            {"event": "interrupted", "time": time(2)},
            {"event": "start", "time": time(102)},
            {"event": "end", "time": time(104), "failed": 0, "reused": 2, "complete": True},
        ],
    )
    page = html_of(path)
    assert "4 s</dd>" in page
    assert page.count('class="break"') == 4  # one in each chart
    assert re.search("interrupted</td>.*complete</td>", page)


def test_a_report_of_rows_without_times_says_so(tmp_path: Path) -> None:
    """Rows of an older version are counted, and the report says what it cannot show."""
    path = tmp_path / "a.jsonl"
    write(path, [answer(n) for n in range(3)])
    page = html_of(path)
    assert "All results are without a time" in page
    assert "There is no log of events" in page
    assert "<svg" not in page
    assert "3</dd>" in page


def test_nothing_in_a_report_can_act(tmp_path: Path) -> None:
    """Ids, sites and messages with HTML and control characters are shown as text."""
    path = tmp_path / "a.jsonl"
    write(path, [answer(0, time=time(1), site=HOSTILE), answer(1, time=time(1), site="http://b")])
    write(tmp_path / "a.errors.jsonl", [failure(2, HOSTILE, kind=HOSTILE)])
    event = {"event": "limit", "requests_per_minute": 60, "source": HOSTILE, "site": HOSTILE}
    write(tmp_path / "a.events.jsonl", [{**event, "time": time(1)}])
    page = html_of(path)
    assert "&lt;script&gt;alert(1)" in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    names = Tags(page).names
    assert not {"script", "img", "iframe", "a", "link", "href", "src"} & names
    assert not [name for name in names if name.startswith("on")]
    assert "default-src 'none'" in page


def test_failures_are_shown_by_kind_with_different_examples(tmp_path: Path) -> None:
    """Each kind has its count and up to three messages that differ, with position and id."""
    path = tmp_path / "a.jsonl"
    write(path, [])
    messages = ["first", "first", "second", "third", "fourth"]
    write(tmp_path / "a.errors.jsonl", [failure(n, m) for n, m in enumerate(messages)])
    page = html_of(path)
    assert "ServerError, status 502: 5" in page
    assert re.findall("<pre><code>(.*?)</code>", page) == ["first", "second", "third"]
    assert "Position 3, id <code>third</code>" in page


def test_the_size_of_a_report_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """A report of 20,000 rows and 2,000 failures of many kinds is small."""
    path = tmp_path / "a.jsonl"
    write(path, [answer(n, time=time(n / 20), site=f"http://{n}") for n in range(20_000)])
    failures = [failure(n, f"message {n}" * 100, kind=f"Kind{n}") for n in range(2000)]
    write(tmp_path / "a.errors.jsonl", failures)
    assert len(html_of(path)) < 300_000


def test_a_report_of_an_empty_output_is_possible(tmp_path: Path) -> None:
    """A run that was killed before its first answer has a report too."""
    path = tmp_path / "a.jsonl"
    write(path, [])
    write(tmp_path / "a.events.jsonl", [{"event": "start", "time": time(0)}])
    assert "unknown: it may be running" in html_of(path)


def test_a_report_of_a_table_is_made_from_its_journal(
    client_for: ClientFor, tmp_path: Path
) -> None:
    """The name of a table stands for the journal beside it."""
    with FakeSite([echo]) as site:
        client_for(site.url).batch(["a"], output=tmp_path / "a.csv").run()
    assert Report(tmp_path / "a.csv").write() == tmp_path / "a.report.html"


@pytest.mark.parametrize("line", ["no JSON", "[]", '{"text": "a"}'])
def test_a_file_that_is_not_a_journal_has_no_report(tmp_path: Path, line: str) -> None:
    """The error names the file and the line."""
    (tmp_path / "a.jsonl").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1"):
        Report(tmp_path / "a.jsonl")
