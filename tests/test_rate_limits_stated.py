"""How the rate limiter uses what rejections state about the site's limits."""

from __future__ import annotations

import time

import pytest

from aichatfree import AIChatFreeError, RateLimitError, StatedLimits, Timeout
from aichatfree._call import Call
from aichatfree._prompt_rejections import PromptRejections
from aichatfree._rate_limiter import RateLimiter
from aichatfree.testing import Answer, FakeSite
from helpers import ClientFor, Clock


def waits(
    stated: StatedLimits, *, configured: float | None = None, again: bool = False
) -> list[float]:
    """Seconds before each of three requests after a rejection that states limits, or after two."""
    clock = Clock()
    limiter = RateLimiter(configured, clock=clock, wait=clock.wait)

    def send() -> int:
        return limiter.acquire(Call(Timeout()))

    error = RateLimitError("Too many.", limits=stated)
    limiter.record_rejection(send(), error, PromptRejections())
    if again:
        limiter.record_rejection(send(), error, PromptRejections())
    found = []
    for _ in range(3):
        before = clock.now
        send()
        found.append(clock.now - before)
    return found


def test_a_stated_limit_is_adopted_at_once() -> None:
    """After "3 per minute, again in 20 s" requests are sent every 20 seconds from then on."""
    found = waits(StatedLimits(wait=20.0, requests=3, period=60))
    assert found == pytest.approx([20.2] * 3, rel=0.01)


def test_a_stated_limit_without_a_wait_begins_with_the_next_period() -> None:
    """After "10 per minute" alone, the next request is sent when a minute has passed."""
    found = waits(StatedLimits(requests=10, period=60))
    assert found == pytest.approx([60, 6.06, 6.06], rel=0.01)


def test_a_lower_configured_limit_is_kept() -> None:
    """A stated limit above max_requests_per_minute does not raise the rate."""
    found = waits(StatedLimits(wait=1.0, requests=100, period=60), configured=6)
    assert found[1:] == pytest.approx([10.1] * 2, rel=0.01)


def test_a_rejection_below_the_stated_rate_reduces_it() -> None:
    """Rejections of requests that keep to the stated limit slow the client down."""
    found = waits(StatedLimits(wait=1.0, requests=60, period=60), again=True)
    assert found[0] > 1.5


def test_a_daily_limit_is_not_spread_over_the_day() -> None:
    """A stated number of requests per day does not delay the next request for minutes."""
    assert max(waits(StatedLimits(requests=20, period=86400))) < 1


def test_a_used_up_daily_quota_stops_a_batch_at_once(client_for: ClientFor) -> None:
    """A batch stops at the first rejection for a daily quota, and says when to run it again."""
    body = (
        '{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"Quota exceeded","details":'
        '[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier","quotaValue":"20"},'
        '{"retryDelay":"1s"}]}}'
    )
    with FakeSite([Answer(status=429, body=body)]) as site:
        started = time.monotonic()
        with pytest.raises(AIChatFreeError, match=r"Run it again after 20\d\d-.* UTC"):
            client_for(site.url).batch(["x"] * 100, max_workers=4).run()
        assert time.monotonic() - started < 5
        assert len(site.requests) <= 4


@pytest.mark.parametrize("status", [200, 429])
@pytest.mark.parametrize(
    "text",
    [
        "You exceeded your current quota for the day. Come back tomorrow.",
        "Quota for the day is used up.",
        "Daily limit reached.",
        "今日额度已用完，请明天再来。",
    ],
)
def test_a_limit_of_a_day_ends_a_batch_at_once(
    client_for: ClientFor, text: str, status: int
) -> None:
    """A batch stops within seconds if the site says in words that its limit of a day is reached."""
    started = time.monotonic()
    with FakeSite([Answer(text, status=status)]) as site:
        with pytest.raises(AIChatFreeError, match="quota"):
            client_for(site.url).batch(["x"] * 1000).run()
        assert len(site.requests) < 50
    assert time.monotonic() - started < 5


def test_a_rejection_that_only_says_today_is_not_of_a_day(client_for: ClientFor) -> None:
    """Advertising such as "upgrade today" in a rejection does not end a batch."""
    with FakeSite([Answer(status=429, body="Too many requests. Upgrade today!"), "fine"]) as site:
        assert client_for(site.url).batch(["x"] * 3).run().answered == 3
