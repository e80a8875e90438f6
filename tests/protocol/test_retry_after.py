"""How long to wait before a retry, as a response states it."""

from __future__ import annotations

import email.utils
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aichatfree._protocol.limits import retry_after

from .error_responses import RETRY_INFO, error_of, gemini, steady

DATE = datetime(2021, 10, 21, 7, 28, 0, tzinfo=UTC)


def http_date(after: float = 0) -> str:
    return email.utils.format_datetime(DATE + timedelta(seconds=after), usegmt=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0", 0), ("7", 7), (" 120 ", 120), ("1.5", 1.5), ("86400", 86400)],
)
def test_retry_after_seconds(value: str, expected: float) -> None:
    """A ``Retry-After`` that is a number is the wait in seconds."""
    assert retry_after({"Retry-After": value}) == expected


@pytest.mark.parametrize(("after", "expected"), [(90, 90), (0, 0), (-1, 0), (-(10**8), 0)])
def test_retry_after_date(after: float, expected: float) -> None:
    """A ``Retry-After`` that is a date counts from the response's Date; the past is 0."""
    assert retry_after({"Retry-After": http_date(after), "Date": http_date()}) == expected


@pytest.mark.parametrize(
    "value",
    [
        "Thu, 21 Oct 2021 07:29:30 GMT",
        "Thu, 21 Oct 2021 07:29:30 -0000",
        "Thu, 21 Oct 2021 09:29:30 +0200",
        "Thursday, 21-Oct-21 07:29:30 GMT",
        "Thu Oct 21 07:29:30 2021",
    ],
)
def test_retry_after_date_forms(value: str) -> None:
    """Every form of date that HTTP allows is read, as UTC if it has no time zone."""
    assert retry_after({"Retry-After": value, "Date": http_date()}) == 90


@pytest.mark.parametrize("date", [{}, {"Date": ""}, {"Date": "today"}], ids=repr)
def test_retry_after_date_without_date(
    date: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the response has no usable Date, a date counts from this machine's time."""

    monkeypatch.setattr("aichatfree._protocol.limits.time.time", DATE.timestamp)
    assert retry_after({"Retry-After": http_date(45), **date}) == 45


@pytest.mark.parametrize(
    ("delay", "expected"),
    [("27s", 27), ("1.5s", 1.5), ("0s", 0), ("0.000250s", 0.00025), ("800ms", 0.8), ("1m30s", 90)],
)
@pytest.mark.parametrize("wrap", ["plain", "escaped", "object"])
def test_retry_delay(delay: str, expected: float, wrap: str) -> None:
    """Gemini's ``retryDelay`` is found in JSON, and in JSON inside the text of a message."""
    info = RETRY_INFO % delay
    body = {
        "plain": f"Error: [429 Too Many Requests] {info}",
        "escaped": json.dumps(gemini(f"[429 Too Many Requests] {info}")),
        "object": json.dumps({"error": {"details": json.loads(info)}}, indent=2),
    }[wrap]
    assert retry_after({}, body) == expected


def test_retry_delay_beyond_the_quoted_text() -> None:
    """``retryDelay`` is found anywhere in a body of which the message quotes only the start."""
    error = error_of(500, gemini("[429 Too Many Requests] " + "x" * 5000 + RETRY_INFO % "27s"))
    assert error.retry_after == 27


def test_the_header_takes_precedence_over_the_body() -> None:
    """``Retry-After`` takes precedence over the body, unless it cannot be read."""
    body = RETRY_INFO % "27s"
    assert retry_after({"Retry-After": "3"}, body) == 3
    assert retry_after({"Retry-After": http_date(4), "Date": http_date()}, body) == 4
    assert retry_after({"Retry-After": "soon"}, body) == 27


@pytest.mark.parametrize(
    "value",
    [
        *["", " ", "soon", "-5", "1e3", "nan", "inf", "1,5", "5 seconds", "0x10", "1.2.3", "²"],
        *["Thu, 99 Oct 2021 07:28:00 GMT", "Thu, 21 Oct 99999 07:28:00 GMT", "21 Oct"],
        "9" * 400,
    ],
)
def test_retry_after_garbage(value: str) -> None:
    """A ``Retry-After`` that is neither a number nor a date is ignored."""
    assert retry_after({"Retry-After": value, "Date": http_date()}) is None


@pytest.mark.parametrize(
    "body",
    [
        "",
        "retryDelay",
        '"retryDelay":"27"',
        '"retryDelay":"-1s"',
        '"retryDelay":"s"',
        '"retryDelay":27',
        '"retryDelay":"' + "9" * 400 + 's"',
    ],
    ids=lambda body: body[:20],
)
def test_retry_delay_garbage(body: str) -> None:
    """A ``retryDelay`` that is not a duration in seconds is ignored."""
    assert retry_after({}, body) is None


date_like = st.lists(
    st.sampled_from(["Thu,", "21", "Oct", "2021", "07:28:00", "GMT", "+9999", "-0000", "99999"])
    | st.text(max_size=6),
    max_size=7,
).map(" ".join)


@steady
@given(date_like | st.text(max_size=30), date_like, st.text(max_size=30))
def test_retry_after_never_fails(value: str, date: str, body: str) -> None:
    """For any headers and body the wait is None, or finite and not negative."""
    wait = retry_after({"Retry-After": value, "Date": date}, body)
    assert wait is None or 0 <= wait < 1e12
