"""Durations and points in time, as servers write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichatfree._protocol.durations import next_pacific_midnight, parse_duration

from .bodies import steady


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("41.528185s", 41.528185),
        ("800ms", 0.8),
        ("6ms", 0.006),
        ("20s", 20),
        ("20 sec", 20),
        ("1m30s", 90),
        ("7m12s", 432),
        ("1h2m3.5s", 3723.5),
        ("2 hours", 7200),
        ("1 hour and 5 minutes", 3900),
        ("1 day", 86400),
        ("30秒", 30),
        ("5 分钟", 300),
        ("2個小時", 7200),
        ("2 минуты", 120),
        ("1 минуту 30 секунд", 90),
        ("1,5 Sekunden", 1.5),
        ("3 Stunden", 10800),
        ("2 minutos", 120),
        ("2 heures", 7200),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    """A duration is the sum of its parts, in any of several languages."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "27", "s", "-1s", "1.2.3s", "20 files", "soon", "9" * 99 + "s"]
)
def test_not_a_duration(text: str) -> None:
    """A text that is not a number and a unit is not a duration."""
    assert parse_duration(text) is None


@steady
@given(
    st.text(max_size=30) | st.from_regex(r"\d{1,9}(\.\d{1,6})?(ms|s|m|h|d|秒|분)", fullmatch=True)
)
def test_any_text_is_a_duration_or_not(text: str) -> None:
    """Any text is None, or a number of seconds that is not negative."""
    seconds = parse_duration(text)
    assert seconds is None or 0 <= seconds < 1e15


@pytest.mark.parametrize(
    ("now", "midnight"),
    [
        ("2025-11-25T20:00", "2025-11-26T08:00"),
        ("2025-11-26T07:59", "2025-11-26T08:00"),
        ("2025-11-26T08:00", "2025-11-27T08:00"),
        ("2025-07-01T12:00", "2025-07-02T07:00"),
        ("2025-03-09T09:00", "2025-03-10T07:00"),  # the day on which the clocks go forward
        ("2025-11-02T08:00", "2025-11-03T08:00"),  # the day on which they go back
        ("2024-12-31T23:00", "2025-01-01T08:00"),
    ],
)
def test_midnight_in_pacific_time(now: str, midnight: str) -> None:
    """The next day begins at 8:00 UTC in winter and at 7:00 UTC in summer."""
    seconds = datetime.fromisoformat(now).replace(tzinfo=UTC).timestamp()
    found = datetime.fromtimestamp(next_pacific_midnight(seconds), UTC)
    assert found.isoformat()[:16] == midnight
