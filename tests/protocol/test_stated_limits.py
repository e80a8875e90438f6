"""What error responses say about waits and limits."""

from __future__ import annotations

import pickle

import pytest
from requests.structures import CaseInsensitiveDict

from aichatfree import RateLimitError
from aichatfree._protocol.limits import stated_limits
from aichatfree.errors import StatedLimits, error_from_dict

NOW = 1_764_100_000.0


@pytest.mark.parametrize(
    ("body", "wait"),
    [
        ("Please retry in 41.5s.", 41.5),
        ("Please try again in 1m30s.", 90),
        ("Please retry after 6 seconds.", 6),
        ("Retry in 2 hours", 7200),
        ("Try again in 1,000 seconds", 1000),
        ("Повторите через 1,5 минуты", 90),
        ("请在20秒后重试", 20),
        ("請求過多，請 5 分鐘後再試", 300),
        ("Повторите через 2 минуты", 120),
        ("Versuchen Sie es in 30 Sekunden erneut", 30),
        ("Inténtelo de nuevo en 2 minutos", 120),
        ("The limit is 60 requests in 1 minute; it failed after 3 seconds", None),
        ("Please try again later", None),
    ],
)
def test_wait_in_words(body: str, wait: float | None) -> None:
    """A duration beside words for trying again is the wait."""
    assert stated_limits({}, body, now=NOW).wait == wait


@pytest.mark.parametrize(
    ("body", "hours"),
    [
        ("Please retry after 2025-11-25T20:46:40Z", 1),
        ("Please retry after 2025-11-25T20:46:40.000+01:00", None),  # it has passed
        ("Backend unavailable, timestamp 2025-11-25T23:46:40Z", None),
        ("resets at 2025-11-25 20:46 utc", 0.99),
        ("It resets at 29:59 UTC", None),
        ("每日 0 次", None),
        ("Your quota resets at 20:46 UTC.", 0.99),
        ("The limit resets at midnight UTC", 4.22),
        ("Come back at 9 pm GMT", 1.22),
        ("Resets daily at 08:00 (UTC+8).", 4.22),
        ("Сайт закрыт до 23:00 МСК", 0.22),
        ("额度已用完，明天 0 点自动恢复", 20.22),
        ("次日零点刷新", 20.22),
        ("翌日0時にリセットされます", 19.22),
        ("Retry after 2025-99-99T00:00:00Z", None),
        ("It resets at 8 am", None),
        ("明天0.5元", None),
    ],
)
def test_point_in_time_in_words(body: str, hours: float | None) -> None:
    """A time of a zone that is named, or that the language implies, says how long to wait."""
    limits = stated_limits({}, body, now=NOW)
    assert limits.wait == (hours if hours is None else pytest.approx(hours * 3600, abs=60))
    later = limits.wait is not None and limits.wait > 3600
    assert limits.exhausted_until == (NOW + limits.wait if later and limits.wait else None)


@pytest.mark.parametrize(
    ("body", "requests", "period"),
    [
        ("on requests per min (RPM): Limit 3, Used 3, Requested 1.", 3, 60),
        ("on requests per day (RPD): Limit 200, Used 200, Requested 1.", 200, 86400),
        ("Limit: 3 / min. Please try again in 20s.", 3, 60),
        ("on tokens per min (TPM): Limit 40000, Used 39900, Requested 200.", None, None),
        ("at most 10 requests per minute", 10, 60),
        ("每分钟最多 5 次", 5, 60),
        ("не более 10 запросов в минуту", 10, 60),
        ("höchstens 10 Anfragen pro Minute", 10, 60),
        ("free_tier_requests, limit: 10, model: gemini-3-flash", 10, 60),
        ("free_tier_requests, limit: 500, model: gemini-3-flash", 500, 86400),
        ("paid_tier_requests, limit: 1000, model: gemini-3-flash", 1000, None),
    ],
)
def test_limit_in_words(body: str, requests: float | None, period: float | None) -> None:
    """A number of requests for a period is the limit; one of tokens is not."""
    limits = stated_limits({}, body, now=NOW)
    assert (limits.requests, limits.period) == (requests, period)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after-ms": "1500"}, (1.5, None, None)),
        ({"retry-after-ms": "1500", "Retry-After": "9"}, (1.5, None, None)),
        (
            {"RateLimit": '"burst";r=0;t=50', "RateLimit-Policy": '"burst";q=10;w=60'},
            (50, 10, 60),
        ),
        (
            {
                "RateLimit": '"day";r=90;t=5000, "burst";r=0;t=50',
                "RateLimit-Policy": '"day";q=1000;w=86400,"burst";q=10;w=60',
            },
            (50, 10, 60),
        ),
        (
            {"RateLimit": "limit=10, remaining=0, reset=50", "RateLimit-Policy": "10;w=60"},
            (50, 10, 60),
        ),
        ({"RateLimit-Limit": "10, 10;w=60", "RateLimit-Reset": "50"}, (50, 10, 60)),
        ({"RateLimit-Remaining": "3", "RateLimit-Reset": "50"}, (None, None, None)),
        ({"X-RateLimit-Reset": str(int(NOW) + 12)}, (12, None, None)),
        ({"x-ratelimit-reset-requests": "20s"}, (None, None, None)),
    ],
)
def test_headers(headers: dict[str, str], expected: tuple[float | None, ...]) -> None:
    """The headers of proxies and gateways state a wait and a limit, the time until full is none."""
    limits = stated_limits(CaseInsensitiveDict(headers), now=NOW)
    assert (limits.wait, limits.requests, limits.period) == expected


def test_a_daily_quota_is_exhausted_until_midnight() -> None:
    """A daily quota of Google is exhausted until midnight, whatever wait is stated with it."""
    body = '"quotaId":"GenerateRequestsPerDay-FreeTier","quotaValue":"20"},{"retryDelay":"1s"}'
    limits = stated_limits({"Retry-After": "1"}, body, now=NOW)
    assert limits.exhausted_until == 1_764_144_000
    assert limits.wait == 1_764_144_000 - NOW


def test_a_free_tier_of_hundreds_is_a_daily_quota() -> None:
    """Google's message without its details means the day if no free tier has so many a minute."""
    body = "free_tier_requests, limit: 500, model: gemini-3-flash\\nPlease retry in 41.5s."
    assert stated_limits({}, body, now=NOW).exhausted_until == 1_764_144_000
    body = body.replace("500", "10")
    assert stated_limits({}, body, now=NOW) == StatedLimits(41.5, 10, 60)


def test_limits_survive_the_way_to_another_process() -> None:
    """An error keeps its limits as a pickle and as plain data."""
    error = RateLimitError("Wait.", limits=StatedLimits(wait=20, requests=3, period=60))
    assert error.retry_after == 20
    for copy in (pickle.loads(pickle.dumps(error)), error_from_dict(error.to_dict())):
        assert isinstance(copy, RateLimitError)
        assert copy.limits == error.limits
        assert copy.retry_after == 20
