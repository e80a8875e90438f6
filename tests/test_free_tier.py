"""A batch at a site with a free tier: 10 requests a minute and 500 a day, on a simulated clock."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable

import pytest

from aichatfree import AIChatFreeError, APIError, Site
from aichatfree._protocol.responses import error_from_response
from aichatfree.testing import Answer, FakeSite, Request
from helpers import ClientFor, echo
from simulated_batch import SimulatedBatch

THREADS = 16
PER_MINUTE = 10
PER_DAY = 500
MINUTE = 60.0
DAY = 86400.0
Body = Callable[[float, int, float], tuple[int, str]]
"""Makes the status and the body of a rejection from its wait, the limit and its period."""


def google(wait: float, limit: int, period: float) -> tuple[int, str]:
    """The error of a GeminiProChat: the message up to the first link."""
    return 500, (
        '{"error":{"code":"Error","message":"[GoogleGenerativeAI Error]: Error fetching from  [429 '
        "Too Many Requests] You exceeded your current quota, please check your plan and billing "
        "details. \\n* Quota exceeded for metric: generativelanguage.googleapis.com/"
        f"generate_content_free_tier_requests, limit: {limit}, model: gemini-3-flash\\nPlease "
        f"retry in {wait:.9f}s. "
        '[{\\"@type\\":\\"type.googleapis.com/google.rpc.Help\\",\\"links\\":[{\\"description\\":'
        '\\"Learn more about Gemini API quotas\\",\\"url\\":\\""}}'
    )


def google_in_full(wait: float, limit: int, period: float) -> tuple[int, str]:
    """The same where Google's details survive."""
    name = "Day" if period == DAY else "Minute"
    wait = 1.0 if period == DAY else wait
    return 429, (
        '{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"Quota exceeded","details":'
        f'[{{"quotaId":"GenerateRequestsPer{name}PerProjectPerModel-FreeTier","quotaValue":'
        f'"{limit}"}},{{"retryDelay":"{math.ceil(wait)}s"}}]}}}}'
    )


def openai(wait: float, limit: int, period: float) -> tuple[int, str]:
    """The error of a chatgpt-demo: OpenAI's body."""
    name = "day (RPD)" if period == DAY else "min (RPM)"
    return 429, (
        '{"error":{"message":"Rate limit reached for gpt-4o-mini in organization org-x on requests '
        f"per {name}: Limit {limit}, Used {limit}, Requested 1. Please try again in "
        f'{int(wait // 3600)}h{int(wait % 3600 // 60)}m{wait % 60:.3f}s.","type":"requests",'
        '"param":null,"code":"rate_limit_exceeded"}}'
    )


class FreeTier:
    """A site that counts the requests of the last minute and of the last day."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.accepted: list[float] = []
        self.rejected: list[float] = []

    def receive(self, now: float) -> APIError | None:
        for period, limit in ((DAY, PER_DAY), (MINUTE, PER_MINUTE)):
            recent = self.accepted[-limit:]
            if len(recent) == limit and recent[0] > now - period:
                self.rejected.append(now)
                status, text = self.body(recent[0] + period - now, limit, period)
                return error_from_response(status, {}, text.encode(), Site("http://site"))
        self.accepted.append(now)
        return None


@pytest.mark.parametrize("body", [google, google_in_full, openai])
def test_ten_minutes(body: Body) -> None:
    """In ten minutes at least 95 % of a stated limit are used, with at most three rejections."""
    site = FreeTier(body)
    SimulatedBatch(site, THREADS).run(600)
    assert len(site.accepted) >= 0.95 * 10 * PER_MINUTE
    assert len(site.rejected) <= 3


@pytest.mark.parametrize("body", [google, google_in_full, openai])
def test_the_end_of_the_day(body: Body) -> None:
    """When the day's quota is used up, the batch is told within five seconds, with the time."""
    site = FreeTier(body)
    batch = SimulatedBatch(site, THREADS)
    batch.run(2 * 3600)
    assert len(site.accepted) == PER_DAY
    assert batch.limiter.exhausted is not None
    assert "Run it again after" in batch.limiter.exhausted
    first = next(moment for moment in site.rejected if moment > site.accepted[-1])
    assert batch.stopped - first < 5


def test_a_true_limit_is_doubted_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A little more than the stated limit is tried now and then: six rejections in two hours."""
    monkeypatch.setitem(globals(), "PER_DAY", 100_000)
    site = FreeTier(openai)
    SimulatedBatch(site, THREADS).run(2 * 3600)
    assert len(site.accepted) >= 0.95 * 2 * 60 * PER_MINUTE
    assert len(site.rejected) <= 6


class WrongOnce(FreeTier):
    """A site that states a limit in its first rejection, and then has none."""

    def receive(self, now: float) -> APIError | None:
        if not self.rejected:
            return super().receive(now)
        self.accepted.append(now)
        return None


def test_a_limit_that_is_stated_wrongly_is_dropped() -> None:
    """Within half an hour a client exceeds a limit that the site stated but does not enforce."""
    site = WrongOnce(openai)
    SimulatedBatch(site, THREADS).run(1800)
    assert len(site.accepted) >= 10 * 30 * PER_MINUTE


@pytest.mark.parametrize("body", [google, google_in_full, openai])
def test_a_batch_stops_at_the_end_of_the_day(client_for: ClientFor, body: Body) -> None:
    """A batch whose quota is used up half-way keeps its answers and says when to run it again."""
    numbers = itertools.count(1)

    def answer(request: Request) -> Answer:
        if next(numbers) <= 40:
            return Answer(echo(request))
        status, text = body(DAY / 2, PER_DAY, DAY)
        return Answer(status=status, body=text)

    with FakeSite(answer) as site:
        batch = client_for(site.url).batch([str(i) for i in range(1000)], ordered=False)
        started = time.monotonic()
        with pytest.raises(AIChatFreeError, match=r"Run it again after 20\d\d-.* UTC"):
            batch.run()
        assert time.monotonic() - started < 5
        assert batch.summary.answered == 40
        assert len(site.requests) <= 40 + THREADS
